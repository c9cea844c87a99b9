"""Exercise 1.1: the factor by which a layer changes the mean square."""

from math import pi

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

KEPT = {"linear": 1.0, "relu": 0.5, "leaky_relu": 0.505, "abs": 1.0}  # of the mean square of a symmetric signal


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 101)
    sizes = (1.0, 2.0) if level == "visible" else (2.0, float(rng.uniform(0.1, 0.9)), float(rng.uniform(3.0, 9.0)))
    return [Case(act, {"sigma_w2": sigma_w2, "act": act}) for act in KEPT for sigma_w2 in sizes]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    return {"factor": array("factor", answer(inputs["sigma_w2"], inputs["act"]))}


def _solution(sigma_w2: float, act: str) -> float:
    return KEPT[act] * sigma_w2


def _keeps(**shares: float) -> Answer:
    """Return the right answer but for the share of the mean square that some activations keep."""
    return lambda sigma_w2, act: {**KEPT, **shares}[act] * sigma_w2


VARIANCE_FACTOR = Exercise(
    name="variance_factor",
    signature="variance_factor(sigma_w2, act)",
    properties={"linear": 1, "relu": 1, "leaky_relu": 2, "abs": 1},
    cases=_cases,
    probe=_probe,
    solution=_solution,
    mistakes={
        "no activation halves anything: the factor of a linear layer for all": lambda sigma_w2, act: sigma_w2,
        "one half for every activation": lambda sigma_w2, act: sigma_w2 / 2,
        "the factor of the standard deviation: a root too many": lambda sigma_w2, act: np.sqrt(KEPT[act] * sigma_w2),
        "σ_w in place of σ_w²": lambda sigma_w2, act: KEPT[act] * np.sqrt(sigma_w2),
        "σ_w² squared: it is a variance already": lambda sigma_w2, act: KEPT[act] * sigma_w2**2,
        "the factor of He's initialization whatever sigma_w2 says": lambda sigma_w2, act: 2 * KEPT[act],
        "relative to He's initialization: twice the factor": lambda sigma_w2, act: 2 * KEPT[act] * sigma_w2,
        "a division by what the activation keeps": lambda sigma_w2, act: sigma_w2 / KEPT[act],
        "the reciprocal: the σ_w² that would be needed": lambda sigma_w2, act: 1 / (KEPT[act] * sigma_w2),
        "the variance after the activation: its mean was subtracted": _keeps(
            relu=0.5 - 1 / (2 * pi), leaky_relu=0.505 - 0.9**2 / (2 * pi), abs=1 - 2 / pi
        ),
        "the mean after the activation in place of the mean square": _keeps(
            linear=0.0, relu=1 / np.sqrt(2 * pi), leaky_relu=0.9 / np.sqrt(2 * pi), abs=np.sqrt(2 / pi)
        ),
        "the slope of leaky_relu not squared": _keeps(leaky_relu=0.55),
        "the slope of leaky_relu without the half of its side": _keeps(leaky_relu=0.51),
        "leaky_relu taken for relu": _keeps(leaky_relu=0.5),
        "abs taken for relu": _keeps(abs=0.5),
    },
)
