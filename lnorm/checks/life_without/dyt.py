"""Exercise 12.1: DyT, a squashing function in the norm's place."""

from typing import Any

import numpy as np

from lnorm import reference
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array
from lnorm.checks.layer_norm.inputs import SIZES, affine, uneven_rows


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed)
    n, t, d = SIZES[level]

    def inputs(x: np.ndarray) -> dict[str, Any]:
        gamma, beta = affine(rng, x.shape[-1])
        return {"x": x, "alpha": float(rng.uniform(0.1, 1.5)), "gamma": gamma, "beta": beta}

    plain, alone = inputs(uneven_rows(rng, n, d)), inputs(np.asfortranarray(uneven_rows(rng, t, d)))
    return [
        Case("values without gain and bias (gamma = 1, beta = 0)", {**plain, "gamma": np.ones(d), "beta": np.zeros(d)}),
        Case("values, with gamma and beta", plain),
        Case("values, with gamma and beta", alone),
        Case("very large values", inputs(1e4 * uneven_rows(rng, n, d))),
        Case("any number of axes", inputs(uneven_rows(rng, n, t, d))),
        Case("any number of axes", inputs(uneven_rows(rng, d))),
        Case("leaves its inputs alone", {**alone, "asks": "inputs"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    x, gamma, beta = (inputs[name].copy(order="K") for name in ("x", "gamma", "beta"))
    y = array("y", answer(x, inputs["alpha"], gamma, beta))
    after = {"x after the call": x, "gamma after the call": gamma, "beta after the call": beta}
    return {"y": y} | (after if "asks" in inputs else {})


def _dyt(kind: str) -> Answer:
    """Return DyT that is right but for one thing."""

    def dyt(x: Any, alpha: float, gamma: Any, beta: Any) -> Any:
        z = {
            "alpha outside": x,
            "alpha fixed": 0.5 * x,
            "alpha under": x / alpha,
            "centred first": alpha * (x - x.mean(-1, keepdims=True)),
            "normalized first": alpha * x / np.sqrt(np.mean(x**2, -1, keepdims=True)),
            "gamma inside": alpha * gamma * x,
            "beta inside": alpha * x + beta,
        }.get(kind, alpha * x)
        squashed = {
            "sigmoid": 1 / (1 + np.exp(-z)),
            "clip": np.clip(z, -1, 1),
            "softsign": z / (1 + np.abs(z)),
            "arctan": np.arctan(z),
            "overflow": (np.exp(z) - np.exp(-z)) / (np.exp(z) + np.exp(-z)),
            "none": z,
        }.get(kind, np.tanh(z))
        if kind == "in place":
            x *= alpha
        gain = {"gamma inside": 1.0, "no gamma": 1.0, "one plus gamma": 1 + gamma, "alpha outside": alpha * gamma}
        y = gain.get(kind, gamma) * squashed
        return y if kind in ("beta inside", "no beta") else y + beta

    return dyt


DYT = Exercise(
    name="dyt",
    signature="dyt(x, alpha, gamma, beta)",
    properties={
        "values without gain and bias (gamma = 1, beta = 0)": 1,
        "values, with gamma and beta": 1,
        "very large values": 1,
        "any number of axes": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=lambda x, alpha, gamma, beta: reference.dynamic_tanh(x, alpha, gamma, beta)[0],
    forbids=("lnorm.reference.dynamic_tanh", "lnorm.nn.DynamicTanh"),
    mistakes={
        "alpha outside of the tanh": _dyt("alpha outside"),
        "alpha fixed at its initial value 0.5": _dyt("alpha fixed"),
        "x divided by alpha": _dyt("alpha under"),
        "gamma inside of the tanh": _dyt("gamma inside"),
        "beta inside of the tanh": _dyt("beta inside"),
        "the mean of the row subtracted first: DyT has no statistics": _dyt("centred first"),
        "the row normalized first: DyT has no statistics": _dyt("normalized first"),
        "a sigmoid instead of the tanh": _dyt("sigmoid"),
        "values cut off at −1 and 1 instead of the tanh": _dyt("clip"),
        "x / (1 + |x|) instead of the tanh": _dyt("softsign"),
        "an arctan instead of the tanh": _dyt("arctan"),
        "no squashing at all": _dyt("none"),
        "a quotient of exponentials, which overflows": _dyt("overflow"),
        "gamma left out": _dyt("no gamma"),
        "beta left out": _dyt("no beta"),
        "1 + gamma as the gain": _dyt("one plus gamma"),
        "x overwritten in place": _dyt("in place"),
    },
)
