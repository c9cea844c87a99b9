"""Exercise 6.1: how loud BatchNorm makes real tokens when there is padding."""

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed)

    def case(tests: str, **fixed: float) -> Case:
        drawn = {"share": rng.uniform(0.2, 0.8), "mean": rng.normal(1.5), "std": rng.uniform(0.5, 2.5)}
        return Case(tests, {name: float(v) for name, v in ({**drawn, "padding": rng.normal(-1.0)} | fixed).items()})

    zeros, any_value, edges = "padding with zeros", "padding with another value", "no padding, and almost only padding"
    repeats = 1 if level == "visible" else 3
    return [
        *(case(zeros, padding=0.0) for _ in range(repeats)),
        *(case(any_value) for _ in range(repeats)),
        case(any_value, mean=1.25, padding=1.25),
        case(edges, share=1.0),
        case(edges, share=0.005),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    return {"spread": array("spread", answer(*(inputs[name] for name in ("share", "mean", "std", "padding"))))}


def _solution(share: float, mean: float, std: float, padding: float) -> float:
    return float(std / np.sqrt(share * std**2 + share * (1 - share) * (mean - padding) ** 2))


SPREAD_BEHIND_BATCH_NORM = Exercise(
    name="spread_behind_batch_norm",
    signature="spread_behind_batch_norm(share, mean, std, padding)",
    properties={
        "padding with zeros": 1,
        "padding with another value": 2,
        "no padding, and almost only padding": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_solution,
    mistakes={
        "the padding's value left out: the formula for zeros": lambda p, m, s, v: _solution(p, m, s, 0.0),
        "the share of padding where the share of real tokens belongs": lambda p, m, s, v: (
            s / np.sqrt((1 - p) * s**2 + p * (1 - p) * (m - v) ** 2)
        ),
        "the variance of the real tokens instead of their standard deviation": lambda p, m, s, v: (
            _solution(p, m, s, v) ** 2
        ),
        "upside down: what BatchNorm divides by, over the standard deviation": lambda p, m, s, v: (
            1 / _solution(p, m, s, v)
        ),
        "the distance between mean and padding not squared": lambda p, m, s, v: (
            s / np.sqrt(p * s**2 + p * (1 - p) * np.abs(m - v))
        ),
        "the distance between mean and padding weighted by 1 − p instead of p(1 − p)": lambda p, m, s, v: (
            s / np.sqrt(p * s**2 + (1 - p) * (m - v) ** 2)
        ),
        "the distance between mean and padding left out": lambda p, m, s, v: 1 / np.sqrt(p),
        "one, as with a mask": lambda p, m, s, v: 1.0,
        "mean and padding added instead of subtracted": lambda p, m, s, v: _solution(p, m, s, -v),
        "the standard deviation of all positions before BatchNorm": lambda p, m, s, v: s / _solution(p, m, s, v),
        "the mean square of all positions instead of their variance": lambda p, m, s, v: (
            s / np.sqrt(p * (s**2 + m**2) + (1 - p) * v**2)
        ),
    },
)
