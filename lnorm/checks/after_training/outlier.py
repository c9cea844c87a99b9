"""Exercise 13.1: what LayerNorm makes of one outlier, and of the features beside it."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, arrays


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed)
    widths = (2, 3, 16) if level == "visible" else (2, 3, 5, 64)
    drawn = [(float(rng.uniform(2, 6)) * (-1) ** i, d) for i, d in enumerate(widths)]
    many = {"o": rng.normal(scale=20.0, size=(2, 3)), "d": widths[-1]}
    return [
        *(Case("the others", {"o": o, "d": d, "asks": "others"}) for o, d in drawn),
        *(Case("the outlier itself", {"o": o, "d": d, "asks": "outlier"}) for o, d in drawn),
        Case("an array of outliers", {**many, "asks": "others"}),
        Case("an array of outliers", {**many, "asks": "outlier"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    out = arrays(
        ("others", "outlier"), answer(np.copy(inputs["o"]) if np.ndim(inputs["o"]) else inputs["o"], inputs["d"])
    )
    return {inputs["asks"]: out[inputs["asks"]]}


def _solution(o: Any, d: int) -> Any:
    others = 1 / np.sqrt((d - 1 + o**2) / d - (o / d) ** 2)
    return others, (o - o / d) * others


def _scaled(factor: Any, centre: Any = lambda o, d: o - o / d) -> Answer:
    """Return an answer with this factor on the others, and with the outlier centred in this way."""

    def outlier_shrink(o: Any, d: int) -> Any:
        with np.errstate(all="ignore"):
            return factor(o, d), centre(o, d) * factor(o, d)

    return outlier_shrink


def _right(o: Any, d: int) -> Any:
    return _solution(o, d)[0]


OUTLIER_SHRINK = Exercise(
    name="outlier_shrink",
    signature="outlier_shrink(o, d)",
    properties={"the others": 2, "the outlier itself": 2, "an array of outliers": 1},
    cases=_cases,
    probe=_probe,
    solution=_solution,
    mistakes={
        "the chapter's approximation: (d − 1)/d taken as 1": _scaled(
            lambda o, d: 1 / np.sqrt(1 + o**2 / d * (1 - 1 / d))
        ),
        "the mean not taken off (this is RMSNorm)": _scaled(
            lambda o, d: 1 / np.sqrt((d - 1 + o**2) / d), lambda o, d: o
        ),
        "the square of the mean not taken off the mean square": _scaled(lambda o, d: 1 / np.sqrt((d - 1 + o**2) / d)),
        "the mean not taken off the outlier": _scaled(_right, lambda o, d: o),
        "no square root: division by the variance": _scaled(lambda o, d: _right(o, d) ** 2),
        "multiplication by the standard deviation instead of division": _scaled(lambda o, d: 1 / _right(o, d)),
        "variance divided by d − 1 instead of d": _scaled(lambda o, d: _right(o, d) * np.sqrt((d - 1) / d)),
        "the mean taken over the d − 1 others": _scaled(_right, lambda o, d: o - o / (d - 1)),
        "o in the mean square without its square": _scaled(
            lambda o, d: 1 / np.sqrt((d - 1 + np.abs(o)) / d - (o / d) ** 2)
        ),
        "the others left out of the variance": _scaled(lambda o, d: 1 / np.sqrt(o**2 / d - (o / d) ** 2)),
        "the sign of the outlier lost": _scaled(_right, lambda o, d: np.abs(o - o / d)),
        "the bound √(d − 1) instead of the outlier's own value": lambda o, d: (
            _right(o, d),
            np.sign(o) * np.sqrt(d - 1),
        ),
        "the two results swapped": lambda o, d: _solution(o, d)[::-1],
    },
)
