"""Exercise 2.5: BatchNorm of images."""

from typing import Any

import numpy as np

from lnorm.checks.batch_norm.inputs import affine, uneven_features
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

SHAPES = {"visible": (3, 4, 5, 2), "graded": (4, 3, 6, 5)}  # N, C, H, W


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 205)
    n, c, h, w = SHAPES[level]

    def case(tests: str, x: np.ndarray, eps: float = 1e-12, tolerance: float = 1e-9, **more: Any) -> Case:
        gamma, beta = (each.astype(x.dtype) for each in affine(rng, x.shape[1]))
        return Case(tests, {"x": x, "gamma": gamma, "beta": beta, "eps": eps} | more, tolerance)

    def images(*shape: int) -> np.ndarray:
        """Return images that differ in brightness: the variance within images is not that of the batch."""
        return uneven_features(rng, *shape, axis=1) + rng.normal(scale=2.0, size=(shape[0], shape[1], 1, 1))

    plain = case("values, with gamma and beta", images(n, c, h, w))
    unit_gain = {**plain.inputs, "gamma": np.ones(c), "beta": np.zeros(c)}
    # One rounding of x is 1e-3 here, and of the mean too: up to 2e-3 in x_hat.
    far_away = (1e4 + rng.normal(size=(n, c, h, w))).astype(np.float32)
    channels_last = np.moveaxis(images(n, h, w, c), 3, 1)
    return [
        Case("values without gain and bias (gamma = 1, beta = 0)", unit_gain),
        plain,
        case("values, with gamma and beta", images(n, c, 2, c)),  # a gain along the wrong axis would fit
        case("values, with gamma and beta", channels_last),
        case("eps inside the square root", 0.1 * images(n, c, h, w), eps=0.1),
        case("one image, one position, one channel", images(1, c, h, w)),
        case("one image, one position, one channel", images(4, c, 1, 1)),
        case("one image, one position, one channel", images(n, 1, h, w)),
        case("far from zero in float32", far_away, eps=1e-5, tolerance=5e-3),
        case("leaves its inputs alone", channels_last, asks="inputs"),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    x, gamma, beta = (inputs[name].copy(order="K") for name in ("x", "gamma", "beta"))
    y = array("y", answer(x, gamma, beta, inputs["eps"]))
    after = {"x after the call": x, "gamma after the call": gamma, "beta after the call": beta}
    return {"y": y} | (after if "asks" in inputs else {})


def _solution(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
    wide = np.asarray(x, float)
    return _affine(
        _normal(wide, wide.mean((0, 2, 3), keepdims=True), wide.var((0, 2, 3), keepdims=True), eps), gamma, beta
    )


def _normal(x: Any, mean: Any, var: Any, eps: float) -> Any:
    return (x - mean) / np.sqrt(var + eps)


def _affine(x_hat: Any, gamma: Any, beta: Any) -> Any:
    return gamma[:, None, None] * x_hat + beta[:, None, None]


def _over(*axes: int) -> Answer:
    """Return a norm with means and variances over these axes."""

    def batch_norm_2d(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
        return _affine(_normal(x, x.mean(axes, keepdims=True), x.var(axes, keepdims=True), eps), gamma, beta)

    return batch_norm_2d


def _with(
    normal: Any = _normal,
    affine: Any = _affine,
    variance: Any = lambda x: x.var((0, 2, 3), keepdims=True),
) -> Answer:
    """Return a norm over the right axes that is wrong in one step."""
    return lambda x, gamma, beta, eps: affine(
        normal(x, x.mean((0, 2, 3), keepdims=True), variance(x), eps), gamma, beta
    )


def _one_pass(x: Any) -> Any:
    axes = (0, 2, 3)
    return np.mean(x**2, axes, keepdims=True) - np.mean(x, axes, keepdims=True) ** 2  # counter-example: this cancels


def _scrambled(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
    rows = x.reshape(-1, x.shape[1])
    return (gamma * _normal(rows, rows.mean(0), rows.var(0), eps) + beta).reshape(x.shape)


def _along_the_width(x_hat: Any, gamma: Any, beta: Any) -> Any:
    return gamma * x_hat + beta  # an error unless they fit


def _affine_first(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
    return _solution(_affine(x, gamma, beta), np.ones_like(gamma), np.zeros_like(beta), eps)


def _in_place(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
    y = _solution(x, gamma, beta, eps)
    x -= x.mean((0, 2, 3), keepdims=True)
    return y


BATCH_NORM_2D = Exercise(
    name="batch_norm_2d",
    signature="batch_norm_2d(x, gamma, beta, eps)",
    properties={
        "values without gain and bias (gamma = 1, beta = 0)": 1,
        "values, with gamma and beta": 2,
        "eps inside the square root": 1,
        "one image, one position, one channel": 1,
        "far from zero in float32": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_solution,
    forbids=(
        "lnorm.reference.batch_norm",
        "torch.nn.functional.batch_norm",
        "torch.nn.BatchNorm2d",
        "torch.batch_norm",
    ),
    mistakes={
        "mean and variance over the images only: every position has its own": _over(0),
        "mean and variance over the channels": _over(1),
        "mean and variance over the positions of one image (this is InstanceNorm)": _over(2, 3),
        "mean and variance over channels and positions (this is LayerNorm)": _over(1, 2, 3),
        "mean and variance over all axes": _over(0, 1, 2, 3),
        "mean and variance over images and rows, not over columns": _over(0, 2),
        "reshape to (−1, C) without moving the channels to the end first": _scrambled,
        "the variances within single images, averaged": _with(
            variance=lambda x: x.var((2, 3), keepdims=True).mean(0, keepdims=True)
        ),
        "the variance of the images' means": _with(
            variance=lambda x: x.mean((2, 3), keepdims=True).var(0, keepdims=True)
        ),
        "variance divided by one less than the number of values": _with(
            variance=lambda x: x.var((0, 2, 3), keepdims=True, ddof=1)
        ),
        "variance as E[x²] − E[x]², which cancels far from zero": _with(variance=_one_pass),
        "eps added to the standard deviation, outside the square root": _with(
            lambda x, mean, var, eps: (x - mean) / (np.sqrt(var) + eps)
        ),
        "eps left out": _with(lambda x, mean, var, eps: (x - mean) / np.sqrt(var)),
        "gamma and beta along the width instead of the channels": _with(affine=_along_the_width),
        "gamma and beta applied before the normalization": _affine_first,
        "gamma left out": _with(affine=lambda x_hat, gamma, beta: x_hat + beta[:, None, None]),
        "beta left out": _with(affine=lambda x_hat, gamma, beta: x_hat * gamma[:, None, None]),
        "x overwritten in place": _in_place,
    },
)
