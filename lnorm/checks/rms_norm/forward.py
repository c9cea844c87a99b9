"""Exercise 9.1: RMSNorm's forward pass."""

from typing import Any

import numpy as np

from lnorm import reference
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array
from lnorm.checks.layer_norm.inputs import SIZES, affine, uneven_rows


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed)
    n, t, d = SIZES[level]

    def inputs(x: np.ndarray, eps: float = 1e-12) -> dict[str, Any]:
        return {"x": x, "gamma": affine(rng, x.shape[-1])[0], "eps": eps}

    some_zeros = 0.3 * uneven_rows(rng, t, d)
    some_zeros[1] = 0.0
    plain, alone = inputs(uneven_rows(rng, n, d)), inputs(np.asfortranarray(uneven_rows(rng, t, d)))
    return [
        Case("values without gain (gamma = 1)", {**plain, "gamma": np.ones(d)}),
        Case("values, with gamma", plain),
        Case("values, with gamma", inputs(uneven_rows(rng, 1, 2 * d))),
        Case("values, with gamma", alone),
        Case("eps inside the square root", inputs(some_zeros, 0.1)),
        Case("eps inside the square root", inputs(np.zeros((2, d)), 1e-5)),
        Case("rows of one and of two features", inputs(uneven_rows(rng, n, 1), 0.1)),
        Case("rows of one and of two features", inputs(uneven_rows(rng, t, 2))),
        Case("any number of axes", inputs(uneven_rows(rng, n, t, d))),
        Case("any number of axes", inputs(uneven_rows(rng, d))),
        Case("leaves its inputs alone", {**alone, "asks": "inputs"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    x, gamma = inputs["x"].copy(order="K"), inputs["gamma"].copy()
    y = array("y", answer(x, gamma, inputs["eps"]))
    return {"y": y} | ({"x after the call": x, "gamma after the call": gamma} if "asks" in inputs else {})


def _rms_norm(kind: str = "") -> Answer:
    """Return a forward pass that is right but for one thing; ``kind`` empty for the right one."""

    def rms_norm(x: Any, gamma: Any, eps: float) -> Any:
        axis = {"batch": 0, "all": None}.get(kind, -1)
        z = gamma * x if kind == "gamma first" else x
        gain = {"gamma first": 1.0, "no gamma": 1.0, "one plus gamma": 1 + gamma}.get(kind, gamma)
        eps = {"no eps": 0.0, "eps fixed": 1e-5, "eps squared": eps**2}.get(kind, eps)
        centred = z - z.mean(axis, keepdims=True)
        square = np.mean(z**2, axis, keepdims=True)
        if kind == "LayerNorm":
            z, square = centred, np.mean(centred**2, axis, keepdims=True)
        elif kind == "variance":
            square = np.mean(centred**2, axis, keepdims=True)
        elif kind == "norm":
            square = np.sum(z**2, axis, keepdims=True)
        elif kind == "unbiased":
            square = np.sum(z**2, axis, keepdims=True) / (z.shape[-1] - 1)
        elif kind == "eps in the sum":
            square, eps = (np.sum(z**2, axis, keepdims=True) + eps) / z.shape[-1], 0.0
        scale = np.sqrt(square + eps)
        if kind == "eps outside":
            scale = np.sqrt(square) + eps
        elif kind == "no root":
            scale = square + eps
        elif kind == "absolute":
            scale = np.abs(z).mean(axis, keepdims=True) + eps
        elif kind == "root of eps":
            scale = np.sqrt(square) + np.sqrt(eps)
        if kind == "in place":
            x /= scale
            return gain * x
        return gain * (z * scale if kind == "times" else z / scale)

    return rms_norm


RMS_NORM = Exercise(
    name="rms_norm",
    signature="rms_norm(x, gamma, eps)",
    properties={
        "values without gain (gamma = 1)": 2,
        "values, with gamma": 1,
        "eps inside the square root": 2,
        "rows of one and of two features": 1,
        "any number of axes": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=lambda x, gamma, eps: reference.rms_norm(x, x.shape[-1], gamma, eps)[0],
    forbids=(
        "lnorm.reference.rms_norm",
        "lnorm.reference.partial_rms_norm",
        "lnorm.nn.RMSNorm",
        "torch.nn.functional.rms_norm",
        "torch.nn.RMSNorm",
        "torch.rms_norm",
    ),
    mistakes={
        "the mean is subtracted (this is LayerNorm)": _rms_norm("LayerNorm"),
        "division by the standard deviation, which does not see the mean": _rms_norm("variance"),
        "division by the length of the row: the root of the sum of squares, not of their mean": _rms_norm("norm"),
        "division by D − 1 in the mean square": _rms_norm("unbiased"),
        "eps added to the root, outside of it": _rms_norm("eps outside"),
        "the root of eps added to the root": _rms_norm("root of eps"),
        "eps added to the sum of squares, before the division by D": _rms_norm("eps in the sum"),
        "eps squared before it is added": _rms_norm("eps squared"),
        "eps left out": _rms_norm("no eps"),
        "eps fixed at 1e-5, whatever the argument says": _rms_norm("eps fixed"),
        "1 + gamma as the gain (this is Gemma's)": _rms_norm("one plus gamma"),
        "gamma left out": _rms_norm("no gamma"),
        "gamma applied before the normalization": _rms_norm("gamma first"),
        "division by the mean square instead of its root": _rms_norm("no root"),
        "division by the mean absolute value": _rms_norm("absolute"),
        "multiplication where a division belongs": _rms_norm("times"),
        "the mean square over axis 0, the batch": _rms_norm("batch"),
        "one mean square for all rows": _rms_norm("all"),
        "x overwritten in place": _rms_norm("in place"),
    },
)
