"""Exercise 3.4: two inputs that LayerNorm cannot tell apart."""

import numpy as np

from lnorm import reference
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array
from lnorm.checks.layer_norm.inputs import SIZES, uneven_rows


def _collide_cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 3)
    n, _, d = SIZES[level]
    rows = {"x": uneven_rows(rng, n, d)}
    zero_mean = rng.normal(size=(n, d))
    zero_mean -= zero_mean.mean(axis=1, keepdims=True)
    return [
        Case("the same LayerNorm output", {**rows, "asks": "output"}),
        Case("the same LayerNorm output", {"x": uneven_rows(rng, 1, 4 * d), "asks": "output"}),
        Case("another mean in every row", {**rows, "asks": "mean"}),
        Case("another mean in every row", {"x": zero_mean, "asks": "mean"}),
        Case("another standard deviation in every row", {**rows, "asks": "std"}),
        Case("leaves its input alone", {**rows, "asks": "input"}),
    ]


def _collide_probe(answer: Answer, inputs: Inputs) -> Outputs:
    x = inputs["x"].copy()
    return {"x2": array("x2", answer(x)), "x after the call": x}


def _collide_verify(case: Case, outputs: Outputs) -> str:
    x, x2, asks = case.inputs["x"], outputs["x2"], case.inputs["asks"]
    if x2.shape != x.shape:
        return f"x2 has shape {x2.shape}, expected that of x, {x.shape}"
    if not np.isfinite(x2).all():
        return "x2 contains values that are not finite"
    x2 = x2.astype(float)
    std, std2 = x.std(axis=-1), x2.std(axis=-1)
    if np.any(std2 < 1e-6 * std):
        return "a row of x2 is constant: LayerNorm has nothing to divide by"
    y, y2 = (reference.layer_norm(each, each.shape[-1], eps=0.0)[0] for each in (x, x2))
    if np.allclose(y2, -y, atol=1e-8):
        return "the output is that of x with the opposite sign: the scale must be positive"
    if (error := np.abs(y - y2).max()) > 1e-8:
        return f"the LayerNorm outputs differ by up to {error:.2g}"
    if asks == "mean" and (same := np.abs(x2.mean(axis=-1) - x.mean(axis=-1)) < 1e-3 * std).any():
        return f"{same.sum()} of {len(same)} rows have the mean that they had in x"
    if asks == "std" and (same := np.abs(std2 / std - 1) < 1e-3).any():
        return f"{same.sum()} of {len(same)} rows have the standard deviation that they had in x"
    if asks == "input" and not np.array_equal(outputs["x after the call"], x):
        return "x was overwritten"
    return ""


def _in_place(x: np.ndarray) -> np.ndarray:
    x2 = 5 * x + 3 * x.std(axis=-1, keepdims=True)
    x += 1
    return x2


COLLIDE = Exercise(
    name="collide",
    signature="collide(x)",
    properties={
        "the same LayerNorm output": 2,
        "another mean in every row": 1,
        "another standard deviation in every row": 1,
        "leaves its input alone": 1,
    },
    cases=_collide_cases,
    probe=_collide_probe,
    solution=lambda x: 5 * x + 3 * x.std(axis=-1, keepdims=True),
    verify=_collide_verify,
    mistakes={
        "x itself is returned": lambda x: x.copy(),
        "only shifted: the standard deviation is the same": lambda x: x + 3,
        "only scaled: where a row's mean is 0, it stays 0": lambda x: 5 * x,
        "scaled by a negative number, which turns the output around": lambda x: -2 * x + 3,
        "a different factor for each feature": lambda x: x * np.linspace(1, 2, x.shape[-1]) + 3,
        "a different shift for each feature": lambda x: 2 * x + np.linspace(0, 1, x.shape[-1]),
        "values in another order": lambda x: 2 * x[..., ::-1] + 3,
        "a constant, for which LayerNorm has nothing to divide by": lambda x: np.full_like(x, 3.0),
        "the normalized values themselves": lambda x: reference.layer_norm(x, x.shape[-1], eps=0.0)[0],
        "squares": lambda x: x**2 + 3,
        "x overwritten in place": _in_place,
    },
)
