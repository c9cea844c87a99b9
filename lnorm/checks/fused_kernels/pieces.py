"""Exercise 11.5: the gradients of gain and bias, summed in pieces by any number of threads."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, arrays
from lnorm.checks.outputs import difference

MOST = 64
Task = Callable[[int], None]


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed)
    n, d = (101, 5) if level == "visible" else (1031, 9)

    def case(tests: str, n: int, dtype: Any = np.float64, asks: str = "sums", tolerance: float = 1e-9) -> Case:
        dy, x_hat = rng.uniform(0.5, 1.5, size=(n, d)).astype(dtype), rng.normal(loc=1.0, size=(n, d)).astype(dtype)
        order = int(rng.integers(2**31))
        return Case(tests, {"dy": dy, "x_hat": x_hat, "order": order, "asks": asks}, tolerance)

    return [
        *(case(name, n, asks=name) for name in ("dgamma", "dbeta")),
        case("any number of rows", n + 1),
        case("any number of rows", 3 * n - 2),
        *(case("any number of rows", few) for few in (1, 2, 3, 17)),
        case("2 to 64 pieces, whatever the number of rows", 2 * n, asks="pieces"),
        case("2 to 64 pieces, whatever the number of rows", 5 * n, asks="pieces"),
        case("the same bits in any order", n, np.float32, "order", 1e-5),
        # Sums of 3000 numbers in float32 are right to about 1e-6, products in float16 to about 1e-5.
        case("sums of 16-bit numbers in more than 16 bits", 3000, np.float16, tolerance=3e-6),
        case("leaves its inputs alone", n, asks="inputs"),
    ]


class _Threads:
    """Runs tasks in a random order, as threads would finish them, and remembers how many there were."""

    def __init__(self, seed: int) -> None:
        self._rng, self.pieces = np.random.default_rng(seed), 0

    def run(self, task: Task, pieces: int) -> None:
        self.pieces = max(self.pieces, int(pieces))
        for k in self._rng.permutation(int(pieces)):
            task(int(k))


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    dy, x_hat, asks = inputs["dy"].copy(), inputs["x_hat"].copy(), inputs["asks"]
    threads = _Threads(inputs["order"])
    out = arrays(("dgamma", "dbeta"), answer(dy, x_hat, threads.run))
    if asks == "pieces":
        return {"pieces": np.array(threads.pieces)}
    if asks == "order":
        again = arrays(("dgamma", "dbeta"), answer(dy, x_hat, _Threads(inputs["order"] + 1).run))
        pairs = [(out[name], again[name]) for name in out]
        return {
            "changed": np.array(sum(int(np.sum(a != b)) for a, b in pairs)),
            "pieces": np.array(threads.pieces),
            **out,
        }
    if asks == "inputs":
        return {**out, "dy after the call": dy, "x_hat after the call": x_hat}
    return {asks: out[asks]} if asks in out else out


def _verify(case: Case, outputs: Outputs) -> str:
    dy, x_hat = case.inputs["dy"], case.inputs["x_hat"]
    if case.inputs["asks"] in ("pieces", "order") and not 2 <= (pieces := int(outputs["pieces"])) <= MOST:
        return f"{pieces} pieces were run, expected 2 to {MOST}" if pieces else "`run` was not called"
    if case.inputs["asks"] == "order" and outputs["changed"]:
        return f"{int(outputs['changed'])} sums changed when the pieces were done in another order"
    right = {"dgamma": np.sum(dy * x_hat.astype(float), axis=0), "dbeta": np.sum(dy, axis=0, dtype=float)}
    right |= {"dy after the call": dy, "x_hat after the call": x_hat}
    return difference({name: right[name] for name in outputs if name in right}, outputs, case.tolerance)


def _sums(
    *,
    pieces: Any = lambda n: 16,
    bounds: Any = lambda n, pieces, k: (k * n // pieces, (k + 1) * n // pieces),
    products: Any = lambda dy, x_hat: dy.astype(_wide(dy)) * x_hat,
    mean: bool = False,
    dtype: Any = None,
    shared: bool = False,
    appended: bool = False,
    slots: Any = lambda k, pieces: k,
    overwrite: bool = False,
) -> Answer:
    """Return sums made of these parts; by default the right ones."""

    def gain_gradients(dy: Any, x_hat: Any, run: Any) -> Any:
        n, d = dy.shape
        count = pieces(n)
        partial = np.zeros((1 if shared else count, 2, d), dtype or _wide(dy))
        finished: list[Any] = []

        def task(k: int) -> None:
            part = slice(*bounds(n, count, k))
            both = products(dy[part], x_hat[part]), dy[part]
            sums = np.stack([each.sum(axis=0, dtype=partial.dtype) for each in both])
            if appended:
                finished.append(sums)
            elif overwrite:
                partial[slots(k, count)] = sums
            else:
                partial[0 if shared else slots(k, count)] += sums

        run(task, count)
        total = partial.sum(axis=0) if not appended else sum(finished)
        return tuple(total / n if mean else total)

    return gain_gradients


def _wide(dy: Any) -> Any:
    return np.float32 if dy.dtype == np.float16 else dy.dtype


def _chunks(n: int, pieces: int, k: int) -> tuple[int, int]:
    return k * (n // pieces), (k + 1) * (n // pieces)


def _without_threads(dy: Any, x_hat: Any, run: Any) -> Any:
    wide = dy.astype(_wide(dy))
    return (wide * x_hat).sum(0), wide.sum(0)


def _swapped(dy: Any, x_hat: Any, run: Any) -> Any:
    return _sums()(dy, x_hat, run)[::-1]


def _in_place(dy: Any, x_hat: Any, run: Any) -> Any:
    result = _sums()(dy, x_hat, run)
    x_hat *= dy
    return result


GAIN_GRADIENTS = Exercise(
    name="gain_gradients",
    signature="gain_gradients(dy, x_hat, run)",
    properties={
        "dgamma": 1,
        "dbeta": 1,
        "any number of rows": 2,
        "2 to 64 pieces, whatever the number of rows": 1,
        "the same bits in any order": 2,
        "sums of 16-bit numbers in more than 16 bits": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_sums(),
    verify=_verify,
    mistakes={
        "pieces of n // pieces rows: those at the end are lost": _sums(bounds=_chunks),
        "the last piece left out": _sums(
            pieces=lambda n: 16, bounds=lambda n, p, k: (k * n // (p + 1), (k + 1) * n // (p + 1))
        ),
        "the last row of each piece left out": _sums(
            bounds=lambda n, p, k: (k * n // p, max((k + 1) * n // p - 1, k * n // p))
        ),
        "a row counted twice where two pieces meet": _sums(bounds=lambda n, p, k: (k * n // p, (k + 1) * n // p + 1)),
        "a partial sum for every row": _sums(pieces=lambda n: n),
        "a partial sum for every eight rows, however many there are": _sums(
            pieces=lambda n: -(-n // 8), bounds=lambda n, p, k: (8 * k, 8 * k + 8)
        ),
        "one piece: nothing to share out": _sums(pieces=lambda n: 1),
        "summed at once, without `run`": _without_threads,
        "all pieces added to one shared sum: who comes first changes its last bits": _sums(shared=True),
        "partial sums appended as they are finished, and added in that order": _sums(appended=True),
        "two pieces write to the same place, and one of them is lost": _sums(slots=lambda k, p: k // 2, overwrite=True),
        "partial sums in 16 bits": _sums(dtype=np.float16, products=lambda dy, x_hat: dy * x_hat),
        "products rounded to 16 bits before they are added": _sums(products=lambda dy, x_hat: dy * x_hat),
        "means instead of sums": _sums(mean=True),
        "dgamma without x_hat": _sums(products=lambda dy, x_hat: dy),
        "x_hat added up without dy": _sums(products=lambda dy, x_hat: x_hat),
        "dgamma and dbeta swapped": _swapped,
        "x_hat overwritten in place": _in_place,
    },
)
