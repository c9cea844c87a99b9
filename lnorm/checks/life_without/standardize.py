"""Exercise 12.3: weight standardization."""

from typing import Any

import numpy as np

from lnorm import reference
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array
from lnorm.checks.layer_norm.inputs import SIZES, uneven_rows


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 2)
    n, t, d = SIZES[level]

    def case(tests: str, w: np.ndarray, eps: float = 1e-12, **asks: str) -> Case:
        return Case(tests, {"w": w, "eps": eps, **asks})

    alike = 0.3 * uneven_rows(rng, t, d)
    alike[1] = 2.0
    return [
        case("a linear layer", uneven_rows(rng, t, d)),
        case("a linear layer", np.asfortranarray(uneven_rows(rng, n, t))),
        case("convolutions", uneven_rows(rng, n, t, 3, 2)),
        case("convolutions", uneven_rows(rng, t, n, 3)),
        case("two and three weights an output", uneven_rows(rng, n, 2)),
        case("two and three weights an output", uneven_rows(rng, t, 3)),
        case("eps inside the square root", 0.3 * uneven_rows(rng, n, d), 0.1),
        case("eps inside the square root", alike, 1e-3),
        case("leaves its input alone", np.asfortranarray(uneven_rows(rng, n, t)), asks="input"),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    w = inputs["w"].copy(order="K")
    result = array("the standardized weight", answer(w, inputs["eps"]))
    return {"the standardized weight": result} | ({"w after the call": w} if "asks" in inputs else {})


def _standardize(kind: str) -> Answer:
    """Return a standardization that is right but for one thing."""

    def standardize_weight(w: Any, eps: float) -> Any:
        outputs = tuple(range(1, w.ndim))
        axes = {
            "by input": 0,
            "all": None,
            "last axis": -1,
            "kernels": outputs[1:] or outputs,
            "inputs": 1,
        }.get(kind, outputs)
        mean, var = w.mean(axes, keepdims=True), w.var(axes, keepdims=True, ddof=int(kind == "unbiased"))
        centred = w if kind == "not centred" else w - mean
        if kind == "mean square":
            centred, var = w, np.mean(w**2, axes, keepdims=True)
        elif kind == "length":
            var = np.sum(centred**2, axes, keepdims=True)
        eps = {"no eps": 0.0, "eps fixed": 1e-5, "eps squared": eps**2}.get(kind, eps)
        scale = {"eps outside": np.sqrt(var) + eps, "no root": var + eps, "centred only": 1.0}.get(
            kind, np.sqrt(var + eps)
        )
        if kind == "in place":
            w -= mean
        return centred / scale / (np.sqrt(w[0].size) if kind == "fan-in" else 1.0)

    return standardize_weight


STANDARDIZE_WEIGHT = Exercise(
    name="standardize_weight",
    signature="standardize_weight(w, eps)",
    properties={
        "a linear layer": 1,
        "convolutions": 2,
        "two and three weights an output": 1,
        "eps inside the square root": 1,
        "leaves its input alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=lambda w, eps: reference.standardize_weight(w, eps)[0],
    forbids=(
        "lnorm.reference.standardize_weight",
        "lnorm.reference.layer_norm",
        "torch.nn.functional.layer_norm",
        "torch.nn.LayerNorm",
        "torch.layer_norm",
    ),
    mistakes={
        "mean and variance for each input instead of each output": _standardize("by input"),
        "one mean and one variance for all outputs": _standardize("all"),
        "mean and variance over the last axis only": _standardize("last axis"),
        "mean and variance for each kernel: the inputs not included": _standardize("kernels"),
        "mean and variance over the inputs, for each place of the kernel": _standardize("inputs"),
        "variance divided by the number of weights minus 1": _standardize("unbiased"),
        "the mean is not subtracted": _standardize("not centred"),
        "division by the root mean square, nothing subtracted": _standardize("mean square"),
        "only centred, not divided": _standardize("centred only"),
        "division by the length: a sum of squares, not their mean": _standardize("length"),
        "division by the variance instead of its root": _standardize("no root"),
        "divided by the root of the fan-in as well, as NFNets do": _standardize("fan-in"),
        "eps added to the standard deviation, outside of the root": _standardize("eps outside"),
        "eps squared before it is added": _standardize("eps squared"),
        "eps left out": _standardize("no eps"),
        "eps fixed at 1e-5, whatever the argument says": _standardize("eps fixed"),
        "w overwritten in place": _standardize("in place"),
    },
)
