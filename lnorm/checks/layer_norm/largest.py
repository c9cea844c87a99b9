"""Exercise 3.7: how large one normalized value can get."""

import numpy as np

from lnorm import reference
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

SIZES = {"visible": (2, 3, 10), "graded": (2, 3, 64, 257)}


def _cases(seed: int, level: Level) -> list[Case]:
    drawn = int(np.random.default_rng(seed + 6).integers(4, 100))
    sizes = (*SIZES[level], drawn) if level == "graded" else SIZES[level]
    return [
        *(Case("the largest value is √(d − 1)", {"d": d, "asks": "x"}) for d in sizes),
        *(Case("the bound", {"d": d, "asks": "bound"}) for d in sizes),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    x, bound = answer(inputs["d"])
    return {"x": array("x", x)} if inputs["asks"] == "x" else {"bound": array("bound", bound)}


def _verify(case: Case, outputs: Outputs) -> str:
    d = case.inputs["d"]
    if case.inputs["asks"] == "bound":
        bound = outputs["bound"]
        if bound.shape != ():
            return f"the bound has shape {bound.shape}, expected a number"
        return "" if abs(bound - np.sqrt(d - 1)) < 1e-9 else f"the bound is {float(bound):.6g}, and should not be"
    x = outputs["x"].astype(float)
    if x.shape != (d,):
        return f"x has shape {x.shape}, expected (d,)"
    if not np.isfinite(x).all() or x.std() == 0:
        return "x is not finite, or constant: LayerNorm has nothing to divide by"
    largest = reference.layer_norm(x, d, eps=0.0)[0].max() / np.sqrt(d - 1)
    return "" if abs(largest - 1) < 1e-9 else f"the largest normalized value is {largest:.2g} times what is possible"


def _spike(d: int, at: int = 0) -> np.ndarray:
    x = np.zeros(d)
    x[at] = 1.0
    return x


LARGEST_VALUE = Exercise(
    name="largest_value",
    signature="largest_value(d)",
    properties={"the largest value is √(d − 1)": 2, "the bound": 2},
    cases=_cases,
    probe=_probe,
    solution=lambda d: (_spike(d), np.sqrt(d - 1)),
    verify=_verify,
    mistakes={
        "√d as the bound": lambda d: (_spike(d), np.sqrt(d)),
        "d − 1 as the bound, without the root": lambda d: (_spike(d), d - 1),
        "the bound as if the variance divided by D − 1": lambda d: (_spike(d), (d - 1) / np.sqrt(d)),
        "a spike down: its normalized value is negative": lambda d: (-_spike(d), np.sqrt(d - 1)),
        "two spikes of the same height": lambda d: (_spike(d) + _spike(d, 1), np.sqrt(d - 1)),
        "a ramp instead of a spike": lambda d: (np.arange(d), np.sqrt(d - 1)),
        "a constant": lambda d: (np.ones(d), np.sqrt(d - 1)),
        "a spike among values that are not all equal": lambda d: (
            _spike(d) + 0.1 * np.cos(np.arange(d)),
            np.sqrt(d - 1),
        ),
        "x and the bound swapped": lambda d: (np.sqrt(d - 1), _spike(d)),
    },
)
