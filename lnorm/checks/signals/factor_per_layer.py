"""Exercise 1.4: the factor per layer, read off a curve."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 104)
    depth = {"visible": 12, "graded": 17}[level]
    factor = float(rng.uniform(0.4, 0.8)) if level == "graded" else 0.5
    exact = 0.7 * factor ** np.arange(depth + 1.0)
    noisy = 3.0 * 1.467 ** np.arange(depth + 1.0) * np.exp(rng.normal(scale=0.6, size=depth + 1))
    tiny = 1e-280 * np.exp(rng.normal(size=depth + 1))
    return [
        Case("an exact exponential", {"squares": exact}),
        Case("an exact exponential", {"squares": 1.5 ** np.arange(4.0)}),
        Case("measured values, which scatter", {"squares": noisy}),
        Case("measured values, which scatter", {"squares": noisy[:3]}),
        Case("very small numbers", {"squares": tiny}),
        Case("leaves its input alone", {"squares": noisy, "asks": "input"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    squares = inputs["squares"].copy()
    out = {"factor": array("factor", answer(squares))}
    return out | ({"squares after the call": squares} if "asks" in inputs else {})


def _slope(y: Any, x: Any = None) -> Any:
    """Return the slope of the line of least squares."""
    x = np.arange(len(y)) if x is None else x
    centred = x - x.mean()
    return np.sum(centred * y) / np.sum(centred**2)


def _solution(squares: Any) -> Any:
    return np.exp(_slope(np.log(squares)))


def _from_ends(squares: Any) -> Any:
    return (squares[-1] / squares[0]) ** (1 / (len(squares) - 1))


def _from_the_input(squares: Any) -> Any:
    layer = np.arange(len(squares))
    return np.exp(np.sum(layer * np.log(squares / squares[0])) / np.sum(layer**2))


def _through_zero(squares: Any) -> Any:
    layer = np.arange(len(squares))
    return np.exp(np.sum(layer * np.log(squares)) / np.sum(layer**2))


def _in_place(squares: Any) -> Any:
    factor = _solution(squares)
    squares /= squares[0]
    return factor


FACTOR_PER_LAYER = Exercise(
    name="factor_per_layer",
    signature="factor_per_layer(squares)",
    properties={
        "an exact exponential": 1,
        "measured values, which scatter": 1,
        "very small numbers": 1,
        "leaves its input alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_solution,
    forbids=("lnorm.experiments.signal_propagation.factor_per_layer",),
    mistakes={
        "a line through the numbers themselves, without the logarithm": lambda squares: np.exp(_slope(squares)),
        "the slope itself, not exp of it": lambda squares: _slope(np.log(squares)),
        "logarithms to base 10, undone with exp": lambda squares: np.exp(_slope(np.log10(squares))),
        "logarithms to base 2, undone with exp": lambda squares: np.exp(_slope(np.log2(squares))),
        "only the first and the last value used": _from_ends,
        "the root of the number of values, which is one more than the layers": lambda squares: (
            (squares[-1] / squares[0]) ** (1 / len(squares))
        ),
        "the ratio of the last to the first, over all layers": lambda squares: squares[-1] / squares[0],
        "the mean of the ratios of neighbours": lambda squares: np.mean(squares[1:] / squares[:-1]),
        "the median of the ratios of neighbours": lambda squares: np.median(squares[1:] / squares[:-1]),
        "the line forced through the first value": _from_the_input,
        "the line forced through a mean square of 1 at the input": _through_zero,
        "the factor of the size: a root too many": lambda squares: np.exp(_slope(np.log(squares)) / 2),
        "the reciprocal: from the last layer to the first": lambda squares: np.exp(-_slope(np.log(squares))),
        "the axes swapped: layers over logarithms": lambda squares: np.exp(
            _slope(np.arange(len(squares)), np.log(squares))
        ),
        "squares overwritten in place": _in_place,
    },
)
