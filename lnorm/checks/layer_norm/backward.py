"""Exercise 3.2: LayerNorm's backward pass."""

from typing import Any

import numpy as np

from lnorm import reference
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, arrays
from lnorm.checks.layer_norm.inputs import SIZES, affine, axes_of, uneven_rows


def _backward_cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 1)
    n, t, d = SIZES[level]

    def inputs(x: np.ndarray, shape: tuple[int, ...], eps: float) -> dict[str, Any]:
        gamma, _ = affine(rng, *shape)
        return {"dy": rng.normal(size=x.shape), "x": x, "normalized_shape": shape, "gamma": gamma, "eps": eps}

    plain = inputs(uneven_rows(rng, n, t, d), (d,), 1e-12)
    alone = inputs(np.asfortranarray(uneven_rows(rng, n, d)), (d,), 1e-12)
    return [
        *(Case(f"{name}", {**plain, "asks": name}) for name in ("dx", "dgamma", "dbeta")),
        Case("dx", {**inputs(uneven_rows(rng, t, 3), (3,), 1e-12), "asks": "dx"}),
        Case("eps in every place", {**inputs(0.3 * uneven_rows(rng, n, d), (d,), 0.1), "asks": "all"}),
        Case("several axes at once", {**inputs(uneven_rows(rng, n, t, d), (t, d), 1e-12), "asks": "all"}),
        Case("leaves its inputs alone", {**alone, "asks": "inputs"}),
    ]


def _backward_probe(answer: Answer, inputs: Inputs) -> Outputs:
    dy, x, gamma = (inputs[name].copy(order="K") for name in ("dy", "x", "gamma"))
    result = answer(dy, x, inputs["normalized_shape"], gamma, inputs["eps"])
    out = arrays(("dx", "dgamma", "dbeta"), result)
    after = {"dy after the call": dy, "x after the call": x, "gamma after the call": gamma}
    if inputs["asks"] == "inputs":
        return out | after
    return out if inputs["asks"] == "all" else {inputs["asks"]: out[inputs["asks"]]}


def _backward_solution(dy: Any, x: Any, shape: Any, gamma: Any, eps: float) -> Any:
    return reference.layer_norm_backward(dy, reference.layer_norm(x, shape, gamma, eps=eps)[1])


def _row_sum(case: Case, outputs: Outputs) -> str:
    """Point at the mean term: with it, the gradient of every row sums to zero."""
    if "dx" not in outputs or outputs["dx"].shape != case.inputs["x"].shape:
        return ""
    dx = outputs["dx"]
    largest = float(np.abs(dx.sum(axis=axes_of(dx, case.inputs["normalized_shape"]))).max())
    return f"Σdx over a row is {largest:.2g}, should be 0" if largest > 1e-6 else ""


def _parts(dy: Any, x: Any, shape: Any, gamma: Any, eps: float) -> tuple[Any, Any, Any, Any, Any]:
    """Return axes, x_hat, s, g = dy·gamma, and the batch axes: what every wrong backward below starts from."""
    axes = axes_of(x, shape)
    s = np.sqrt(x.var(axes, keepdims=True) + eps)
    return axes, (x - x.mean(axes, keepdims=True)) / s, s, dy * gamma, tuple(range(axes[0]))


def _mean(values: Any, axes: Any) -> Any:
    return values.mean(axes, keepdims=True)


