"""Exercise 7.4: the exponent of a power law."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

DEPTHS = {"visible": (2, 4, 8, 16), "graded": (2, 4, 8, 16, 32)}


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 704)

    def case(tests: str, depths: Any, exponent: float, noise: float, seeds: int = 3, **more: Any) -> Case:
        depths = np.asarray(depths)
        factor = np.exp(noise * rng.normal(size=(seeds, len(depths))))
        return Case(tests, {"depths": depths, "values": rng.uniform(2, 9) * depths**exponent * factor, **more})

    uneven = (3, 5, 12, 40, 41) if level == "visible" else tuple(np.sort(rng.choice(60, size=6, replace=False)) + 2)
    return [
        *(case("exact laws", DEPTHS[level], p, 0.0) for p in (-0.5, 0.0, float(rng.uniform(1, 2)))),
        case("one seed", DEPTHS[level], -0.4, 0.3, seeds=1),
        case("several seeds", DEPTHS[level], -0.5, 0.3),
        case("several seeds", uneven, 0.7, 0.6, seeds=4),
        case("leaves its inputs alone", DEPTHS[level], 0.3, 0.2, asks="inputs"),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    depths, values = inputs["depths"].copy(), inputs["values"].copy()
    out = {"the exponent": array("the exponent", answer(depths, values))}
    return out | ({"depths after the call": depths, "values after the call": values} if "asks" in inputs else {})


def _fit(x: Any, y: Any) -> Any:
    """Return slope and intercept of the line through all points: x ``(n,)``, y ``(seeds, n)``."""
    return np.polyfit(np.broadcast_to(x, y.shape).ravel(), y.ravel(), 1)


def _line(x: Callable[[Any], Any] = np.log, y: Callable[[Any], Any] = np.log, which: int = 0) -> Answer:
    return lambda depths, values: _fit(x(depths), y(values))[which]


_solution = _line()


def _swapped(depths: Any, values: Any) -> Any:
    x, y = np.broadcast_to(np.log(depths), values.shape), np.log(values)
    return np.sum((x - x.mean()) * y) / np.sum((y - y.mean()) ** 2)


def _through_origin(depths: Any, values: Any) -> Any:
    x = np.log(depths)
    return np.mean(x * np.log(values)) / np.mean(x**2)


def _correlation(depths: Any, values: Any) -> Any:
    x, y = np.broadcast_to(np.log(depths), values.shape).ravel(), np.log(values).ravel()
    x, y = x - x.mean(), y - y.mean()
    return np.sum(x * y) / np.sqrt(np.sum(x * x) * np.sum(y * y) + 1e-30)


def _two_points(depths: Any, values: Any, a: int = 0, b: int = -1) -> Any:
    y = np.log(values).mean(axis=0)
    return (y[b] - y[a]) / np.log(depths[b] / depths[a])


def _in_place(depths: Any, values: Any) -> Any:
    np.log(values, out=values)
    return _fit(np.log(depths), values)[0]


LOGLOG_SLOPE = Exercise(
    name="loglog_slope",
    signature="loglog_slope(depths, values)",
    properties={"exact laws": 2, "one seed": 1, "several seeds": 1, "leaves its inputs alone": 1},
    cases=_cases,
    probe=_probe,
    solution=_solution,
    mistakes={
        "no logarithms: the slope of a straight line": _line(np.asarray, np.asarray),
        "only the values in logarithms: the rate of an exponential": _line(x=np.asarray),
        "only the depths in logarithms": _line(y=np.asarray),
        "the intercept in place of the slope": _line(which=1),
        "the axes swapped: the depth as a power of the value": _swapped,
        "logarithms to different bases": _line(x=np.log2),
        "the first and the last point only": _two_points,
        "the first two points only": lambda depths, values: _two_points(depths, values, 0, 1),
        "the last two points only": lambda depths, values: _two_points(depths, values, -2, -1),
        "the mean over seeds before the logarithm": lambda depths, values: _solution(
            depths, values.mean(axis=0, keepdims=True)
        ),
        "the first seed only": lambda depths, values: _solution(depths, values[:1]),
        "one slope for every seed": lambda depths, values: np.array([_solution(depths, row[None]) for row in values]),
        "a line through the origin: no constant factor is fitted": _through_origin,
        "the correlation in place of the slope": _correlation,
        "the opposite sign": lambda depths, values: -_solution(depths, values),
        "the index of the point in place of its depth": lambda depths, values: _fit(
            np.arange(len(depths)), np.log(values)
        )[0],
        "the logarithms written into values": _in_place,
    },
)
