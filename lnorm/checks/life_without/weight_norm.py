"""Exercise 12.4: Weight Norm and its gradient."""

from typing import Any

import numpy as np

from lnorm import reference
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, arrays
from lnorm.checks.layer_norm.inputs import SIZES, uneven_rows

NAMES = ("w", "dv", "dg")


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 3)
    n, t, d = SIZES[level]

    def inputs(v: np.ndarray) -> dict[str, Any]:
        signs = rng.choice([-1.0, 1.0], size=len(v))
        return {"v": v, "g": signs * rng.uniform(0.5, 3.0, size=len(v)), "dw": rng.normal(loc=0.3, size=v.shape)}

    plain, alone = inputs(uneven_rows(rng, t, d)), inputs(np.asfortranarray(uneven_rows(rng, n, d)))
    return [
        *(Case(name, {**plain, "asks": (name,)}) for name in NAMES),
        *(Case(name, {**inputs(uneven_rows(rng, n, 2)), "asks": (name,)}) for name in NAMES),
        Case("convolutions", {**inputs(uneven_rows(rng, n, t, 3, 2)), "asks": NAMES}),
        Case("leaves its inputs alone", {**alone, "asks": "inputs"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    given = {name: inputs[name].copy(order="K") for name in ("v", "g", "dw")}
    out = arrays(NAMES, answer(*given.values()))
    if inputs["asks"] == "inputs":
        return out | {f"{name} after the call": each for name, each in given.items()}
    return {name: out[name] for name in inputs["asks"]}


def _solution(v: Any, g: Any, dw: Any) -> Any:
    w, cache = reference.weight_norm(v, g, axis=0)
    return w, *reference.weight_norm_backward(dw, cache)


def _along_v(case: Case, outputs: Outputs) -> str:
    """Point at the projection: a change of v's length does not change w."""
    v = case.inputs["v"]
    if outputs.get("dv", np.empty(0)).shape != v.shape:
        return ""
    largest = float(np.abs(np.sum(outputs["dv"] * v, axis=tuple(range(1, v.ndim)))).max())
    return f"Σ dv·v over an output is {largest:.2g}, should be 0" if largest > 1e-6 else ""


def _weight_norm(kind: str) -> Answer:
    """Return weight and gradients that are right but for one thing."""

    def weight_norm(v: Any, g: Any, dw: Any) -> Any:
        axes = tuple(range(1, v.ndim))
        length = np.sqrt(np.sum(v**2, axes, keepdims=True))
        if kind == "by input":
            length = np.sqrt(np.sum(v**2, 0, keepdims=True))
        elif kind == "whole":
            length = np.sqrt(np.sum(v**2))
        elif kind == "last axis":
            length = np.sqrt(np.sum(v**2, -1, keepdims=True))
        elif kind == "no root":
            length = length**2
        elif kind == "rms":
            length = length / np.sqrt(v[0].size)
        elif kind == "absolute":
            length = np.sum(np.abs(v), axes, keepdims=True)
        elif kind == "std":
            length = v.std(axes, keepdims=True)
        gain = g.reshape(-1, *(1 for _ in axes))
        u = v / length
        along = np.sum(dw * u, axes, keepdims=True)
        w, dv, dg = gain * u, (dw - u * along) * gain / length, along.reshape(g.shape)
        if kind == "no g":
            w = u
        elif kind == "no projection":
            dv = dw * gain / length
        elif kind == "plus":
            dv = (dw + u * along) * gain / length
        elif kind == "projection along w":
            dv = (dw - w * along) * gain / length
        elif kind == "projection along v":
            dv = (dw - v * np.sum(dw * v, axes, keepdims=True)) * gain / length
        elif kind == "dv without g":
            dv = dv / gain
        elif kind == "dv without length":
            dv = dv * length
        elif kind == "dv times length":
            dv = dv * length**2
        elif kind == "squared length":
            dv = dv / length
        elif kind == "along only":
            dv = u * along * gain / length
        elif kind == "dv is dw":
            dv = dw
        elif kind == "dg from v":
            dg = np.sum(dw * v, axes)
        elif kind == "dg from w":
            dg = dg * g
        elif kind == "dg averaged":
            dg = np.mean(dw * u, axes)
        elif kind == "dg without direction":
            dg = np.sum(dw, axes)
        elif kind == "dg length":
            dg = np.sqrt(np.sum(dw**2, axes))
        elif kind == "swapped":
            dv, dg = dg, dv
        elif kind == "in place":
            v /= length
        return w, dv, dg

    return weight_norm


WEIGHT_NORM = Exercise(
    name="weight_norm",
    signature="weight_norm(v, g, dw)",
    properties={"w": 2, "dv": 3, "dg": 2, "convolutions": 1, "leaves its inputs alone": 1},
    cases=_cases,
    probe=_probe,
    solution=_solution,
    forbids=(
        "lnorm.reference.weight_norm",
        "lnorm.reference.weight_norm_backward",
        "torch.nn.utils.weight_norm",
        "torch.nn.utils.parametrizations.weight_norm",
    ),
    explain=_along_v,
    mistakes={
        "one length for each input instead of each output": _weight_norm("by input"),
        "one length for the whole of v": _weight_norm("whole"),
        "a length for each row of a kernel: the last axis only": _weight_norm("last axis"),
        "the squared length, without the root": _weight_norm("no root"),
        "the root of the mean square instead of the length": _weight_norm("rms"),
        "the sum of absolute values instead of the length": _weight_norm("absolute"),
        "the standard deviation instead of the length": _weight_norm("std"),
        "g left out of w": _weight_norm("no g"),
        "the length taken for a constant: dv is not projected": _weight_norm("no projection"),
        "the projection added instead of subtracted": _weight_norm("plus"),
        "the projection along w instead of the unit vector": _weight_norm("projection along w"),
        "the projection along v instead of the unit vector": _weight_norm("projection along v"),
        "dv is the part along v, instead of what is left without it": _weight_norm("along only"),
        "g left out of dv": _weight_norm("dv without g"),
        "dv not divided by the length": _weight_norm("dv without length"),
        "dv multiplied by the length instead of divided": _weight_norm("dv times length"),
        "dv divided by the squared length": _weight_norm("squared length"),
        "dw handed on as dv": _weight_norm("dv is dw"),
        "dg from v instead of the unit vector": _weight_norm("dg from v"),
        "dg multiplied by g": _weight_norm("dg from w"),
        "dg averaged over the inputs instead of summed": _weight_norm("dg averaged"),
        "dg without the direction: a sum of dw": _weight_norm("dg without direction"),
        "dg as the length of dw": _weight_norm("dg length"),
        "dv and dg swapped": _weight_norm("swapped"),
        "v overwritten in place": _weight_norm("in place"),
    },
)
