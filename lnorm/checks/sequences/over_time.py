"""Exercise 6.2: one mean and one variance for every sequence, padding left out."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

SIZES = {"visible": (3, 5, 4), "graded": (4, 7, 6)}


def _batch(rng: np.random.Generator, n: int, t: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sequences that differ in mean and scale, and a mask that keeps 2 or more tokens of each, in any places."""
    x = rng.normal(scale=2.0, size=(n, 1, 1)) + rng.uniform(0.5, 3.0, size=(n, 1, 1)) * rng.normal(size=(n, t, d))
    mask = np.arange(t) < rng.integers(2, t, size=(n, 1))
    return x, np.stack([rng.permutation(row) for row in mask])


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 1)
    n, t, d = SIZES[level]

    def case(tests: str, padding: float = 0.0, eps: float = 1e-12, scale: float = 1.0, **more: Any) -> Case:
        x, mask = _batch(rng, n, t, d)
        if tests == "a sequence without any token":
            mask[1] = False
        return Case(tests, {"x": np.where(mask[..., None], scale * x, padding), "mask": mask, "eps": eps, **more})

    small, kept = rng.normal(size=(2, 3, 1)), np.array([[True, True, False], [True, True, True]])
    return [
        case("the real tokens", asks="real tokens"),
        Case("the real tokens", {"x": small * kept[..., None], "mask": kept, "eps": 1e-12, "asks": "real tokens"}),
        case("padding may hold anything", padding=1e3, asks="real tokens"),
        case("padding may hold anything", padding=np.nan, asks="real tokens"),
        case("zeros where padding was"),
        case("zeros where padding was", padding=np.nan),
        case("eps inside the square root", eps=0.1, scale=0.3, asks="real tokens"),
        case("a sequence without any token"),
        case("leaves its inputs alone", padding=7.0, asks="inputs"),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    x, mask = inputs["x"].copy(), inputs["mask"].copy()
    y = array("y", answer(x, mask, inputs["eps"]))
    if inputs.get("asks") == "real tokens" and y.shape == x.shape:
        return {"y of the real tokens": y[inputs["mask"]]}
    return {"y": y} | ({"x after the call": x, "mask after the call": mask} if "asks" in inputs else {})


def _over_time(
    keep_mean: Any = None, axes: Any = (1, 2), ddof: int = 0, outside: bool = False, fill: bool = True
) -> Answer:
    """Return the right answer, or one with another axis, divisor or place of eps."""

    def normalize(x: np.ndarray, mask: np.ndarray, eps: float) -> np.ndarray:
        keep = np.broadcast_to(mask[..., None], x.shape)
        if keep_mean is not None:
            keep = keep_mean(keep)
        clean = np.where(keep, x, 0.0)
        count = np.maximum(keep.sum(axes, keepdims=True), 1)
        centred = x - clean.sum(axes, keepdims=True) / count
        var = np.where(keep, centred**2, 0.0).sum(axes, keepdims=True) / np.maximum(count - ddof, 1)
        y = centred / (np.sqrt(var) + eps if outside else np.sqrt(var + eps))
        return np.where(mask[..., None], y, 0.0) if fill else y

    return normalize


def _counts_padding(x: np.ndarray, mask: np.ndarray, eps: float) -> np.ndarray:
    keep = np.broadcast_to(mask[..., None], x.shape)
    size = x[0].size
    centred = x - np.where(keep, x, 0.0).sum((1, 2), keepdims=True) / size
    var = np.where(keep, centred**2, 0.0).sum((1, 2), keepdims=True) / size
    return np.where(keep, centred / np.sqrt(var + eps), 0.0)


def _centred_padding(x: np.ndarray, mask: np.ndarray, eps: float) -> np.ndarray:
    keep = np.broadcast_to(mask[..., None], x.shape)
    count = np.maximum(keep.sum((1, 2), keepdims=True), 1)
    clean = np.where(keep, x, 0.0)
    centred = clean - clean.sum((1, 2), keepdims=True) / count
    var = np.sum(centred**2, (1, 2), keepdims=True) / count
    return np.where(keep, centred / np.sqrt(var + eps), 0.0)


def _times_mask(x: np.ndarray, mask: np.ndarray, eps: float) -> np.ndarray:
    keep = mask[..., None].astype(float)
    count = np.maximum(keep.sum((1, 2), keepdims=True) * x.shape[2], 1)
    centred = x - (x * keep).sum((1, 2), keepdims=True) / count
    var = (centred**2 * keep).sum((1, 2), keepdims=True) / count
    return centred / np.sqrt(var + eps) * keep


def _empty_divided(x: np.ndarray, mask: np.ndarray, eps: float) -> np.ndarray:
    y = _over_time()(x, mask, eps)
    y[~mask.any(axis=1)] = np.nan
    return y


def _padding_at_the_end(x: np.ndarray, mask: np.ndarray, eps: float) -> np.ndarray:
    return _over_time()(x, np.arange(x.shape[1]) < mask.sum(axis=1, keepdims=True), eps)


def _in_place(x: np.ndarray, mask: np.ndarray, eps: float) -> np.ndarray:
    x[~mask] = 0
    return _over_time()(x, mask, eps)


MASKED_LAYER_NORM_OVER_TIME = Exercise(
    name="masked_layer_norm_over_time",
    signature="masked_layer_norm_over_time(x, mask, eps)",
    properties={
        "the real tokens": 2,
        "padding may hold anything": 2,
        "zeros where padding was": 1,
        "eps inside the square root": 1,
        "a sequence without any token": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_over_time(),
    forbids=("lnorm.reference.masked_batch_norm", "lnorm.reference.layer_norm"),
    mistakes={
        "mean and variance of each token by itself (this is LayerNorm)": _over_time(axes=(2,)),
        "mean and variance of each feature by itself (this is InstanceNorm)": _over_time(axes=(1,)),
        "one mean and one variance for all sequences": _over_time(axes=(0, 1, 2)),
        "the mask is ignored, padding counts like any token": _over_time(keep_mean=np.ones_like),
        "sums over the real tokens, divided by the number of all": _counts_padding,
        "padding, set to zero, counts in the variance: after centring it is no longer zero": _centred_padding,
        "padding removed by multiplication with the mask, which leaves NaN": _times_mask,
        "padding normalized like the rest instead of set to zero": _over_time(fill=False),
        "the mask upside down: padding counts, and tokens do not": _over_time(keep_mean=np.logical_not),
        "the mask read as a length, as if padding were always at the end": _padding_at_the_end,
        "a sequence without tokens gives NaN: zero divided by zero": _empty_divided,
        "variance divided by the number of elements minus 1": _over_time(ddof=1),
        "eps added to the standard deviation, outside the square root": _over_time(outside=True),
        "x overwritten in place": _in_place,
    },
)
