"""Exercise 1.6: the right size of the weights for any activation, by chance."""

import math
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

ACTS: dict[str, Any] = {
    "ReLU": lambda x, c: np.maximum(x, 0),
    "tanh": lambda x, c: np.tanh(c * x),
    "GELU": lambda x, c: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "sigmoid": lambda x, c: 1 / (1 + np.exp(-c * x)),
    "leaky ReLU": lambda x, c: np.where(x > 0, x, 0.3 * c * x),
    "softplus": lambda x, c: np.logaddexp(0, c * x),
    "a shifted tanh": lambda x, c: np.tanh(x) + c,
}
TESTS = {
    "ReLU": ("ReLU",),
    "activations with mean zero": ("tanh",),
    "activations with a mean": ("GELU", "sigmoid", "leaky ReLU", "softplus", "a shifted tanh"),
    "as many draws as asked for": ("tanh", "ReLU"),
}
GRID = np.linspace(-12, 12, 24_001)
DENSITY = np.exp(-(GRID**2) / 2) / np.sum(np.exp(-(GRID**2) / 2))


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 106)
    shown = level == "visible"
    return [
        Case(
            tests,
            {
                "act": act,
                "c": 1.0 if shown else float(rng.uniform(0.7, 1.4)),
                "n_mc": 100_000 if "draws" not in tests else int(rng.integers(1000, 5000)),
                "asks": "draws" if "draws" in tests else "gain",
            },
            tolerance=0.02,  # more than five standard errors with 100,000 draws
        )
        for tests, acts in TESTS.items()
        for act in (acts[:2] if shown else acts)
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    drawn = 0

    def act(x: Any) -> Any:
        nonlocal drawn
        x = np.asarray(x, dtype=float)
        drawn += x.size
        return ACTS[inputs["act"]](x, inputs["c"])

    gain = array("gain", answer(act, inputs["n_mc"]))
    return {"gain": gain} if inputs["asks"] == "gain" else {"numbers put into act": np.array(drawn)}


def _verify(case: Case, outputs: Outputs) -> str:
    if case.inputs["asks"] == "draws":
        asked, drawn = case.inputs["n_mc"], int(outputs["numbers put into act"])
        return "" if asked <= drawn <= 4 * asked else f"act was called on {drawn} numbers, n_mc is {asked}"
    if outputs["gain"].shape != ():
        return f"the gain has shape {outputs['gain'].shape}, expected a number"
    square = np.sum(ACTS[case.inputs["act"]](GRID, case.inputs["c"]) ** 2 * DENSITY)
    factor = float(outputs["gain"]) ** 2 * square  # of the mean square, layer by layer
    if abs(math.sqrt(factor) - 1) <= case.tolerance and outputs["gain"] > 0:
        return ""
    return f"with this gain a layer multiplies the mean square by {factor:.2g}"


def _gain(mean_square: Any, root: float = -0.5) -> Answer:
    """Return an answer that takes this for the mean square behind act, of normal draws."""
    return lambda act, n_mc: mean_square(act, np.random.default_rng(1).normal(size=n_mc)) ** root


def _second_moment(act: Any, z: Any) -> Any:
    return np.mean(act(z) ** 2)


def _slopes(act: Any, z: Any) -> Any:
    return np.mean(((act(z + 1e-4) - act(z - 1e-4)) / 2e-4) ** 2)


CRITICAL_GAIN = Exercise(
    name="critical_gain",
    signature="critical_gain(act, n_mc)",
    properties={
        "ReLU": 1,
        "activations with mean zero": 1,
        "activations with a mean": 2,
        "as many draws as asked for": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_gain(_second_moment),
    verify=_verify,
    mistakes={
        "the variance after the activation: its mean was subtracted": _gain(lambda act, z: np.var(act(z))),
        "the mean of the absolute value in place of the mean square": _gain(lambda act, z: np.mean(np.abs(act(z)))),
        "the square of the mean in place of the mean of the square": _gain(lambda act, z: np.mean(act(z)) ** 2),
        "σ_w² in place of σ_w: the root is missing": _gain(_second_moment, -1.0),
        "the reciprocal: the size after the activation": _gain(_second_moment, 0.5),
        "the mean square itself, neither root nor reciprocal": _gain(_second_moment, 1.0),
        "the gain that keeps the gradient: the mean square of the slope": _gain(_slopes),
        "He's √2 for every activation": lambda act, n_mc: act(np.zeros(n_mc)).mean() * 0 + math.sqrt(2),
        "draws that are uniform between −1 and 1": _gain(
            lambda act, z: np.mean(act(np.random.default_rng(1).uniform(-1, 1, z.size)) ** 2)
        ),
        "draws that are uniform between 0 and 1": _gain(
            lambda act, z: np.mean(act(np.random.default_rng(1).random(z.size)) ** 2)
        ),
        "only positive draws": _gain(lambda act, z: np.mean(act(np.abs(z)) ** 2)),
        "draws of standard deviation 2": _gain(lambda act, z: np.mean(act(2 * z) ** 2)),
        "one hundred draws, whatever n_mc says": _gain(lambda act, z: np.mean(act(z[:100]) ** 2)),
    },
)
