"""Exercise 4.7: the gradient check that catches a wrong backward pass of BatchNorm."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer
from lnorm.checks.failing_test import failing_test


def _statistics(x: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    s = np.sqrt(x.var(axis=0) + eps)
    return (x - x.mean(axis=0)) / s, s


def _backward(kind: str = "") -> Answer:
    """Return a backward pass that is right but for one thing; ``kind`` empty for the right one."""

    def backward(dy: np.ndarray, x: np.ndarray, eps: float) -> np.ndarray:
        x_hat, s = _statistics(x, eps)
        axis = 1 if kind == "axis" else 0
        mean_g, mean_gx = dy.mean(axis, keepdims=True), np.mean(dy * x_hat, axis, keepdims=True)
        if kind in ("no mean term", "constants"):
            mean_g = 0 * mean_g
        if kind in ("no x_hat term", "constants"):
            mean_gx = 0 * mean_gx
        if kind == "unbiased":
            mean_gx = mean_gx * len(x) / (len(x) - 1)
        dx = (dy - mean_g - x_hat * mean_gx) / s
        if kind == "no eps":
            dx = dx * s / x.std(axis=0)
        return dx * {"zeros": 0.0, "half": 0.5, "sign": -1.0, "over N": 1 / len(x)}.get(kind, 1.0)

    return backward


def _through_moments(dy: np.ndarray, x: np.ndarray, eps: float) -> np.ndarray:
    n, centred = len(x), x - x.mean(axis=0)
    rstd = 1 / np.sqrt(np.mean(centred**2, axis=0) + eps)
    dvar = np.sum(dy * centred, axis=0) * -0.5 * rstd**3
    return dy * rstd + dvar * 2 * centred / n - np.sum(dy * rstd, axis=0) / n


def _by_jacobian(dy: np.ndarray, x: np.ndarray, eps: float) -> np.ndarray:
    (x_hat, s), n = _statistics(x, eps), len(x)
    jacobian = np.eye(n) - 1 / n - np.einsum("ic,jc->cij", x_hat, x_hat) / n
    return np.einsum("cij,jc->ic", jacobian, dy) / s


def _in_single(dy: np.ndarray, x: np.ndarray, eps: float) -> np.ndarray:
    return _backward()(dy.astype(np.float32), x.astype(np.float32), np.float32(eps))


def _numeric(x: np.ndarray, dy: np.ndarray, eps: float, step: float = 1e-5) -> np.ndarray:
    """Return the gradient of Σ y·dy by central differences."""
    dx = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        above, below = x.astype(float), x.astype(float)
        above[index] += step
        below[index] -= step
        dx[index] = np.sum((_statistics(above, eps)[0] - _statistics(below, eps)[0]) * dy) / (2 * step)
    return dx


def _data(n: int = 7) -> tuple[np.ndarray, np.ndarray]:
    x, noise = np.random.default_rng(0).normal(size=(2, n, 3))
    return x * [0.5, 1.0, 2.0] + 1, noise + 0.5


def _check(kind: str = "noise", *, n: int = 7, eps: float = 0.1, tolerance: float = 1e-4, step: float = 1e-5) -> Answer:
    """Return a test that compares with central differences; ``kind`` is how dy is made."""

    def test(backward: Answer) -> None:
        x, noise = _data(n)
        dy = {"noise": noise, "squares": 2 * _statistics(x, eps)[0], "ones": np.ones_like(x)}[kind]
        assert np.abs(backward(dy, x, eps) - _numeric(x, dy, eps, step)).max() < tolerance

    return test


def _looks_at(property_of: Any) -> Answer:
    """Return a test that looks at a property of dx and compares with nothing."""

    def test(backward: Answer) -> None:
        x, dy = _data()
        assert property_of(np.asarray(backward(dy, x, 1e-12)), _statistics(x, 1e-12)[0], dy)

    return test


def _orthogonal(dx: np.ndarray, *others: np.ndarray) -> bool:
    return all(np.abs(np.sum(dx * each, axis=0)).max() < 1e-4 for each in others)


def _always_fails(backward: Answer) -> None:
    raise AssertionError


def _bit_for_bit(backward: Answer) -> None:
    x, dy = _data()
    assert np.array_equal(backward(dy, x, 0.1), _backward()(dy, x, 0.1))


def _upside_down(backward: Answer) -> None:
    x, dy = _data()
    assert not np.abs(backward(dy, x, 0.1) - _numeric(x, dy, 0.1)).max() < 1e-4


TEST_BN_GRADIENT = failing_test(
    "test_bn_gradient",
    signature="test_bn_gradient(backward)",
    buggy={
        "it returns zeros": _backward("zeros"),
        "the mean of dy is not subtracted": _backward("no mean term"),
        "the component along x̂ is not taken out": _backward("no x_hat term"),
        "mean and variance are taken for constants": _backward("constants"),
        "eps is left out of the division": _backward("no eps"),
        "half of the gradient": _backward("half"),
        "the opposite sign": _backward("sign"),
        "an extra factor 1/N": _backward("over N"),
        "the variance differentiated as if divided by N − 1": _backward("unbiased"),
        "means over the features instead of the batch": _backward("axis"),
    },
    correct={
        "the formula of chapter 2": _backward(),
        "the chain rule through mean and variance": _through_moments,
        "the matrix of all derivatives, for each feature": _by_jacobian,
        "the formula in float32": _in_single,
        "central differences": lambda dy, x, eps: _numeric(x, dy, eps),
    },
    solution=_check(),
    forbids=("lnorm.reference.batch_norm_backward",),
    mistakes={
        "a test that nothing fails": lambda backward: None,
        "a test that everything fails": _always_fails,
        "Σy² as the loss, whose gradient is nearly zero behind BatchNorm": _check("squares", eps=1e-5),
        "Σy as the loss, whose gradient is zero behind BatchNorm": _check("ones"),
        "only a look at the shape of dx": _looks_at(lambda dx, x_hat, dy: dx.shape == dy.shape),
        "only a look at Σdx, which is 0 for many wrong gradients": _looks_at(
            lambda dx, x_hat, dy: _orthogonal(dx, np.ones_like(dx))
        ),
        "only the two directions that dx must not have: zeros, or half of dx, have neither": _looks_at(
            lambda dx, x_hat, dy: _orthogonal(dx, np.ones_like(dx), x_hat)
        ),
        "only a look whether dx is zero": _looks_at(lambda dx, x_hat, dy: np.abs(dx).max() > 0),
        "a batch of two, for which the gradient is nearly zero": _check(n=2, eps=1e-12),
        "an eps so small that nobody would miss it": _check(eps=1e-12),
        "a tolerance below the rounding of float32": _check(tolerance=1e-12),
        "a tolerance so wide that wrong gradients pass": _check(tolerance=0.5),
        "a step so large that the difference is no derivative": _check(step=1.0),
        "a step so small that rounding is all that is left": _check(step=1e-15),
        "equality bit for bit with one way to write it": _bit_for_bit,
        "the assertion upside down": _upside_down,
    },
)
