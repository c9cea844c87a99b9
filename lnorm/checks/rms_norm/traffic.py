"""Exercise 9.5: how many bytes a list of operations moves."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

Operations = tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]

RMS_NORM: Operations = (
    (("x",), ("square",)),
    (("square",), ("mean",)),
    (("x", "mean"), ("x_hat",)),
    (("x_hat", "gamma"), ("y",)),
)
LAYER_NORM: Operations = (
    (("x",), ("mu",)),
    (("x", "mu"), ("centred",)),
    (("centred", "centred"), ("square",)),
    (("square",), ("mean",)),
    (("centred", "mean"), ("x_hat",)),
    (("x_hat", "gamma"), ("scaled",)),
    (("scaled", "beta"), ("y",)),
)
ADD_AND_NORM: Operations = ((("x", "branch"), ("x",)), *RMS_NORM)
SQUARED: Operations = ((("x", "x"), ("square",)), (("square", "square"), ("y",)))


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 4)
    n, d = ((3, 8), (50, 64))[level == "graded"] + rng.integers(0, 5, size=2)

    def case(tests: str, ops: Operations, results: tuple[str, ...], fused: bool, **itemsize: int) -> Case:
        shapes = {"mu": (n, 1), "mean": (n, 1), "gamma": (d,), "beta": (d,)}
        names = dict.fromkeys(name for both in ops for names in both for name in names)
        arrays = tuple((name, tuple(map(int, shapes.get(name, (n, d)))), itemsize.get(name, 4)) for name in names)
        return Case(tests, {"operations": ops, "arrays": arrays, "results": results, "fused": fused})

    half = dict.fromkeys(("x", "gamma", "y", "branch"), 2)
    return [
        case("step by step", RMS_NORM, ("y",), False),
        case("step by step", LAYER_NORM, ("y",), False),
        case("step by step", ADD_AND_NORM, ("x", "y"), False),
        case("numbers of several sizes", RMS_NORM, ("y",), False, **half),
        case("numbers of several sizes", RMS_NORM, ("y",), True, **half),
        case("an array that is used twice in an operation", SQUARED, ("y",), False),
        case("fused", RMS_NORM, ("y",), True),
        case("fused", LAYER_NORM, ("y",), True),
        case("fused, with results for the backward pass", RMS_NORM, ("y", "x_hat", "mean"), True),
        case("fused, with results for the backward pass", ADD_AND_NORM, ("x", "y", "mean"), True, **half),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    arrays = {name: (shape, itemsize) for name, shape, itemsize in inputs["arrays"]}
    return {"bytes": array("bytes", answer(list(inputs["operations"]), arrays, inputs["results"], inputs["fused"]))}


def _bytes_moved(kind: str = "") -> Answer:
    """Return a count that is right but for one thing; ``kind`` empty for the right one."""

    def size(array: tuple[tuple[int, ...], int], largest: tuple[int, ...]) -> int:
        shape, itemsize = array
        if kind == "broadcast":
            shape = largest
        elif kind == "large only" and math.prod(shape) < math.prod(largest):
            return 0
        return math.prod(shape) * {"numbers": 1, "single": 4}.get(kind, itemsize)

    def stepwise(operations: Any) -> list[str]:
        twice = kind in ("twice", "twice, fused too")
        moved = []
        for reads, writes in operations:
            moved += [] if kind == "writes only" else list(reads if twice else dict.fromkeys(reads))
            moved += [] if kind == "reads only" else list(writes)
        return list(dict.fromkeys(moved)) if kind == "each array once" else moved

    def fused_kernel(operations: Any, results: Any) -> list[str]:
        written: set[str] = set()
        loaded: list[str] = []
        for reads, writes in operations:
            loaded += [name for name in dict.fromkeys(reads) if name not in written]
            written |= set(writes)
        if kind == "order":
            loaded = [name for name in loaded if name not in written]
        if kind != "again":
            loaded = list(dict.fromkeys(loaded))
        stored = list(results)
        if kind == "last only":
            stored = list(operations[-1][1])
        elif kind == "no results":
            stored = []
        elif kind == "results not loaded":
            stored = [name for name in results if name not in loaded]
        elif kind == "all that is written":
            stored = sorted(written)
        return stored if kind == "no inputs" else loaded + stored

    def bytes_moved(operations: Any, arrays: Mapping[str, Any], results: Any, fused: bool) -> int:
        largest = max((shape for shape, _ in arrays.values()), key=math.prod)
        if fused == (kind == "upside down") or kind == "never fused":
            moved = stepwise(operations)
        else:
            moved = fused_kernel(operations, results)
        return sum(size(arrays[name], largest) for name in moved)

    return bytes_moved


BYTES_MOVED = Exercise(
    name="bytes_moved",
    signature="bytes_moved(operations, arrays, results, fused)",
    properties={
        "step by step": 2,
        "numbers of several sizes": 1,
        "an array that is used twice in an operation": 1,
        "fused": 2,
        "fused, with results for the backward pass": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_bytes_moved(),
    mistakes={
        "only reads counted": _bytes_moved("reads only"),
        "only writes counted": _bytes_moved("writes only"),
        "step by step, each array counted once in all": _bytes_moved("each array once"),
        "numbers counted instead of bytes": _bytes_moved("numbers"),
        "four bytes for every number": _bytes_moved("single"),
        "every array taken to be as large as the largest": _bytes_moved("broadcast"),
        "small arrays, as statistics and gains, left out": _bytes_moved("large only"),
        "an array counted twice where an operation uses it twice": _bytes_moved("twice"),
        "fused treated like step by step": _bytes_moved("never fused"),
        "fused and step by step swapped": _bytes_moved("upside down"),
        "fused: an input loaded again for every operation that uses it": _bytes_moved("again"),
        "fused: results not counted": _bytes_moved("no results"),
        "fused: inputs not counted": _bytes_moved("no inputs"),
        "fused: only what the last operation writes counted as a result": _bytes_moved("last only"),
        "fused: everything stored that some operation writes": _bytes_moved("all that is written"),
        "fused: an input that is overwritten later not counted as an input": _bytes_moved("order"),
        "fused: a result that was an input not stored": _bytes_moved("results not loaded"),
    },
)
