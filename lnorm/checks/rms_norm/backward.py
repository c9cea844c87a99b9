"""Exercise 9.2: RMSNorm's backward pass."""

from typing import Any

import numpy as np

from lnorm import reference
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, arrays
from lnorm.checks.layer_norm.inputs import SIZES, affine, uneven_rows


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 1)
    n, t, d = SIZES[level]

    def inputs(x: np.ndarray, eps: float = 1e-12) -> dict[str, Any]:
        return {"dy": rng.normal(loc=0.3, size=x.shape), "x": x, "gamma": affine(rng, x.shape[-1])[0], "eps": eps}

    plain, alone = inputs(uneven_rows(rng, n, d)), inputs(np.asfortranarray(uneven_rows(rng, t, d)))
    return [
        Case("dx", {**plain, "asks": "dx"}),
        Case("dx", {**inputs(uneven_rows(rng, t, 2)), "asks": "dx"}),
        Case("dgamma", {**plain, "asks": "dgamma"}),
        Case("eps in every place", {**inputs(0.3 * uneven_rows(rng, n, d), 0.1), "asks": "all"}),
        Case("eps in every place", {**inputs(uneven_rows(rng, t, 1), 0.1), "asks": "all"}),
        Case("any number of axes", {**inputs(uneven_rows(rng, n, t, d)), "asks": "all"}),
        Case("leaves its inputs alone", {**alone, "asks": "inputs"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    given = {name: inputs[name].copy(order="K") for name in ("dy", "x", "gamma")}
    out = arrays(("dx", "dgamma"), answer(*given.values(), inputs["eps"]))
    if inputs["asks"] == "inputs":
        return out | {f"{name} after the call": each for name, each in given.items()}
    return out if inputs["asks"] == "all" else {inputs["asks"]: out[inputs["asks"]]}


def _solution(dy: Any, x: Any, gamma: Any, eps: float) -> Any:
    return reference.rms_norm_backward(dy, reference.rms_norm(x, x.shape[-1], gamma, eps)[1])


def _along_x(case: Case, outputs: Outputs) -> str:
    """Point at the second term: with it, and without eps, the gradient of every row is orthogonal to the row."""
    x = case.inputs["x"]
    if case.inputs["eps"] > 1e-6 or outputs.get("dx", np.empty(0)).shape != x.shape:
        return ""
    largest = float(np.abs(np.sum(outputs["dx"] * x, axis=-1)).max())
    return f"Σ dx·x over a row is {largest:.2g}, should be 0" if largest > 1e-6 else ""


def _mean(values: Any) -> Any:
    return values.mean(-1, keepdims=True)


def _backward(kind: str) -> Answer:
    """Return a backward pass that is right but for one thing."""

    def backward(dy: Any, x: Any, gamma: Any, eps: float) -> Any:
        d, batch = x.shape[-1], tuple(range(x.ndim - 1))
        r = np.sqrt(_mean(x**2) + eps)
        x_hat, g = x / r, dy * gamma
        taken = x_hat * _mean(g * x_hat)
        dx, dgamma = (g - taken) / r, np.sum(dy * x_hat, batch)
        if kind == "detached":
            dx = g / r
        elif kind == "mean term":
            dx = (g - _mean(g) - taken) / r
        elif kind == "LayerNorm":
            return reference.layer_norm_backward(dy, reference.layer_norm(x, d, gamma, eps=eps)[1])[:2]
        elif kind == "plus":
            dx = (g + taken) / r
        elif kind == "gamma late":
            dx = gamma * (dy - x_hat * _mean(dy * x_hat)) / r
        elif kind == "no gamma":
            dx = (dy - x_hat * _mean(dy * x_hat)) / r
        elif kind == "no gamma in the mean":
            dx = (g - x_hat * _mean(dy * x_hat)) / r
        elif kind == "no eps":
            dx = dx * r / np.sqrt(_mean(x**2))
        elif kind == "exact projection":
            dx = (g - x * np.sum(g * x, -1, keepdims=True) / np.sum(x**2, -1, keepdims=True)) / r
        elif kind == "x":
            dx = (g - x * _mean(g * x)) / r
        elif kind == "no x_hat":
            dx = (g - _mean(g * x_hat)) / r
        elif kind == "sum":
            dx = (g - d * taken) / r
        elif kind == "over D":
            dx = (g - taken / d) / r
        elif kind == "no division":
            dx = dx * r
        elif kind == "times r":
            dx = dx * r * r
        elif kind == "dgamma from x":
            dgamma = np.sum(dy * x, batch)
        elif kind == "dgamma with gamma":
            dgamma = dgamma * gamma
        elif kind == "mean over the batch":
            dgamma = np.mean(dy * x_hat, batch)
        elif kind == "by row":
            dgamma = np.sum(dy * x_hat, -1)
        elif kind == "dbeta":
            dgamma = np.sum(dy, batch)
        elif kind == "swapped":
            dx, dgamma = dgamma, dx
        elif kind == "in place":
            dy *= gamma
        return dx, dgamma

    return backward


RMS_NORM_BACKWARD = Exercise(
    name="rms_norm_backward",
    signature="rms_norm_backward(dy, x, gamma, eps)",
    properties={
        "dx": 4,
        "dgamma": 1,
        "eps in every place": 2,
        "any number of axes": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_solution,
    forbids=(
        "lnorm.reference.rms_norm_backward",
        "lnorm.reference.partial_rms_norm_backward",
        "lnorm.nn.RMSNorm",
        "torch.nn.functional.rms_norm",
        "torch.nn.RMSNorm",
        "torch.rms_norm",
    ),
    explain=_along_x,
    mistakes={
        "the scale taken for a constant: dx = g / r": _backward("detached"),
        "the mean of g is subtracted too, as LayerNorm's gradient asks": _backward("mean term"),
        "the backward pass of LayerNorm, its mean included": _backward("LayerNorm"),
        "the second term added instead of subtracted": _backward("plus"),
        "gamma applied after the projection instead of before it": _backward("gamma late"),
        "gamma left out of dx": _backward("no gamma"),
        "gamma left out of the mean in the second term": _backward("no gamma in the mean"),
        "eps left out of the final division": _backward("no eps"),
        "the component along x taken out in full, which is right for eps = 0 only": _backward("exact projection"),
        "x instead of x̂ in the second term": _backward("x"),
        "the mean of g·x̂ subtracted without the factor x̂": _backward("no x_hat"),
        "a sum over the row where a mean belongs": _backward("sum"),
        "an extra factor 1/D in the second term": _backward("over D"),
        "the final division by r left out": _backward("no division"),
        "multiplication by r where a division belongs": _backward("times r"),
        "dgamma computed from x instead of x̂": _backward("dgamma from x"),
        "dgamma multiplied by gamma": _backward("dgamma with gamma"),
        "dgamma averaged over the batch instead of summed": _backward("mean over the batch"),
        "dgamma summed over the features instead of the batch": _backward("by row"),
        "dgamma without x̂: this is the gradient of a bias": _backward("dbeta"),
        "dx and dgamma swapped": _backward("swapped"),
        "dy overwritten in place": _backward("in place"),
    },
)
