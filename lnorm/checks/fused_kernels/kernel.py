"""Exercise 11.3: LayerNorm as one kernel that reads every row once and writes it once."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs
from lnorm.checks.fused_kernels.memory import Memory, peak_memory, plain

SIZES = {"visible": (3, 5), "graded": (4, 7)}


def rows(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Return rows that differ in mean and in scale."""
    return rng.uniform(0.3, 3.0, size=(n, 1)) * rng.normal(size=(n, d)) + rng.normal(scale=2.0, size=(n, 1))


def norm_inputs(rng: np.random.Generator, x: np.ndarray, eps: float = 1e-12) -> dict[str, Any]:
    """Return x with gamma and beta far from 1 and 0."""
    shape = (x.shape[1],)
    gamma = rng.uniform(0.5, 2.0, size=shape) * rng.choice([-1.0, 1.0], size=shape)
    beta = rng.normal(scale=2.0, size=shape)
    return {"x": x, "gamma": gamma.astype(x.dtype), "beta": beta.astype(x.dtype), "eps": eps}


def norm_of_row(row: np.ndarray, gamma: Any, beta: Any, eps: float) -> np.ndarray:
    """Return the LayerNorm of one row."""
    centred = row - row.mean()
    return centred / np.sqrt(np.mean(centred**2) + eps) * gamma + beta


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed)
    n, d = SIZES[level]
    wide = rows(rng, n, d)
    far = norm_inputs(rng, (1e4 + rng.normal(size=(5, 64))).astype(np.float32), 1e-5)
    return [
        Case("values", {**norm_inputs(rng, wide), "asks": "y"}),
        Case("values", {**norm_inputs(rng, rows(rng, 1, 2)), "asks": "y"}),
        Case("values", {**norm_inputs(rng, 0.3 * wide, eps=0.1), "asks": "y"}),
        # The mean of 64 numbers near 10,000, summed in order in float32, is off by up to a hundredth.
        Case("rows far from zero in float32", {**far, "asks": "y"}, tolerance=2e-2),
        Case("x is read from memory once", {**norm_inputs(rng, rows(rng, 2 * n, d)), "asks": "traffic of x"}),
        Case("y is written once and not read", {**norm_inputs(rng, rows(rng, 2 * n, d)), "asks": "traffic of y"}),
        Case("makes no array as large as x", {**norm_inputs(rng, rows(rng, 25 * n, 32)), "asks": "memory"}),
        Case("leaves its inputs alone", {**norm_inputs(rng, wide), "asks": "inputs"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    x, y = Memory(inputs["x"]), Memory(np.full_like(inputs["x"], np.nan))
    gamma, beta, eps, kernel = inputs["gamma"].copy(), inputs["beta"].copy(), inputs["eps"], plain(answer)
    if inputs["asks"] == "memory":
        kernel(
            Memory(inputs["x"][:2]), gamma, beta, eps, Memory(inputs["x"][:2])
        )  # the first call allocates for itself
    with peak_memory(inputs["asks"] == "memory") as peak:
        kernel(x, gamma, beta, eps, y)
    if inputs["asks"] == "memory":
        return {"memory": np.array([np.isfinite(y.values()).all(), peak() > inputs["x"].nbytes / 2])}
    if inputs["asks"] in ("traffic of x", "traffic of y"):
        return {inputs["asks"]: (x if inputs["asks"].endswith("x") else y).moved()}
    after = {"x after the call": x.values(), "gamma after the call": gamma, "beta after the call": beta}
    return {"y": y.values()} | (after if inputs["asks"] == "inputs" else {})


def explain_moved(case: Case, outputs: Outputs) -> str:
    """Say in words what was moved or allocated."""
    for name, came in outputs.items():
        if name.startswith("traffic of "):
            what = name.removeprefix("traffic of ")
            return f"{what} was loaded {came[0]:.4g} times and stored {came[1]:.4g} times, where 1 is all of it"
        if name == "memory" and came[1]:
            return "more than half the size of x was allocated at one time"
    return ""


def _kernel(normalized: Any = norm_of_row, last: int = 0) -> Answer:
    """Return the kernel with this function of a row, without the last rows."""

    def fused_layer_norm(x: Any, gamma: Any, beta: Any, eps: float, y: Any) -> None:
        for i in range(x.shape[0] - last):
            y[i] = normalized(x[i], gamma, beta, eps)

    return fused_layer_norm


def _by_columns(x: Any, gamma: Any, beta: Any, eps: float, y: Any) -> None:
    n, d = x.shape
    mean, square = np.zeros(n), np.zeros(n)
    for j in range(d):
        for i in range(n):
            mean[i] += x[i, j] / d
    for j in range(d):
        for i in range(n):
            square[i] += (x[i, j] - mean[i]) ** 2 / d
    for j in range(d):
        for i in range(n):
            y[i, j] = (x[i, j] - mean[i]) / np.sqrt(square[i] + eps) * gamma[j] + beta[j]


def _three_passes(x: Any, gamma: Any, beta: Any, eps: float, y: Any) -> None:
    n = x.shape[0]
    mean = [x[i].mean() for i in range(n)]
    var = [np.mean((x[i] - mean[i]) ** 2) for i in range(n)]
    for i in range(n):
        y[i] = (x[i] - mean[i]) / np.sqrt(var[i] + eps) * gamma + beta


def _gain_in_a_second_kernel(x: Any, gamma: Any, beta: Any, eps: float, y: Any) -> None:
    for i in range(x.shape[0]):
        y[i] = norm_of_row(x[i], 1.0, 0.0, eps)
    for i in range(x.shape[0]):
        y[i] = y[i] * gamma + beta


def _written_twice(x: Any, gamma: Any, beta: Any, eps: float, y: Any) -> None:
    for _ in range(2):
        for i in range(x.shape[0]):
            y[i] = norm_of_row(x[i], gamma, beta, eps)


def _copies_x(x: Any, gamma: Any, beta: Any, eps: float, y: Any) -> None:
    kept = np.stack([x[i] for i in range(x.shape[0])])
    for i, row in enumerate(kept):
        y[i] = norm_of_row(row, gamma, beta, eps)


def _one_for_all(x: Any, gamma: Any, beta: Any, eps: float, y: Any) -> None:
    kept = np.stack([x[i] for i in range(x.shape[0])])
    for i, row in enumerate(kept):
        y[i] = (row - kept.mean()) / np.sqrt(kept.var() + eps) * gamma + beta


def _in_place(x: Any, gamma: Any, beta: Any, eps: float, y: Any) -> None:
    for i in range(x.shape[0]):
        x[i] = x[i] - x[i].mean()
        y[i] = x[i] / np.sqrt(np.mean(x[i] ** 2) + eps) * gamma + beta


def _returns_it(x: Any, gamma: Any, beta: Any, eps: float, y: Any) -> Any:
    return np.stack([norm_of_row(x[i], gamma, beta, eps) for i in range(x.shape[0])])


def _one_pass(row: Any, gamma: Any, beta: Any, eps: float) -> Any:
    var = np.mean(row * row) - row.mean() ** 2  # counter-example: this cancels
    return (row - row.mean()) / np.sqrt(var + row.dtype.type(eps)) * gamma + beta


FUSED_LAYER_NORM = Exercise(
    name="fused_layer_norm",
    signature="fused_layer_norm(x, gamma, beta, eps, y)",
    properties={
        "values": 3,
        "rows far from zero in float32": 1,
        "x is read from memory once": 2,
        "y is written once and not read": 2,
        "makes no array as large as x": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_kernel(),
    explain=explain_moved,
    forbids=("lnorm.reference.layer_norm", "lnorm.kernels.layer_norm", "torch.nn.functional.layer_norm"),
    mistakes={
        "down the columns instead of along the rows: every row is loaded again for each of its numbers": _by_columns,
        "first all means, then all variances, then all outputs: x is read three times": _three_passes,
        "gain and bias in a second kernel, which reads y back": _gain_in_a_second_kernel,
        "everything done twice": _written_twice,
        "all of x copied before it is used": _copies_x,
        "one mean and one variance for all rows": _one_for_all,
        "x used as scratch space": _in_place,
        "the result returned, and y left as it was": _returns_it,
        "the last row left out": _kernel(last=1),
        "E[x²] − E[x]² as the variance": _kernel(_one_pass),
        "eps added to the standard deviation, outside the square root": _kernel(
            lambda row, gamma, beta, eps: (row - row.mean()) / (row.std() + eps) * gamma + beta
        ),
        "eps left out": _kernel(lambda row, gamma, beta, eps: norm_of_row(row, gamma, beta, 0.0)),
        "variance divided by D − 1 instead of D": _kernel(
            lambda row, gamma, beta, eps: (row - row.mean()) / np.sqrt(row.var(ddof=1) + eps) * gamma + beta
        ),
        "the mean is not subtracted (this is RMSNorm)": _kernel(
            lambda row, gamma, beta, eps: row / np.sqrt(np.mean(row**2) + eps) * gamma + beta
        ),
        "gamma forgotten": _kernel(lambda row, gamma, beta, eps: norm_of_row(row, 1.0, beta, eps)),
        "beta forgotten": _kernel(lambda row, gamma, beta, eps: norm_of_row(row, gamma, 0.0, eps)),
    },
)
