"""Exercise 9.6: mean and variance of columns that come one at a time, and only once."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, arrays

SIZES = {"visible": (4, 9), "graded": (5, 13)}


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 5)
    n, d = SIZES[level]

    def case(tests: str, asks: str, loc: float = 2.0, d: int = d, tolerance: float = 1e-9, **settings: Any) -> Case:
        noise = rng.uniform(0.5, 2.0, size=(n, 1)) * rng.normal(size=(n, d))
        x = loc * (1 + 0.1 * rng.normal(size=(n, 1))) + noise
        return Case(tests, {"x": x, "asks": asks, "dtype": "float64", "reuses": False} | settings, tolerance)

    return [
        case("mean", "mean"),
        case("variance", "var"),
        case("variance", "var", d=2),
        case("a single column", "both", d=1),
        # Rounding of the mean, half a unit in the last place of 1e4, is squared and averaged: 2e-7, and some sums.
        case("far from zero", "var", 1e4, d=64, dtype="float32", tolerance=1e-2),
        case("far from zero", "var", 1e9, d=64, tolerance=1e-5),
        case("one array for all columns", "both", reuses=True),
    ]


def _columns(inputs: Inputs) -> Iterator[np.ndarray]:
    """Yield the columns; with ``reuses`` all in one array, which is of no use afterwards."""
    x = inputs["x"].astype(inputs["dtype"])
    buffer = np.empty_like(x[:, 0])
    for column in x.T:
        if not inputs["reuses"]:
            yield column.copy()
        else:
            buffer[:] = column
            yield buffer
    buffer[:] = np.nan


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    out = arrays(("mean", "var"), answer(_columns(inputs)))
    return out if inputs["asks"] == "both" else {inputs["asks"]: out[inputs["asks"]]}


def _welford(kind: str = "") -> Answer:
    """Return Welford's method, right but for one thing; ``kind`` empty for the right one."""

    def welford(columns: Any) -> Any:
        first = next(columns)
        mean = first if kind == "alias" else first.copy()
        m2 = np.zeros_like(first)
        n = 1
        for column in columns:
            n += 1
            delta = column - mean
            if kind == "alias":
                mean += delta / n
            else:
                mean = mean + delta * {"one late": 1 / (n - 1), "decaying": 0.1}.get(kind, 1 / n)
            m2 = m2 + {
                "old mean": delta**2,
                "new mean": (column - mean) ** 2,
                "absolute": np.abs(delta),
                "first": (column - first) ** 2,
            }.get(kind, delta * (column - mean))
        var = {"unbiased": m2 / (n - 1) if n > 1 else m2 * np.nan, "sum": m2, "std": np.sqrt(m2 / n)}.get(kind, m2 / n)
        if kind == "all rows":
            return np.mean(mean), np.mean(var)
        return (var, mean) if kind == "swapped" else (mean, var)

    return welford


def _moments(kind: str = "") -> Answer:
    """Return the textbook's shortcut, E[x²] − E[x]²."""

    def moments(columns: Any) -> Any:
        n, total, squares = 0, 0.0, 0.0
        for column in columns:
            wide = column.astype(float) if kind == "double" else column
            n, total, squares = n + 1, total + wide, squares + wide * wide
        var = squares / n - (total / n) ** 2
        return total / n, np.maximum(var, 0) if kind == "clipped" else var

    return moments


def _collected(columns: Any) -> Any:
    x = np.stack(list(columns), axis=1)
    return x.mean(axis=1), x.var(axis=1)


def _two_passes(columns: Any) -> Any:
    n, total = 0, 0.0
    for column in columns:
        n, total = n + 1, total + column
    mean = np.asarray(total / n)
    return mean, sum(((column - mean) ** 2 for column in columns), np.zeros_like(mean)) / n


WELFORD = Exercise(
    name="welford",
    signature="welford(columns)",
    properties={
        "mean": 1,
        "variance": 2,
        "a single column": 1,
        "far from zero": 2,
        "one array for all columns": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_welford(),
    forbids=("lnorm.reference.welford",),
    mistakes={
        "variance as E[x²] − E[x]², which cancels for rows far from zero": _moments(),
        "variance as E[x²] − E[x]², negative values set to 0": _moments("clipped"),
        "variance as E[x²] − E[x]² in float64, which only moves the problem": _moments("double"),
        "both factors of m2's step with the old mean": _welford("old mean"),
        "both factors of m2's step with the new mean": _welford("new mean"),
        "the variance around the first column": _welford("first"),
        "m2 grows by absolute values": _welford("absolute"),
        "variance divided by D − 1 instead of D": _welford("unbiased"),
        "m2 returned, not divided by the number of columns": _welford("sum"),
        "the standard deviation instead of the variance": _welford("std"),
        "the mean's step divided by one column too few": _welford("one late"),
        "a running average with a fixed step instead of the mean": _welford("decaying"),
        "one mean and one variance for all rows": _welford("all rows"),
        "mean and variance swapped": _welford("swapped"),
        "all columns collected first": _collected,
        "a second pass over an iterator that is empty by then": _two_passes,
        "the first column itself kept as the mean, not a copy of it": _welford("alias"),
    },
)
