"""Exercise 9.3: RMSNorm whose scale comes from a part of the row."""

import math
from typing import Any

import numpy as np

from lnorm import reference
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array
from lnorm.checks.layer_norm.inputs import SIZES, affine, uneven_rows


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 2)
    n, t, d = SIZES[level]

    def inputs(x: np.ndarray, p: float, eps: float = 1e-12) -> dict[str, Any]:
        return {"x": x, "p": p, "gamma": affine(rng, x.shape[-1])[0], "eps": eps}

    # Every p · D is a whole number that floats hold exactly, or far from one: nobody has to think about rounding.
    plain, alone = inputs(uneven_rows(rng, n, 12), 0.25), inputs(np.asfortranarray(uneven_rows(rng, t, 8)), 0.5)
    return [
        Case("the scale of the first k features", plain),
        Case("the scale of the first k features", {**alone, "gamma": np.ones(8)}),
        Case("k is rounded up", inputs(uneven_rows(rng, n, d), 0.3)),
        Case("k is rounded up", inputs(uneven_rows(rng, t, d), 0.6)),
        Case("k is rounded up", inputs(uneven_rows(rng, n, d), 0.01)),
        Case("p = 1 is RMSNorm", inputs(uneven_rows(rng, n, d), 1.0)),
        Case("eps inside the square root", inputs(0.3 * uneven_rows(rng, n, 8), 0.25, 0.1)),
        Case("any number of axes", inputs(uneven_rows(rng, n, t, 2 * d), 0.5)),
        Case("leaves its inputs alone", {**alone, "asks": "inputs"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    x, gamma = inputs["x"].copy(order="K"), inputs["gamma"].copy()
    y = array("y", answer(x, inputs["p"], gamma, inputs["eps"]))
    return {"y": y} | ({"x after the call": x, "gamma after the call": gamma} if "asks" in inputs else {})


def _prms_norm(kind: str) -> Answer:
    """Return partial RMSNorm that is right but for one thing."""

    def prms_norm(x: Any, p: float, gamma: Any, eps: float) -> Any:
        d = x.shape[-1]
        k = {
            "floor": max(1, math.floor(p * d)),
            "int": int(p * d),
            "round": max(1, round(p * d)),
            "one more": min(d, math.floor(p * d) + 1),
            "complement": max(1, math.ceil((1 - p) * d)),
            "whole row": d,
        }.get(kind, math.ceil(p * d))
        part = x[..., :k]
        if kind == "last":
            part = x[..., d - k :]
        elif kind == "strided":
            part = x[..., :: max(1, d // k)]
        elif kind == "largest":
            part = np.sort(np.abs(x), -1)[..., d - k :]
        elif kind == "rows":
            part = x[: math.ceil(p * len(x))]
        axis = 0 if kind == "rows" else -1
        mean_square = np.sum(part**2, axis, keepdims=True) / np.float64(
            part.shape[axis]
        )  # 0/0, not a warning, for k = 0
        if kind == "over D":
            mean_square = np.sum(part**2, -1, keepdims=True) / d
        elif kind == "variance":
            mean_square = part.var(-1, keepdims=True)
        elif kind == "scaled by p":
            mean_square = mean_square * p
        scale = np.sqrt(mean_square + eps)
        if kind == "eps outside":
            scale = np.sqrt(mean_square) + eps
        elif kind == "no eps":
            scale = np.sqrt(mean_square)
        y = x / scale
        if kind == "only the part":
            y[..., k:] = x[..., k:]
        elif kind == "zeros elsewhere":
            y[..., k:] = 0.0
        elif kind == "cut":
            return gamma[:k] * y[..., :k]
        elif kind == "in place":
            x /= scale
        return y if kind == "no gamma" else gamma * y

    return prms_norm


PRMS_NORM = Exercise(
    name="prms_norm",
    signature="prms_norm(x, p, gamma, eps)",
    properties={
        "the scale of the first k features": 2,
        "k is rounded up": 1,
        "p = 1 is RMSNorm": 1,
        "eps inside the square root": 1,
        "any number of axes": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=lambda x, p, gamma, eps: reference.partial_rms_norm(x, p, gamma, eps)[0],
    forbids=(
        "lnorm.reference.partial_rms_norm",
        "lnorm.reference.rms_norm",
        "lnorm.nn.RMSNorm",
        "torch.nn.functional.rms_norm",
        "torch.nn.RMSNorm",
        "torch.rms_norm",
    ),
    mistakes={
        "k rounded down": _prms_norm("floor"),
        "k rounded down, even to 0": _prms_norm("int"),
        "k rounded to the nearest": _prms_norm("round"),
        "k one too large where p·D is a whole number": _prms_norm("one more"),
        "the share 1 − p instead of p": _prms_norm("complement"),
        "the whole row, whatever p says (this is RMSNorm)": _prms_norm("whole row"),
        "the last k features instead of the first": _prms_norm("last"),
        "every so-manyth feature instead of the first k": _prms_norm("strided"),
        "the k largest values instead of the first": _prms_norm("largest"),
        "the first rows instead of the first features": _prms_norm("rows"),
        "the sum of k squares divided by D instead of k": _prms_norm("over D"),
        "the mean square multiplied by p": _prms_norm("scaled by p"),
        "the mean of the k features subtracted in their mean square": _prms_norm("variance"),
        "only the first k features divided, the others left as they are": _prms_norm("only the part"),
        "the features that are not in the estimate set to zero": _prms_norm("zeros elsewhere"),
        "only the first k features returned": _prms_norm("cut"),
        "eps added to the root, outside of it": _prms_norm("eps outside"),
        "eps left out": _prms_norm("no eps"),
        "gamma left out": _prms_norm("no gamma"),
        "x overwritten in place": _prms_norm("in place"),
    },
)
