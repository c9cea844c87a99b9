"""Exercise 3.1: LayerNorm's forward pass."""

from typing import Any

import numpy as np

from lnorm import reference
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array
from lnorm.checks.layer_norm.inputs import SIZES, affine, axes_of, uneven_rows


def _forward_cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed)
    n, t, d = SIZES[level]

    def case(tests: str, x: np.ndarray, shape: tuple[int, ...], eps: float = 1e-12, tolerance: float = 1e-9) -> Case:
        gamma, beta = affine(rng, *shape)
        inputs = {"x": x, "normalized_shape": shape, "gamma": gamma.astype(x.dtype), "beta": beta.astype(x.dtype)}
        return Case(tests, {**inputs, "eps": eps}, tolerance)

    far_away = (1e4 + rng.normal(size=(6, 64))).astype(np.float32)
    plain = case("values, with gamma and beta", uneven_rows(rng, n, t, d), (d,))
    unit_gain = {**plain.inputs, "gamma": np.ones(d), "beta": np.zeros(d)}
    return [
        Case("values without gain and bias (gamma = 1, beta = 0)", unit_gain),
        plain,
        case("values, with gamma and beta", uneven_rows(rng, 1, 2 * d), (2 * d,)),
        case("eps inside the square root", 0.3 * uneven_rows(rng, n, d), (d,), eps=0.1),
        case("eps inside the square root", np.full((2, d), 3.0), (d,), eps=1e-5),
        case("several axes at once", uneven_rows(rng, n, t, d), (t, d)),
        case("several axes at once", uneven_rows(rng, 2, n, t, d), (n, t, d)),
        case("rows of two and of three features", uneven_rows(rng, n, 2), (2,)),
        case("rows of two and of three features", uneven_rows(rng, t, 3), (3,)),
        case("rows far from zero in float32", far_away, (64,), eps=1e-5, tolerance=5e-3),
        case("values, with gamma and beta", transposed := np.asfortranarray(uneven_rows(rng, n, d)), (d,)),
        Case("leaves its inputs alone", {**case("", transposed, (d,)).inputs, "asks": "inputs"}),
    ]


def _forward_probe(answer: Answer, inputs: Inputs) -> Outputs:
    x, gamma, beta = (inputs[name].copy(order="K") for name in ("x", "gamma", "beta"))
    y = array("y", answer(x, inputs["normalized_shape"], gamma, beta, inputs["eps"]))
    after = {"x after the call": x, "gamma after the call": gamma, "beta after the call": beta}
    return {"y": y} | (after if "asks" in inputs else {})


def _forward_solution(x: np.ndarray, normalized_shape: Any, gamma: Any, beta: Any, eps: float) -> np.ndarray:
    return reference.layer_norm(x, normalized_shape, gamma, beta, eps)[0]


def _standardized(x: np.ndarray, axes: Any, eps: float, ddof: int = 0) -> np.ndarray:
    mean, var = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True, ddof=ddof)
    return (x - mean) / np.sqrt(var + eps)


def _averages_over_batch(x: Any, shape: Any, gamma: Any, beta: Any, eps: float) -> Any:
    return gamma * _standardized(x, 0, eps) + beta


def _last_axis_only(x: Any, shape: Any, gamma: Any, beta: Any, eps: float) -> Any:
    return gamma * _standardized(x, -1, eps) + beta


def _all_axes(x: Any, shape: Any, gamma: Any, beta: Any, eps: float) -> Any:
    return gamma * _standardized(x, None, eps) + beta


def _unbiased(x: Any, shape: Any, gamma: Any, beta: Any, eps: float) -> Any:
    return gamma * _standardized(x, axes_of(x, shape), eps, ddof=1) + beta


def _eps_outside(x: Any, shape: Any, gamma: Any, beta: Any, eps: float) -> Any:
    axes = axes_of(x, shape)
    return gamma * (x - x.mean(axes, keepdims=True)) / (x.std(axes, keepdims=True) + eps) + beta


def _eps_squared(x: Any, shape: Any, gamma: Any, beta: Any, eps: float) -> Any:
    return gamma * _standardized(x, axes_of(x, shape), eps**2) + beta


def _no_eps(x: Any, shape: Any, gamma: Any, beta: Any, eps: float) -> Any:
    with np.errstate(all="ignore"):
        return gamma * _standardized(x, axes_of(x, shape), 0.0) + beta


def _fixed_eps(x: Any, shape: Any, gamma: Any, beta: Any, eps: float) -> Any:
    return gamma * _standardized(x, axes_of(x, shape), 1e-5) + beta


