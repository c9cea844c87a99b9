"""Exercise 12.2: the backward pass of DyT."""

from typing import Any

import numpy as np

from lnorm import reference
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, arrays
from lnorm.checks.layer_norm.inputs import SIZES, affine, uneven_rows

NAMES = ("dx", "dalpha", "dgamma", "dbeta")


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 1)
    n, t, d = SIZES[level]

    def inputs(x: np.ndarray) -> dict[str, Any]:
        dy, gamma = rng.normal(loc=0.3, size=x.shape), affine(rng, x.shape[-1])[0]
        return {"dy": dy, "x": x, "alpha": float(rng.uniform(0.2, 0.9)), "gamma": gamma}

    plain, alone = inputs(uneven_rows(rng, n, d)), inputs(np.asfortranarray(uneven_rows(rng, t, d)))
    return [
        *(Case(name, {**plain, "asks": (name,)}) for name in NAMES),
        Case("very large values", {**inputs(1e4 * uneven_rows(rng, n, d)), "asks": NAMES}),
        Case("any number of axes", {**inputs(uneven_rows(rng, n, t, d)), "asks": NAMES}),
        Case("leaves its inputs alone", {**alone, "asks": "inputs"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    dy, x, gamma = (inputs[name].copy(order="K") for name in ("dy", "x", "gamma"))
    out = arrays(NAMES, answer(dy, x, inputs["alpha"], gamma))
    if out["dalpha"].shape == (1,):
        out["dalpha"] = out["dalpha"][0]  # PyTorch keeps alpha in this shape
    if inputs["asks"] == "inputs":
        return out | {"dy after the call": dy, "x after the call": x, "gamma after the call": gamma}
    return {name: out[name] for name in inputs["asks"]}


def _backward(kind: str) -> Answer:
    """Return a backward pass that is right but for one thing."""

    def backward(dy: Any, x: Any, alpha: float, gamma: Any) -> Any:
        batch = tuple(range(x.ndim - 1))
        squashed = np.tanh(alpha * x)
        slope = {
            "not squared": 1 - squashed,
            "slope at x": 1 - np.tanh(x) ** 2,
            "squared alpha x": 1 - (alpha * x) ** 2,
            "plus": 1 + squashed**2,
            "no slope": 1.0,
            "overflow": 4 * np.exp(2 * alpha * x) / (np.exp(2 * alpha * x) + 1) ** 2,
            "sigmoid": squashed * (1 - squashed),
        }.get(kind, 1 - squashed**2)
        g = dy * gamma
        dx = {"no alpha": g * slope, "no gamma": dy * slope * alpha, "x": g * slope * x}.get(kind, g * slope * alpha)
        dalpha = {
            "dalpha without x": np.sum(g * slope),
            "dalpha with alpha": np.sum(g * slope * x * alpha),
            "dalpha without gamma": np.sum(dy * slope * x),
            "dalpha without slope": np.sum(g * x),
            "dalpha averaged": np.mean(g * slope * x),
            "dalpha by feature": np.sum(g * slope * x, batch),
            "dalpha by row": np.sum(g * slope * x, -1),
        }.get(kind, np.sum(g * slope * x))
        dgamma = {
            "dgamma from x": np.sum(dy * x, batch),
            "dgamma with gamma": np.sum(g * squashed, batch),
            "dgamma with slope": np.sum(dy * slope, batch),
            "dgamma by row": np.sum(dy * squashed, -1),
        }.get(kind, np.sum(dy * squashed, batch))
        dbeta = {"dbeta with gamma": np.sum(g, batch), "dbeta with slope": np.sum(dy * slope, batch)}.get(
            kind, np.sum(dy, batch)
        )
        if kind == "averaged":
            dgamma, dbeta = np.mean(dy * squashed, batch), np.mean(dy, batch)
        elif kind == "swapped":
            dgamma, dbeta = dbeta, dgamma
        elif kind == "in place":
            dy *= gamma
        return dx, dalpha, dgamma, dbeta

    return backward


def _solution(dy: Any, x: Any, alpha: float, gamma: Any) -> Any:
    return reference.dynamic_tanh_backward(dy, reference.dynamic_tanh(x, alpha, gamma)[1])


DYT_BACKWARD = Exercise(
    name="dyt_backward",
    signature="dyt_backward(dy, x, alpha, gamma)",
    properties={
        "dx": 2,
        "dalpha": 2,
        "dgamma": 1,
        "dbeta": 1,
        "very large values": 1,
        "any number of axes": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_solution,
    forbids=("lnorm.reference.dynamic_tanh_backward", "lnorm.nn.DynamicTanh"),
    mistakes={
        "alpha left out of dx: the inner derivative": _backward("no alpha"),
        "gamma left out of dx": _backward("no gamma"),
        "x instead of alpha in dx": _backward("x"),
        "the slope of tanh without the square: 1 − tanh": _backward("not squared"),
        "the slope of tanh with a plus: 1 + tanh²": _backward("plus"),
        "the slope of tanh taken at x instead of at alpha·x": _backward("slope at x"),
        "the slope of tanh from alpha·x itself: 1 − (alpha·x)²": _backward("squared alpha x"),
        "the slope of a sigmoid instead of that of tanh": _backward("sigmoid"),
        "the slope of tanh left out": _backward("no slope"),
        "the slope of tanh from exponentials, which overflow": _backward("overflow"),
        "dalpha without x: the inner derivative": _backward("dalpha without x"),
        "dalpha multiplied by alpha": _backward("dalpha with alpha"),
        "dalpha without gamma": _backward("dalpha without gamma"),
        "dalpha without the slope of tanh": _backward("dalpha without slope"),
        "dalpha averaged instead of summed": _backward("dalpha averaged"),
        "dalpha for every feature, as if each had an alpha of its own": _backward("dalpha by feature"),
        "dalpha for every row": _backward("dalpha by row"),
        "dgamma from x instead of tanh": _backward("dgamma from x"),
        "dgamma multiplied by gamma": _backward("dgamma with gamma"),
        "dgamma with the slope of tanh instead of tanh": _backward("dgamma with slope"),
        "dgamma summed over the features instead of the batch": _backward("dgamma by row"),
        "dgamma and dbeta averaged over the batch instead of summed": _backward("averaged"),
        "dbeta multiplied by gamma": _backward("dbeta with gamma"),
        "dbeta multiplied by the slope of tanh": _backward("dbeta with slope"),
        "dgamma and dbeta swapped": _backward("swapped"),
        "dy overwritten in place": _backward("in place"),
    },
)
