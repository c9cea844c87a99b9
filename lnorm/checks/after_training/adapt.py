"""Exercise 13.7: BatchNorm's statistics, taken anew from other data, layer after layer."""

from itertools import pairwise
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, UnusableError, array

SIZES = {"visible": (6, (3, 4, 2)), "graded": (9, (4, 6, 5, 3))}  # rows, and the features from layer to layer
KEYS = ("W", "b", "gamma", "beta", "running_mean", "running_var")
STATISTICS = ("running_mean", "running_var")


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed)
    n, widths = SIZES[level]
    layers = tuple(
        (
            rng.normal(size=(d_out, d_in)),
            rng.normal(loc=1.0, size=d_out),
            rng.uniform(0.5, 2.0, size=d_out) * rng.choice([-1.0, 1.0], size=d_out),
            rng.normal(loc=1.0, size=d_out),
            rng.normal(size=d_out),
            rng.uniform(0.5, 3.0, size=d_out),
        )
        for d_in, d_out in pairwise(widths)
    )
    x = rng.normal(size=(n, widths[0])) * rng.uniform(0.5, 2.0, size=widths[0]) + rng.normal(size=widths[0])
    plain = {"layers": layers, "x": x, "eps": 1e-12}
    first = [Case("the first layer", {**plain, "asks": f"{name} of layer 0"}) for name in STATISTICS]
    behind = [
        Case("the layers behind it", {**plain, "asks": f"{name} of layer {i}"})
        for i in range(1, len(layers))
        for name in STATISTICS
    ]
    return [
        *first,
        *behind,
        Case("eps on the way", {**plain, "eps": 0.1, "asks": f"running_mean of layer {len(layers) - 1}"}),
        Case("gamma, beta and weights stay", {**plain, "asks": "parameters"}),
        Case("leaves its inputs alone", {**plain, "asks": "inputs"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    layers = [dict(zip(KEYS, (each.copy() for each in layer), strict=True)) for layer in inputs["layers"]]
    x = inputs["x"].copy()
    adapted = answer(layers, x, inputs["eps"])
    if not isinstance(adapted, (list, tuple)) or len(adapted) != len(inputs["layers"]):
        came = f"{len(adapted)} of them" if isinstance(adapted, (list, tuple)) else type(adapted).__name__
        raise UnusableError(f"expected a list of layers, as many as there were; got {came}")
    out: dict[str, np.ndarray] = {}
    for i, layer in enumerate(adapted):
        if not isinstance(layer, dict) or set(KEYS) - set(layer):
            raise UnusableError(f"expected a dict with the keys {', '.join(KEYS)} for each layer")
        out |= {f"{name} of layer {i}": array(name, layer[name]) for name in KEYS}
    if inputs["asks"] == "parameters":
        first = "running_mean of layer 0"  # layers returned as they were earn nothing
        return {name: value for name, value in out.items() if name == first or "running" not in name}
    if inputs["asks"] == "inputs":
        after = {f"{name} of old layer {i}": value for i, layer in enumerate(layers) for name, value in layer.items()}
        return {"x after the call": x, **after, "running_mean of layer 0": out["running_mean of layer 0"]}
    return {inputs["asks"]: out[inputs["asks"]]}


def _adapt(kind: str = "") -> Answer:
    """Return an adaptation that is right but for one thing."""

    def adapt_bn(layers: Any, x: Any, eps: float) -> Any:
        h, adapted = x, []
        for i, old in enumerate(layers):
            a = h @ old["W"].T + (0 if kind == "no b" else old["b"])
            seen = np.maximum(a, 0) if kind == "behind the ReLU" else a
            mean, var = seen.mean(0), seen.var(0, ddof=1 if kind == "unbiased" else 0)
            if kind == "standard deviation":
                var = np.sqrt(var)
            if kind == "around the old mean":
                var = np.mean((a - old["running_mean"]) ** 2, 0)
            if kind in ("momentum", "momentum turned"):
                new = 0.1 if kind == "momentum" else 0.9
                mean = (1 - new) * old["running_mean"] + new * mean
                var = (1 - new) * old["running_var"] + new * var
            if kind == "one for all features":
                mean, var = np.full_like(mean, a.mean()), np.full_like(var, a.var())
            if (kind == "only the first" and i) or (kind == "only the last" and i < len(layers) - 1):
                mean, var = old["running_mean"], old["running_var"]
            if kind == "mean alone":
                var = old["running_var"]
            layer = old if kind == "in place" else dict(old)
            layer |= {"running_mean": mean, "running_var": var}
            if kind == "affine reset":
                layer |= {"gamma": np.ones_like(mean), "beta": np.zeros_like(mean)}
            if kind == "into gamma":
                scale = old["gamma"] * np.sqrt((old["running_var"] + eps) / (var + eps))
                layer |= {"gamma": scale, "beta": old["beta"] - scale * mean}
            adapted.append(layer)
            if kind == "old on the way":
                mean, var = old["running_mean"], old["running_var"]
            if kind == "raw on the way":
                h = np.maximum(a, 0)
                continue
            gamma, beta = (1.0, 0.0) if kind == "bare on the way" else (old["gamma"], old["beta"])
            y = gamma * (a - mean) / np.sqrt(var + (0 if kind == "no eps" else eps)) + beta
            if kind == "eps outside":
                y = gamma * (a - mean) / (np.sqrt(var) + eps) + beta
            h = y if kind == "no ReLU" else np.maximum(y, 0)
        return adapted

    return adapt_bn


ADAPT_BN = Exercise(
    name="adapt_bn",
    signature="adapt_bn(layers, x, eps)",
    properties={
        "the first layer": 2,
        "the layers behind it": 3,
        "eps on the way": 1,
        "gamma, beta and weights stay": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_adapt(),
    forbids=("torch.nn.BatchNorm1d", "torch.nn.functional.batch_norm"),
    mistakes={
        "a running average with momentum 0.1 instead of the new statistics alone": _adapt("momentum"),
        "a running average with nine tenths of the new statistics": _adapt("momentum turned"),
        "the later layers see what the old statistics let through": _adapt("old on the way"),
        "the later layers see the earlier ones without their norms": _adapt("raw on the way"),
        "the ReLU forgotten between the layers": _adapt("no ReLU"),
        "statistics taken behind the ReLU instead of in front of the norm": _adapt("behind the ReLU"),
        "variance divided by N − 1": _adapt("unbiased"),
        "the standard deviation stored as running_var": _adapt("standard deviation"),
        "the variance taken around the old mean": _adapt("around the old mean"),
        "one mean and one variance for all features": _adapt("one for all features"),
        "nothing adapted: the statistics are the old ones": lambda layers, x, eps: [dict(layer) for layer in layers],
        "only the mean adapted": _adapt("mean alone"),
        "only the first layer adapted": _adapt("only the first"),
        "only the last layer adapted": _adapt("only the last"),
        "b left out in front of the norm": _adapt("no b"),
        "gamma and beta left out on the way to the next layer": _adapt("bare on the way"),
        "gamma and beta set back to 1 and 0": _adapt("affine reset"),
        "gamma and beta changed to make up for the new statistics": _adapt("into gamma"),
        "eps forgotten on the way to the next layer": _adapt("no eps"),
        "eps added to the standard deviation, outside the square root": _adapt("eps outside"),
        "the old layers overwritten": _adapt("in place"),
    },
)
