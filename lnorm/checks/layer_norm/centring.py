"""Exercise 3.5: LayerNorm as RMSNorm, its centring folded into the layer before it."""

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, arrays
from lnorm.checks.layer_norm.inputs import SIZES


def _fold_cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 4)
    _, d_in, d_out = SIZES[level]
    W, b = rng.normal(size=(d_out, d_in)) + rng.normal(size=(d_out, 1)), rng.normal(loc=2.0, size=d_out)
    x = rng.normal(size=(9, d_in))
    return [
        Case("W_c", {"W": W, "b": b, "asks": "W_c"}),
        Case("b_c", {"W": W, "b": b, "asks": "b_c"}),
        Case("RMSNorm of the new layer is LayerNorm of the old one", {"W": W, "b": b, "x": x, "asks": "layer"}),
        Case("leaves its inputs alone", {"W": W, "b": b, "asks": "inputs"}),
    ]


def _fold_probe(answer: Answer, inputs: Inputs) -> Outputs:
    W, b = inputs["W"].copy(), inputs["b"].copy()
    out = arrays(("W_c", "b_c"), answer(W, b))
    if inputs["asks"] == "inputs":
        return out | {"W after the call": W, "b after the call": b}
    if inputs["asks"] == "layer":
        z = inputs["x"] @ out["W_c"].T + out["b_c"]
        return {"RMSNorm(W_c x + b_c)": z / np.sqrt(np.mean(z**2, axis=-1, keepdims=True) + 0.1)}
    return {inputs["asks"]: out[inputs["asks"]]}


RMS_FROM_LN = Exercise(
    name="rms_from_ln",
    signature="rms_from_ln(W, b)",
    properties={
        "W_c": 2,
        "b_c": 1,
        "RMSNorm of the new layer is LayerNorm of the old one": 2,
        "leaves its inputs alone": 1,
    },
    cases=_fold_cases,
    probe=_fold_probe,
    solution=lambda W, b: (W - W.mean(axis=0), b - b.mean()),
    forbids=("lnorm.nn.fold_centring",),
    mistakes={
        "each row of W centred, instead of each column": lambda W, b: (W - W.mean(1, keepdims=True), b - b.mean()),
        "b left as it was": lambda W, b: (W - W.mean(0), b.copy()),
        "W left as it was": lambda W, b: (W.copy(), b - b.mean()),
        "one mean for the whole of W": lambda W, b: (W - W.mean(), b - b.mean()),
        "the columns of W divided by their standard deviation too": lambda W, b: (
            (W - W.mean(0)) / W.std(0),
            b - b.mean(),
        ),
        "b_c set to zero": lambda W, b: (W - W.mean(0), np.zeros_like(b)),
        "the mean added instead of subtracted": lambda W, b: (W + W.mean(0), b + b.mean()),
        "W_c transposed": lambda W, b: ((W - W.mean(0)).T, b - b.mean()),
        "sums subtracted instead of means": lambda W, b: (W - W.sum(0), b - b.sum()),
        "W_c and b_c swapped": lambda W, b: (b - b.mean(), W - W.mean(0)),
    },
)
