"""Exercise 11.4: the residual addition and the norm behind it, in one kernel."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs
from lnorm.checks.fused_kernels.kernel import SIZES, explain_moved, norm_inputs, norm_of_row, rows
from lnorm.checks.fused_kernels.memory import Memory, peak_memory, plain

ARRAYS = ("x", "residual", "y", "total")


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 1)
    n, d = SIZES[level]

    def case(tests: str, asks: str, n: int = n, d: int = d, eps: float = 1e-12) -> Case:
        inputs = norm_inputs(rng, rows(rng, n, d), eps)
        return Case(tests, {**inputs, "residual": 2 * rows(rng, n, d), "asks": asks})

    return [
        case("y", "y"),
        case("y", "y", 1, 3),
        case("y", "y", eps=5.0),
        case("total", "total"),
        *(case("x and residual are read from memory once", f"traffic of {name}", 2 * n) for name in ("x", "residual")),
        *(case("y and total are written once and not read", f"traffic of {name}", 2 * n) for name in ("y", "total")),
        case("makes no array as large as x", "memory", 25 * n, 32),
        case("leaves its inputs alone", "inputs"),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    asks, gamma, beta = inputs["asks"], inputs["gamma"].copy(), inputs["beta"].copy()

    def call(rows: slice) -> dict[str, Memory]:
        empty = np.full_like(inputs["x"], np.nan)
        memory = {name: Memory(inputs.get(name, empty)[rows]) for name in ARRAYS}
        x, residual, y, total = memory.values()
        with peak_memory(asks == "memory") as peak:
            plain(answer)(x, residual, gamma, beta, inputs["eps"], y, total)
        peaks.append(peak())
        return memory

    peaks: list[int] = []
    if asks == "memory":
        call(slice(2))  # the first call allocates for itself
    memory = call(slice(None))
    if asks == "memory":
        filled = np.isfinite([memory["y"].values(), memory["total"].values()]).all()
        return {"memory": np.array([filled, peaks[-1] > inputs["x"].nbytes / 2])}
    if asks.startswith("traffic of "):
        return {asks: memory[asks.removeprefix("traffic of ")].moved()}
    if asks == "inputs":
        after = {f"{name} after the call": memory[name].values() for name in ("x", "residual")}
        return {"y": memory["y"].values(), **after, "gamma after the call": gamma, "beta after the call": beta}
    return {asks: memory[asks].values()}


def _kernel(normalized: Any = norm_of_row, of: Any = np.add, kept: Any = np.add) -> Answer:
    """Return the kernel with this norm of a row, of this function of x and residual, and this one in total."""

    def fused_add_layer_norm(x: Any, residual: Any, gamma: Any, beta: Any, eps: float, y: Any, total: Any) -> None:
        for i in range(x.shape[0]):
            a, r = x[i], residual[i]
            y[i] = normalized(of(a, r), gamma, beta, eps)
            if kept is not None:
                total[i] = kept(a, r)

    return fused_add_layer_norm


def _two_kernels(x: Any, residual: Any, gamma: Any, beta: Any, eps: float, y: Any, total: Any) -> None:
    for i in range(x.shape[0]):
        total[i] = x[i] + residual[i]
    for i in range(x.shape[0]):
        y[i] = norm_of_row(total[i], gamma, beta, eps)


def _added_twice(x: Any, residual: Any, gamma: Any, beta: Any, eps: float, y: Any, total: Any) -> None:
    for i in range(x.shape[0]):
        y[i] = norm_of_row(x[i] + residual[i], gamma, beta, eps)
    for i in range(x.shape[0]):
        total[i] = x[i] + residual[i]


def _into_residual(x: Any, residual: Any, gamma: Any, beta: Any, eps: float, y: Any, total: Any) -> None:
    for i in range(x.shape[0]):
        residual[i] = residual[i] + x[i]
        total[i] = residual[i]
        y[i] = norm_of_row(residual[i], gamma, beta, eps)


def _by_columns(x: Any, residual: Any, gamma: Any, beta: Any, eps: float, y: Any, total: Any) -> None:
    n, d = x.shape
    for j in range(d):
        for i in range(n):
            total[i, j] = x[i, j] + residual[i, j]
    for i in range(n):
        y[i] = norm_of_row(total[i], gamma, beta, eps)


def _sums_kept(x: Any, residual: Any, gamma: Any, beta: Any, eps: float, y: Any, total: Any) -> None:
    sums = [x[i] + residual[i] for i in range(x.shape[0])]
    for i, each in enumerate(sums):
        total[i], y[i] = each, norm_of_row(each, gamma, beta, eps)


def _swapped(x: Any, residual: Any, gamma: Any, beta: Any, eps: float, y: Any, total: Any) -> None:
    _kernel()(x, residual, gamma, beta, eps, total, y)


def _norm_in_total(x: Any, residual: Any, gamma: Any, beta: Any, eps: float, y: Any, total: Any) -> None:
    for i in range(x.shape[0]):
        y[i] = norm_of_row(x[i] + residual[i], gamma, beta, eps)
        total[i] = y[i]


def _post_norm(x: Any, residual: Any, gamma: Any, beta: Any, eps: float, y: Any, total: Any) -> None:
    for i in range(x.shape[0]):
        y[i] = norm_of_row(x[i] + residual[i], gamma, beta, eps)
        total[i] = residual[i] + y[i]


def _norm_before_adding(x: Any, residual: Any, gamma: Any, beta: Any, eps: float, y: Any, total: Any) -> None:
    for i in range(x.shape[0]):
        a, r = x[i], residual[i]
        y[i], total[i] = norm_of_row(a, gamma, beta, eps) + r, a + r


FUSED_ADD_LAYER_NORM = Exercise(
    name="fused_add_layer_norm",
    signature="fused_add_layer_norm(x, residual, gamma, beta, eps, y, total)",
    properties={
        "y": 2,
        "total": 2,
        "x and residual are read from memory once": 2,
        "y and total are written once and not read": 2,
        "makes no array as large as x": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_kernel(),
    explain=explain_moved,
    forbids=("lnorm.reference.layer_norm", "lnorm.kernels.add_layer_norm", "torch.nn.functional.layer_norm"),
    mistakes={
        "only y filled, and the new residual lost": _kernel(kept=None),
        "the old residual in total": _kernel(kept=lambda a, r: r),
        "x alone in total": _kernel(kept=lambda a, r: a),
        "the normalized sum in total: this residual stream would be normalized in every block": _norm_in_total,
        "y instead of x added to the residual": _post_norm,
        "x normalized without the residual": _kernel(of=lambda a, r: a),
        "x normalized first and added afterwards": _norm_before_adding,
        "the residual subtracted": _kernel(of=np.subtract, kept=np.subtract),
        "y and total swapped": _swapped,
        "two kernels: total is written, and read back for the norm": _two_kernels,
        "the sum computed a second time for total: x and residual are read twice": _added_twice,
        "the sum made column by column": _by_columns,
        "all sums kept until the end": _sums_kept,
        "residual overwritten with the sum": _into_residual,
        "eps left out": _kernel(lambda row, gamma, beta, eps: norm_of_row(row, gamma, beta, 0.0)),
        "gamma and beta forgotten": _kernel(lambda row, gamma, beta, eps: norm_of_row(row, 1.0, 0.0, eps)),
        "variance divided by D − 1 instead of D": _kernel(
            lambda row, gamma, beta, eps: (row - row.mean()) / np.sqrt(row.var(ddof=1) + eps) * gamma + beta
        ),
        "the mean is not subtracted (this is RMSNorm)": _kernel(
            lambda row, gamma, beta, eps: row / np.sqrt(np.mean(row**2) + eps) * gamma + beta
        ),
    },
)