def _wrong_backward(kind: str) -> Answer:
    """Return a backward pass that is right but for one thing."""

    def backward(dy: Any, x: Any, shape: Any, gamma: Any, eps: float) -> Any:
        axes, x_hat, s, g, batch = _parts(dy, x, shape, gamma, eps)
        size = int(np.prod(shape))
        dx = (g - _mean(g, axes) - x_hat * _mean(g * x_hat, axes)) / s
        dgamma, dbeta = np.sum(dy * x_hat, axis=batch), np.sum(dy, axis=batch)
        if kind == "no mean term":
            dx = (g - x_hat * _mean(g * x_hat, axes)) / s
        elif kind == "no x_hat term":
            dx = (g - _mean(g, axes)) / s
        elif kind == "constants":
            dx = g / s
        elif kind == "gamma late":
            dx = gamma * (dy - _mean(dy, axes) - x_hat * _mean(dy * x_hat, axes)) / s
        elif kind == "no gamma":
            dx = (dy - _mean(dy, axes) - x_hat * _mean(dy * x_hat, axes)) / s
        elif kind == "no eps":
            dx = dx * s / x.std(axes, keepdims=True)
        elif kind == "unbiased":
            dx = (g - _mean(g, axes) - x_hat * np.sum(g * x_hat, axes, keepdims=True) / (size - 1)) / s
        elif kind == "times s":
            dx = dx * s * s
        elif kind == "no division":
            dx = dx * s
        elif kind == "sums":
            dx = (g - g.sum(axes, keepdims=True) - x_hat * np.sum(g * x_hat, axes, keepdims=True)) / s
        elif kind == "over D":
            dx = dx / size
        elif kind == "dgamma from x":
            dgamma = np.sum(dy * x, axis=batch)
        elif kind == "dgamma with gamma":
            dgamma = dgamma * gamma
        elif kind == "means over the batch":
            dgamma, dbeta = np.mean(dy * x_hat, axis=batch), np.mean(dy, axis=batch)
        elif kind == "parameters by row":
            dgamma, dbeta = np.sum(dy * x_hat, axis=axes), np.sum(dy, axis=axes)
        elif kind == "dbeta with gamma":
            dbeta = np.sum(g, axis=batch)
        elif kind == "swapped":
            dgamma, dbeta = dbeta, dgamma
        elif kind == "in place":
            dy *= gamma
        return dx, dgamma, dbeta

    return backward


LAYER_NORM_BACKWARD = Exercise(
    name="layer_norm_backward",
    signature="layer_norm_backward(dy, x, normalized_shape, gamma, eps)",
    properties={
        "dx": 4,
        "dgamma": 1,
        "dbeta": 1,
        "eps in every place": 2,
        "several axes at once": 1,
        "leaves its inputs alone": 1,
    },
    cases=_backward_cases,
    probe=_backward_probe,
    solution=_backward_solution,
    forbids=(
        "lnorm.reference.layer_norm_backward",
        "lnorm.nn.LayerNorm",
        "torch.nn.functional.layer_norm",
        "torch.nn.LayerNorm",
        "torch.layer_norm",
    ),
    explain=_row_sum,
    mistakes={
        "dx lacks the mean term: the mean of g is not subtracted": _wrong_backward("no mean term"),
        "dx lacks the x̂ term: its component along x̂ is not taken out": _wrong_backward("no x_hat term"),
        "mean and variance treated as constants: dx = g / s": _wrong_backward("constants"),
        "gamma applied after the projection instead of before it": _wrong_backward("gamma late"),
        "gamma left out of dx": _wrong_backward("no gamma"),
        "eps left out of the final division": _wrong_backward("no eps"),
        "variance differentiated as if divided by D − 1": _wrong_backward("unbiased"),
        "multiplication by s where a division belongs": _wrong_backward("times s"),
        "the final division by s left out": _wrong_backward("no division"),
        "sums over the row where means belong": _wrong_backward("sums"),
        "an extra factor 1/D in dx": _wrong_backward("over D"),
        "dgamma computed from x instead of x̂": _wrong_backward("dgamma from x"),
        "dgamma multiplied by gamma": _wrong_backward("dgamma with gamma"),
        "dgamma and dbeta averaged over the batch instead of summed": _wrong_backward("means over the batch"),
        "dgamma and dbeta summed over the features instead of the batch": _wrong_backward("parameters by row"),
        "dbeta multiplied by gamma": _wrong_backward("dbeta with gamma"),
        "dgamma and dbeta swapped": _wrong_backward("swapped"),
        "dy overwritten in place": _wrong_backward("in place"),
    },
)
