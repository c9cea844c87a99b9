"""Exercise 1.5: the layer at which numbers no longer fit."""

import math
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

LARGEST = {"float16": 65504.0, "float8 (E4M3)": 448.0, "bfloat16": 3.3895e38, "float32": 3.4028e38}


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 105)

    def drawn(low: float, high: float) -> float:
        """Return a size between these; a graded one depends on the seed, and neither meets the limit exactly."""
        return low + (high - low) * (float(rng.uniform()) if level == "graded" else 0.37)

    return [
        Case("float16", {"sigma_w2": drawn(2.2, 3.0), "largest": 65504.0}),
        Case("float16", {"sigma_w2": drawn(4.2, 7.0), "largest": 65504.0}),
        *(
            Case("other number formats", {"sigma_w2": drawn(2.3, 5.0), "largest": LARGEST[name]})
            for name in list(LARGEST)[1:]
        ),
        Case("other number formats", {"sigma_w2": 2 * drawn(500.0, 900.0) ** 2, "largest": 448.0}),  # the first layer
        Case("signals that do not grow", {"sigma_w2": 2.0, "largest": 65504.0}),
        Case("signals that do not grow", {"sigma_w2": drawn(0.2, 1.9), "largest": 448.0}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    return {"layer": array("layer", answer(inputs["sigma_w2"], inputs["largest"]))}


def _solution(sigma_w2: float, largest: float) -> float:
    return math.inf if sigma_w2 <= 2 else math.floor(_exact(sigma_w2, largest)) + 1


def _exact(sigma_w2: float, largest: float) -> float:
    """Return where the root mean square reaches ``largest``, between two layers; minus infinity if never."""
    return math.log(largest) / math.log(math.sqrt(sigma_w2 / 2)) if sigma_w2 != 2 else -math.inf


def _explain(case: Case, outputs: Outputs) -> str:
    return "such a signal never overflows: math.inf" if case.inputs["sigma_w2"] <= 2 else ""


def _if_it_grows(layer: Any) -> Answer:
    """Return an answer that is right about signals that do not grow."""
    return lambda sigma_w2, largest: layer(sigma_w2, largest) if sigma_w2 > 2 else math.inf


def _smallest_sigma(sigma_w2: float, largest: float) -> float:
    return max(math.floor(math.log(largest) / math.log(sigma_w2)) + 1, 1) if sigma_w2 > 1 else math.inf


OVERFLOW_LAYER = Exercise(
    name="overflow_layer",
    signature="overflow_layer(sigma_w2, largest)",
    properties={"float16": 2, "other number formats": 2, "signals that do not grow": 1},
    cases=_cases,
    probe=_probe,
    solution=_solution,
    explain=_explain,
    mistakes={
        "the factor of the mean square taken for that of the size: a root is missing": _if_it_grows(
            lambda s, most: math.floor(math.log(most) / math.log(s / 2)) + 1
        ),
        "a root too many: the fourth root of the factor": _if_it_grows(
            lambda s, most: math.floor(4 * math.log(most) / math.log(s / 2)) + 1
        ),
        "ReLU's half forgotten, in a factor of √σ_w²": lambda s, most: (
            math.floor(2 * math.log(most) / math.log(s)) + 1 if s > 1 else math.inf
        ),
        "ReLU's half and the root forgotten": _smallest_sigma,
        "σ_w² squared: it is a variance already": _if_it_grows(
            lambda s, most: math.floor(math.log(most) / math.log(s / math.sqrt(2))) + 1
        ),
        "the last layer that still fits": _if_it_grows(lambda s, most: math.floor(_exact(s, most))),
        "one layer too late": _if_it_grows(lambda s, most: math.floor(_exact(s, most)) + 2),
        "not rounded to a whole layer": _if_it_grows(_exact),
        "the limit of float16 for every format": _if_it_grows(lambda s, most: _solution(s, 65504.0)),
        "a logarithm to base 10 divided by a natural one": _if_it_grows(
            lambda s, most: math.floor(math.log10(most) / math.log(math.sqrt(s / 2))) + 1
        ),
        "a number of layers also for signals that do not grow": lambda s, most: (
            math.floor(_exact(s, most)) + 1 if s != 2 else 0
        ),
        "infinity only where the signal shrinks: at σ_w² = 2 it neither grows nor shrinks": lambda s, most: (
            _solution(s, most) if s != 2 else 1
        ),
    },
)
