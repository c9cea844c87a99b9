"""Exercise 4.4: LayerNorm whose backward pass takes mean and variance for constants."""

from typing import Any

import numpy as np

from lnorm import reference
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, arrays
from lnorm.checks.layer_norm.inputs import SIZES, affine, uneven_rows

NAMES = ("y", "dx", "dgamma", "dbeta")


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 3)
    n, t, d = SIZES[level]

    def inputs(x: np.ndarray, eps: float = 1e-12) -> dict[str, Any]:
        gamma, beta = affine(rng, x.shape[-1])
        return {"x": x, "dy": rng.normal(loc=0.5, size=x.shape), "gamma": gamma, "beta": beta, "eps": eps}

    plain, alone = inputs(uneven_rows(rng, n, d)), inputs(np.asfortranarray(uneven_rows(rng, t, d)))
    return [
        Case("y is that of LayerNorm", {**plain, "asks": ("y",)}),
        Case("dx with constant statistics", {**plain, "asks": ("dx",)}),
        Case("dx with constant statistics", {**inputs(uneven_rows(rng, t, 3)), "asks": ("dx",)}),
        Case("dgamma and dbeta", {**plain, "asks": ("dgamma", "dbeta")}),
        Case("eps forwards and backwards", {**inputs(0.3 * uneven_rows(rng, n, d), 0.1), "asks": NAMES}),
        Case("any number of batch axes", {**inputs(uneven_rows(rng, n, t, d)), "asks": NAMES}),
        Case("leaves its inputs alone", {**alone, "asks": "inputs"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    given = {name: inputs[name].copy(order="K") for name in ("x", "dy", "gamma", "beta")}
    out = arrays(NAMES, answer(*given.values(), inputs["eps"]))
    if inputs["asks"] == "inputs":
        return out | {f"{name} after the call": each for name, each in given.items()}
    return {name: out[name] for name in inputs["asks"]}


def _detached(kind: str = "") -> Answer:
    """Return forward and backward that are right but for one thing; ``kind`` empty for the right ones."""

    def detached_layer_norm(x: Any, dy: Any, gamma: Any, beta: Any, eps: float) -> Any:
        axis, d = (0 if kind == "batch" else -1), x.shape[-1]
        mean, var = x.mean(axis, keepdims=True), x.var(axis, keepdims=True, ddof=int(kind == "unbiased"))
        s = np.sqrt(var) + eps if kind == "eps outside" else np.sqrt(var + eps)
        x_hat, g = (x - mean) / s, dy * gamma
        y = gamma * x_hat + beta
        dx = g / s
        batch = tuple(range(x.ndim - 1))
        dgamma, dbeta = np.sum(dy * x_hat, batch), np.sum(dy, batch)
        if kind == "not detached":
            dx = reference.layer_norm_backward(dy, reference.layer_norm(x, d, gamma, beta, eps)[1])[0]
        elif kind == "mean not detached":
            dx = (g - g.mean(-1, keepdims=True)) / s
        elif kind == "variance not detached":
            dx = (g - x_hat * np.mean(g * x_hat, -1, keepdims=True)) / s
        elif kind == "x detached":
            dx = np.zeros_like(dx)
        elif kind == "all detached":
            dx, dgamma = np.zeros_like(dx), np.zeros_like(dgamma)
        elif kind == "g":
            dx = g
        elif kind == "no gamma":
            dx = dy / s
        elif kind == "times s":
            dx = g * s
        elif kind == "variance":
            dx = g / s**2
        elif kind == "no eps":
            dx = g / x.std(-1, keepdims=True)
        elif kind == "times x_hat":
            dx = g * x_hat / s
        elif kind == "dgamma from x":
            dgamma = np.sum(dy * x, batch)
        elif kind == "averaged":
            dgamma, dbeta = dgamma / (x.size / d), dbeta / (x.size / d)
        elif kind == "swapped":
            dgamma, dbeta = dbeta, dgamma
        elif kind == "no beta":
            y = gamma * x_hat
        elif kind == "centred only":
            y = gamma * (x - mean) + beta
        elif kind == "in place":
            dy *= gamma
        return y, dx, dgamma, dbeta

    return detached_layer_norm


DETACHED_LAYER_NORM = Exercise(
    name="detached_layer_norm",
    signature="detached_layer_norm(x, dy, gamma, beta, eps)",
    properties={
        "y is that of LayerNorm": 1,
        "dx with constant statistics": 3,
        "dgamma and dbeta": 1,
        "eps forwards and backwards": 1,
        "any number of batch axes": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_detached(),
    forbids=(
        "lnorm.reference.layer_norm",
        "lnorm.reference.detached_layer_norm",
        "lnorm.reference.detached_layer_norm_backward",
        "torch.nn.functional.layer_norm",
        "torch.nn.LayerNorm",
        "torch.layer_norm",
    ),
    mistakes={
        "nothing detached: dx is that of LayerNorm": _detached("not detached"),
        "only the variance detached: the mean of g is subtracted": _detached("mean not detached"),
        "only the mean detached: the component along x̂ is taken out": _detached("variance not detached"),
        "x detached instead of its statistics: dx is zero": _detached("x detached"),
        "x̂ detached: dx and dgamma are zero": _detached("all detached"),
        "the division detached too: dx is g": _detached("g"),
        "gamma left out of dx": _detached("no gamma"),
        "multiplication by s where a division belongs": _detached("times s"),
        "dx divided by the variance instead of its square root": _detached("variance"),
        "eps left out of dx": _detached("no eps"),
        "dx multiplied by x̂": _detached("times x_hat"),
        "dgamma computed from x instead of x̂": _detached("dgamma from x"),
        "dgamma and dbeta averaged over the batch instead of summed": _detached("averaged"),
        "dgamma and dbeta swapped": _detached("swapped"),
        "beta left out of y": _detached("no beta"),
        "y centred and not divided": _detached("centred only"),
        "variance divided by D − 1 instead of D": _detached("unbiased"),
        "eps added to the standard deviation, outside the square root": _detached("eps outside"),
        "mean and variance over axis 0, the batch": _detached("batch"),
        "dy overwritten in place": _detached("in place"),
    },
)
