"""Exercise 13.3: rounding to eight bits."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, UnusableError, arrays

SIZES = {"visible": (3, 5, 8), "graded": (4, 7, 11)}


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed)
    n, t, d = SIZES[level]
    x = rng.normal(size=(n, d)) * rng.uniform(0.2, 5.0, size=d)
    x[rng.integers(n), rng.integers(d)] = -rng.uniform(17.0, 25.0)  # the largest is negative
    deep = rng.normal(scale=100.0, size=(n, t, d)) * rng.uniform(0.1, 1.0, size=(n, 1, 1))
    empty = x.copy()
    empty[:, 1] = 0.0
    asked = ("q", "step")
    return [
        *(Case("one step for all values", {"x": x, "axis": None, "asks": each}) for each in asked),
        *(Case("one step for all values", {"x": deep, "axis": None, "asks": each}) for each in asked),
        *(Case("a step for each slice", {"x": x, "axis": 1, "asks": each}) for each in asked),
        *(Case("a step for each slice", {"x": x, "axis": 0, "asks": each}) for each in asked),
        *(Case("a step for each slice", {"x": deep, "axis": -1, "asks": each}) for each in asked),
        Case("q takes one byte a value", {"x": x, "axis": None, "asks": "bytes"}),
        *(Case("a slice of zeros", {"x": empty, "axis": 0, "asks": each}) for each in asked),
        Case("leaves its input alone", {"x": x, "axis": 1, "asks": "input"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    x = inputs["x"].copy()
    out = arrays(("q", "step"), answer(x, inputs["axis"]))
    if inputs["asks"] == "bytes":
        if out["q"].dtype.kind != "i":
            raise UnusableError(f"q: expected integers with a sign, got {out['q'].dtype}")
        return {"bytes a value of q": np.array(out["q"].dtype.itemsize), "q": out["q"]}
    return {**out, "x after the call": x} if inputs["asks"] == "input" else {inputs["asks"]: out[inputs["asks"]]}


def _quantizer(
    *,
    largest: Any = lambda x, axis: np.abs(x).max(axis, keepdims=True),
    levels: float = 127,
    rounded: Any = np.round,
    dtype: Any = np.int8,
    keep: bool = True,
    zeros: bool = True,
) -> Answer:
    """Return a quantizer made of these parts; by default the right one."""

    def quantize_int8(x: Any, axis: Any) -> Any:
        step = largest(x, axis) / levels
        if zeros:
            step = np.where(step == 0, 1.0, step)
        q = rounded(x / step).astype(dtype)
        return q, step if keep else np.squeeze(step)

    return quantize_int8


def _min_max(x: Any, axis: Any) -> Any:
    low, high = x.min(axis, keepdims=True), x.max(axis, keepdims=True)
    step = np.where(high > low, (high - low) / 255, 1.0)
    return (np.round((x - low) / step) - 128).astype(np.int8), step


def _dequantized(x: Any, axis: Any) -> Any:
    q, step = _quantizer()(x, axis)
    return q * step, step


def _inverse_step(x: Any, axis: Any) -> Any:
    q, step = _quantizer()(x, axis)
    return q, 1 / step


def _in_place(x: Any, axis: Any) -> Any:
    q, step = _quantizer()(x, axis)
    x /= step
    return q, step


def _other_axes(x: Any, axis: Any) -> Any:
    if axis is None:
        return np.abs(x).max(keepdims=True)
    return np.abs(x).max(tuple(i for i in range(x.ndim) if i != axis % x.ndim), keepdims=True)


QUANTIZE_INT8 = Exercise(
    name="quantize_int8",
    signature="quantize_int8(x, axis)",
    properties={
        "one step for all values": 2,
        "a step for each slice": 2,
        "q takes one byte a value": 1,
        "a slice of zeros": 1,
        "leaves its input alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_quantizer(),
    mistakes={
        "128 steps up to the largest value: it does not fit into int8": _quantizer(levels=128),
        "the largest value instead of the largest absolute value": _quantizer(
            largest=lambda x, axis: x.max(axis, keepdims=True)
        ),
        "cut off towards zero instead of rounded to the nearest": _quantizer(rounded=np.trunc),
        "rounded down instead of to the nearest": _quantizer(rounded=np.floor),
        "255 steps from the least to the largest value, so that 0 is no longer 0": _min_max,
        "the largest value taken over all other axes than the one named": _quantizer(largest=_other_axes),
        "one step for all, whatever axis says": _quantizer(
            largest=lambda x, axis: np.full_like(np.abs(x).max(axis, keepdims=True), np.abs(x).max())
        ),
        "integers of 64 bits": _quantizer(dtype=np.int64),
        "q left as floating-point numbers": _quantizer(dtype=np.float64),
        "a step without the axis it was taken over": _quantizer(keep=False),
        "a step of 0 where all values are 0, and a division by it": _quantizer(zeros=False),
        "q multiplied by the step again": _dequantized,
        "one over the step instead of the step": _inverse_step,
        "a step from three standard deviations: larger values wrap around": _quantizer(
            largest=lambda x, axis: 3 * x.std(axis, keepdims=True)
        ),
        "256 steps between the largest and its negative": _quantizer(levels=127.5),
        "x overwritten in place": _in_place,
    },
)