def _divides_by_variance(x: Any, shape: Any, gamma: Any, beta: Any, eps: float) -> Any:
    axes = axes_of(x, shape)
    return gamma * (x - x.mean(axes, keepdims=True)) / (x.var(axes, keepdims=True) + eps) + beta


def _mean_kept(x: Any, shape: Any, gamma: Any, beta: Any, eps: float) -> Any:
    return gamma * x / np.sqrt(np.mean(x**2, axes_of(x, shape), keepdims=True) + eps) + beta


def _only_centred(x: Any, shape: Any, gamma: Any, beta: Any, eps: float) -> Any:
    return gamma * (x - x.mean(axes_of(x, shape), keepdims=True)) + beta


def _mean_absolute_deviation(x: Any, shape: Any, gamma: Any, beta: Any, eps: float) -> Any:
    axes = axes_of(x, shape)
    centred = x - x.mean(axes, keepdims=True)
    return gamma * centred / (np.abs(centred).mean(axes, keepdims=True) + eps) + beta


def _affine_first(x: Any, shape: Any, gamma: Any, beta: Any, eps: float) -> Any:
    return _standardized(gamma * x + beta, axes_of(x, shape), eps)


def _beta_forgotten(x: Any, shape: Any, gamma: Any, beta: Any, eps: float) -> Any:
    return gamma * _standardized(x, axes_of(x, shape), eps)


def _gamma_forgotten(x: Any, shape: Any, gamma: Any, beta: Any, eps: float) -> Any:
    return _standardized(x, axes_of(x, shape), eps) + beta


def _gain_of_one_plus_gamma(x: Any, shape: Any, gamma: Any, beta: Any, eps: float) -> Any:
    return (1 + gamma) * _standardized(x, axes_of(x, shape), eps) + beta


def _beta_inside(x: Any, shape: Any, gamma: Any, beta: Any, eps: float) -> Any:
    return gamma * (_standardized(x, axes_of(x, shape), eps) + beta)


def _mean_of_squares(x: Any, shape: Any, gamma: Any, beta: Any, eps: float) -> Any:
    axes = axes_of(x, shape)
    mean = x.mean(axes, keepdims=True)
    with np.errstate(invalid="ignore"):
        return gamma * (x - mean) / np.sqrt(np.mean(x * x, axes, keepdims=True) - mean * mean + eps) + beta


def _in_place(x: Any, shape: Any, gamma: Any, beta: Any, eps: float) -> Any:
    axes = axes_of(x, shape)
    x -= x.mean(axes, keepdims=True)
    x /= np.sqrt(np.mean(x**2, axes, keepdims=True) + eps)
    return gamma * x + beta


LAYER_NORM = Exercise(
    name="layer_norm",
    signature="layer_norm(x, normalized_shape, gamma, beta, eps)",
    properties={
        "values without gain and bias (gamma = 1, beta = 0)": 2,
        "values, with gamma and beta": 2,
        "eps inside the square root": 2,
        "several axes at once": 1,
        "rows of two and of three features": 1,
        "rows far from zero in float32": 1,
        "leaves its inputs alone": 1,
    },
    cases=_forward_cases,
    probe=_forward_probe,
    solution=_forward_solution,
    forbids=(
        "lnorm.reference.layer_norm",
        "lnorm.nn.LayerNorm",
        "torch.nn.functional.layer_norm",
        "torch.nn.LayerNorm",
        "torch.layer_norm",
    ),
    mistakes={
        "mean and variance over axis 0, the batch (this is BatchNorm)": _averages_over_batch,
        "mean and variance over the last axis only, whatever normalized_shape says": _last_axis_only,
        "mean and variance over all axes, the batch included": _all_axes,
        "variance divided by D − 1 instead of D": _unbiased,
        "eps added to the standard deviation, outside the square root": _eps_outside,
        "eps squared before it is added to the variance": _eps_squared,
        "eps left out": _no_eps,
        "eps fixed at 1e-5, whatever the argument says": _fixed_eps,
        "division by the variance instead of its square root": _divides_by_variance,
        "the mean is not subtracted (this is RMSNorm)": _mean_kept,
        "the mean is subtracted, and nothing divided by": _only_centred,
        "division by the mean absolute deviation": _mean_absolute_deviation,
        "gamma and beta applied before the normalization": _affine_first,
        "beta left out": _beta_forgotten,
        "gamma left out": _gamma_forgotten,
        "1 + gamma as the gain": _gain_of_one_plus_gamma,
        "beta added before the multiplication by gamma": _beta_inside,
        "variance as E[x²] − E[x]², which cancels for rows far from zero": _mean_of_squares,
        "x overwritten in place": _in_place,
    },
)
