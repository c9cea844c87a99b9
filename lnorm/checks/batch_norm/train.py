"""Exercise 2.1: BatchNorm's forward pass in training."""

from typing import Any

import numpy as np

from lnorm.checks.batch_norm.inputs import SIZES, affine, uneven_features
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, arrays


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 201)
    n, _, d = SIZES[level]

    def case(tests: str, x: np.ndarray, asks: str = "y", eps: float = 1e-12, tolerance: float = 1e-9) -> Case:
        gamma, beta = (each.astype(x.dtype) for each in affine(rng, x.shape[1]))
        return Case(tests, {"x": x, "gamma": gamma, "beta": beta, "eps": eps, "asks": asks}, tolerance)

    plain = case("y", uneven_features(rng, n, d))
    unit_gain = {**plain.inputs, "gamma": np.ones(d), "beta": np.zeros(d)}
    transposed = np.asfortranarray(uneven_features(rng, n, d))
    # One rounding of x is 1e-3 here, and of the mean too: up to 2e-3 in x_hat.
    far_away = (1e4 + rng.normal(size=(40, d))).astype(np.float32)
    return [
        Case("y", unit_gain),
        plain,
        case("y", transposed),
        case("mean and var", uneven_features(rng, n, d), "statistics"),
        case("mean and var", 0.3 * uneven_features(rng, n, d), "statistics", eps=0.1),
        case("eps inside the square root", 0.3 * uneven_features(rng, n, d), eps=0.1),
        case("eps inside the square root", np.tile(rng.normal(size=d), (n, 1)), eps=1e-5),
        case("batches of one, two and three", uneven_features(rng, 1, d), eps=1e-5),
        case("batches of one, two and three", uneven_features(rng, 2, d)),
        case("batches of one, two and three", uneven_features(rng, 3, 1), "all"),
        case("features far from zero in float32", far_away, eps=1e-5, tolerance=5e-3),
        case("leaves its inputs alone", transposed, "inputs"),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    x, gamma, beta = (inputs[name].copy(order="K") for name in ("x", "gamma", "beta"))
    out = arrays(("y", "mean", "var"), answer(x, gamma, beta, inputs["eps"]))
    after = {"x after the call": x, "gamma after the call": gamma, "beta after the call": beta}
    return {
        "y": {"y": out["y"]},
        "statistics": {"mean": out["mean"], "var": out["var"]},
        "all": out,
        "inputs": out | after,
    }[inputs["asks"]]


def batch_norm(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
    """Return y, mean and var, computed in float64; also of one row, which the reference refuses."""
    wide = np.asarray(x, float)
    mean, var = wide.mean(axis=0), wide.var(axis=0)
    y = gamma * (wide - mean) / np.sqrt(var + eps) + beta
    return tuple(each.astype(x.dtype) for each in (y, mean, var))


def _wrong(
    normalized: Any = lambda c, var, eps: c / np.sqrt(var + eps),
    variance: Any = lambda x: x.var(axis=0),
    mean_of: Any = lambda x: x.mean(axis=0),
    affine: Any = lambda z, gamma, beta: gamma * z + beta,
    returned: Any = lambda mean, var, eps: (mean, var),
) -> Answer:
    """Return a forward pass that is right but for one step."""

    def batch_norm_train(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
        mean, var = mean_of(x), variance(x)
        return affine(normalized(x - mean, var, eps), gamma, beta), *returned(mean, var, eps)

    return batch_norm_train


def _over_features(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
    mean, var = x.mean(axis=1), x.var(axis=1)
    return gamma * (x - mean[:, None]) / np.sqrt(var[:, None] + eps) + beta, mean, var


def _over_everything(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
    mean, var = np.full(x.shape[1], x.mean()), np.full(x.shape[1], x.var())
    return gamma * (x - mean) / np.sqrt(var + eps) + beta, mean, var


def _affine_first(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
    y, mean, var = batch_norm(gamma * x + beta, np.ones_like(gamma), np.zeros_like(beta), eps)
    return y, mean, var


def _mean_kept(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
    return gamma * x / np.sqrt(x.var(axis=0) + eps) + beta, x.mean(axis=0), x.var(axis=0)


def _in_place(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
    result = batch_norm(x, gamma, beta, eps)
    x -= result[1]
    return result


BATCH_NORM_TRAIN = Exercise(
    name="batch_norm_train",
    signature="batch_norm_train(x, gamma, beta, eps)",
    properties={
        "y": 3,
        "mean and var": 2,
        "eps inside the square root": 2,
        "batches of one, two and three": 1,
        "features far from zero in float32": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=batch_norm,
    forbids=(
        "lnorm.reference.batch_norm",
        "torch.nn.functional.batch_norm",
        "torch.nn.BatchNorm1d",
        "torch.batch_norm",
    ),
    mistakes={
        "mean and variance over axis 1, the features (this is LayerNorm)": _over_features,
        "one mean and one variance for all features": _over_everything,
        "variance divided by N − 1 instead of N": _wrong(variance=lambda x: x.var(axis=0, ddof=1)),
        "eps added to the standard deviation, outside the square root": _wrong(
            lambda c, var, eps: c / (np.sqrt(var) + eps)
        ),
        "eps added to the reciprocal of the standard deviation": _wrong(
            lambda c, var, eps: c * (1 / np.sqrt(var) + eps)
        ),
        "eps squared before it is added to the variance": _wrong(lambda c, var, eps: c / np.sqrt(var + eps**2)),
        "eps left out": _wrong(lambda c, var, eps: c / np.sqrt(var)),
        "eps fixed at 1e-5, whatever the argument says": _wrong(lambda c, var, eps: c / np.sqrt(var + 1e-5)),
        "division by the variance instead of its square root": _wrong(lambda c, var, eps: c / (var + eps)),
        "the mean is subtracted, and nothing divided by": _wrong(lambda c, var, eps: c),
        "the mean is not subtracted": _mean_kept,
        "gamma and beta applied before the normalization": _affine_first,
        "gamma left out": _wrong(affine=lambda z, gamma, beta: z + beta),
        "beta left out": _wrong(affine=lambda z, gamma, beta: gamma * z),
        "beta added before the multiplication by gamma": _wrong(affine=lambda z, gamma, beta: gamma * (z + beta)),
        "eps contained in the var that is returned": _wrong(returned=lambda mean, var, eps: (mean, var + eps)),
        "the standard deviation returned in place of the variance": _wrong(
            returned=lambda mean, var, eps: (mean, np.sqrt(var))
        ),
        "mean and var returned with shape (1, features)": _wrong(
            returned=lambda mean, var, eps: (mean[None], var[None])
        ),
        "mean and var returned in the opposite order": _wrong(returned=lambda mean, var, eps: (var, mean)),
        "variance as E[x²] − E[x]², which cancels for features far from zero": _wrong(
            variance=lambda x: np.mean(x**2, axis=0) - np.mean(x, axis=0) ** 2  # counter-example: this cancels
        ),
        "x overwritten in place": _in_place,
    },
)
