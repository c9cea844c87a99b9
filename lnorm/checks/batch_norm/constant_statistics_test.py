"""Exercise 2.7: the test that catches batch statistics which the backward pass takes for constants."""

from collections.abc import Callable

import numpy as np

from lnorm import reference
from lnorm.checks.exercise import Answer
from lnorm.checks.failing_test import failing_test

Pair = tuple[np.ndarray, np.ndarray]


def _norm(dx: Callable[..., np.ndarray]) -> Answer:
    """Return a batch_norm with the right output and this way to get dx from g = dy, x_hat and s."""

    def batch_norm(x: np.ndarray, dy: np.ndarray, eps: float = 1e-5) -> Pair:
        s = np.sqrt(x.var(axis=0) + eps)
        x_hat = (x - x.mean(axis=0)) / s
        return x_hat, dx(dy, x_hat, s)

    return batch_norm


def _m(values: np.ndarray) -> np.ndarray:
    return values.mean(axis=0)


def _right(g: np.ndarray, x_hat: np.ndarray, s: np.ndarray) -> np.ndarray:
    return (g - _m(g) - x_hat * _m(g * x_hat)) / s


def _path_by_path(x: np.ndarray, dy: np.ndarray, eps: float = 1e-5) -> Pair:
    n, mean, var = len(x), x.mean(axis=0), x.var(axis=0)
    rstd = (var + eps) ** -0.5
    dvar = np.sum(dy * (x - mean), axis=0) * -0.5 * rstd**3
    dmean = -np.sum(dy, axis=0) * rstd - 2 * dvar * np.mean(x - mean, axis=0)
    return (x - mean) * rstd, dy * rstd + dvar * 2 * (x - mean) / n + dmean / n


def _by_jacobian(x: np.ndarray, dy: np.ndarray, eps: float = 1e-5) -> Pair:
    n, s = len(x), np.sqrt(x.var(axis=0) + eps)
    x_hat, dx = (x - x.mean(axis=0)) / s, np.empty_like(x)
    for j in range(x.shape[1]):
        jacobian = (np.eye(n) - 1 / n - np.outer(x_hat[:, j], x_hat[:, j]) / n) / s[j]
        dx[:, j] = jacobian @ dy[:, j]
    return x_hat, dx


def _by_differences(x: np.ndarray, dy: np.ndarray, eps: float = 1e-5) -> Pair:
    """Differentiate numerically: every feature is on its own, so that one can move all features at once."""
    h, dx = 1e-5, np.empty_like(x)
    for i in range(len(x)):
        nudge = np.zeros_like(x)
        nudge[i] = h
        above, below = (reference.batch_norm(x + sign * nudge, eps=eps)[0] for sign in (1, -1))
        dx[i] = np.sum(dy * (above - below), axis=0) / (2 * h)
    return reference.batch_norm(x, eps=eps)[0], dx


def _by_reference(x: np.ndarray, dy: np.ndarray, eps: float = 1e-5) -> Pair:
    y, cache = reference.batch_norm(x, eps=eps)
    return y, reference.batch_norm_backward(dy, cache)[0]


def _data(seed: int = 0) -> Pair:
    rng = np.random.default_rng(seed)
    return rng.normal(2.0, 3.0, size=(8, 5)), rng.normal(0.5, size=(8, 5))


def _out_of_reach() -> Pair:
    """Return x and a dy without mean and without a component along x_hat, for which the missing terms are zero."""
    x, dy = _data()
    x_hat = (x - x.mean(axis=0)) / x.std(axis=0)
    return x, dy - _m(dy) - x_hat * _m(dy * x_hat)


def _test(x: np.ndarray, dy: np.ndarray, allowed: float = 1e-5) -> Answer:
    """Return a test that compares dx with the formula on this x and dy."""

    def test(batch_norm: Answer) -> None:
        assert np.abs(batch_norm(x.copy(), dy.copy())[1] - _by_reference(x, dy)[1]).max() < allowed

    return test


def _always_fails(batch_norm: Answer) -> None:
    raise AssertionError


def _only_y(batch_norm: Answer) -> None:
    x, dy = _data()
    assert np.allclose(batch_norm(x, dy)[0], _by_reference(x, dy)[0])


def _only_finite(batch_norm: Answer) -> None:
    x, dy = _data()
    dx = batch_norm(x, dy)[1]
    assert dx.shape == x.shape
    assert np.isfinite(dx).all()


def _only_the_sum(batch_norm: Answer) -> None:
    assert np.abs(batch_norm(*_data())[1].sum(axis=0)).max() < 1e-5


def _only_along_x_hat(batch_norm: Answer) -> None:
    y, dx = batch_norm(*_data())
    assert np.abs(np.sum(y * dx, axis=0)).max() < 1e-3


def _exactly_orthogonal(batch_norm: Answer) -> None:
    y, dx = batch_norm(*_data())
    assert np.all(dx.sum(axis=0) == 0)
    assert np.all(np.sum(y * dx, axis=0) == 0)


def _bit_for_bit(batch_norm: Answer) -> None:
    x, dy = _data()
    assert np.array_equal(batch_norm(x, dy)[1], _norm(_right)(x, dy)[1])


def _upside_down(batch_norm: Answer) -> None:
    x, dy = _data()
    assert not np.allclose(batch_norm(x, dy)[1], _by_reference(x, dy)[1], atol=1e-5)


TEST_CONSTANT_STATISTICS = failing_test(
    "test_constant_statistics",
    signature="test_constant_statistics(batch_norm)",
    buggy={
        "mean and variance are constants, dx = dy / s": _norm(lambda g, x_hat, s: g / s),
        "the variance is a constant": _norm(lambda g, x_hat, s: (g - _m(g)) / s),
        "the mean is a constant": _norm(lambda g, x_hat, s: (g - x_hat * _m(g * x_hat)) / s),
    },
    correct={
        "the formula": _norm(_right),
        "path by path": _path_by_path,
        "the Jacobian of each feature": _by_jacobian,
        "numerical differences": _by_differences,
        "the package's reference": _by_reference,
    },
    solution=_test(*_data()),
    mistakes={
        "a test that nothing fails": lambda batch_norm: None,
        "a test that everything fails": _always_fails,
        "only a look at the output, which is right": _only_y,
        "only a look at the shape of dx, and for NaN": _only_finite,
        "dy of ones: the loss is a sum of outputs, and the x̂ term is zero": _test(_data()[0], np.ones((8, 5))),
        "dy = 2y: the loss is a sum of squares, and the mean term is zero": _test(
            _data()[0], 2 * _by_reference(*_data())[0], 1e-3
        ),
        "a dy for which the missing terms are zero": _test(*_out_of_reach(), 1e-3),
        "only the sum of dx, which is right when the variance is a constant": _only_the_sum,
        "only the product of dx and x̂, which is right when the mean is a constant": _only_along_x_hat,
        "a sum of exactly zero asked for": _exactly_orthogonal,
        "a tolerance below the rounding of float64": _test(*_data(), 1e-17),
        "equality bit for bit with one way to write it": _bit_for_bit,
        "the assertion upside down": _upside_down,
    },
)
