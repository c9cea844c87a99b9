"""Exercise 9.7: the test that catches a backward pass for which the scale is a constant."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer
from lnorm.checks.failing_test import failing_test


def _mean(values: np.ndarray) -> np.ndarray:
    return values.mean(-1, keepdims=True)


def _backward(kind: str = "") -> Answer:
    """Return a backward pass whose second term is right, missing or spoilt; ``kind`` empty for the right one."""

    def backward(dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, eps: float) -> np.ndarray:
        r = np.sqrt(_mean(x**2) + eps)
        x_hat, g = x / r, dy * gamma
        taken = x_hat * _mean(g * x_hat)
        if kind == "half":
            taken = taken / 2
        elif kind == "mean of g":
            taken = np.broadcast_to(_mean(g), g.shape)
        elif kind == "no gamma":
            taken = x_hat * _mean(dy * x_hat)
        elif kind == "first row":
            taken = np.where(np.arange(len(x))[:, None] == 0, taken, 0.0)
        elif kind == "over D":
            taken = taken / x.shape[-1]
        elif kind == "batch":
            taken = x_hat * np.mean(g * x_hat, axis=0)
        return (g - (0.0 if kind == "detached" else taken)) / r

    return backward


def _through_scale(dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, eps: float) -> np.ndarray:
    rrms = 1 / np.sqrt(_mean(x**2) + eps)
    drrms = np.sum(dy * gamma * x, axis=-1, keepdims=True)
    dsquare = -0.5 * rrms**3 * drrms
    return dy * gamma * rrms + dsquare * 2 * x / x.shape[-1]


def _by_jacobian(dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, eps: float) -> np.ndarray:
    d = x.shape[-1]
    r = np.sqrt(_mean(x**2) + eps)
    jacobian = (np.eye(d) - np.einsum("ni,nj->nij", x / r, x / r) / d) / r[..., None]
    return np.einsum("nij,nj->ni", jacobian, dy * gamma)


def _in_single(dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, eps: float) -> np.ndarray:
    return _backward()(*(each.astype(np.float32) for each in (dy, x, gamma)), np.float32(eps))


def _numeric(dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, eps: float, step: float = 1e-5) -> np.ndarray:
    """Return the gradient of Σ y·dy by central differences."""

    def loss(x: np.ndarray) -> float:
        return float(np.sum(dy * gamma * x / np.sqrt(_mean(x**2) + eps)))

    dx = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        above, below = x.astype(float), x.astype(float)
        above[index] += step
        below[index] -= step
        dx[index] = (loss(above) - loss(below)) / (2 * step)
    return dx


Data = tuple[np.ndarray, np.ndarray, np.ndarray]


def _data(rows: int = 4, d: int = 6) -> Data:
    rng = np.random.default_rng(0)
    dy, x = rng.normal(size=(2, rows, d))
    return dy + 0.5, x * np.arange(1, rows + 1)[:, None] + 1, rng.uniform(0.5, 2.0, size=d)


def _at_right_angles(dy: np.ndarray, x: np.ndarray, gamma: np.ndarray) -> Data:
    """Take from dy what the second term of the backward pass would take out: then there is nothing to miss."""
    along = x / gamma
    return dy - along * np.sum(dy * gamma * x, -1, keepdims=True) / np.sum(x * x, -1, keepdims=True), x, gamma


def _differences(data: Data | None = None, eps: float = 1e-5, tolerance: float = 1e-3, step: float = 1e-5) -> Answer:
    """Return a test that compares with central differences."""

    def test(backward: Answer) -> None:
        dy, x, gamma = data or _data()
        assert np.abs(backward(dy, x, gamma, eps) - _numeric(dy, x, gamma, eps, step)).max() < tolerance

    return test


def _looks_at(condition: Callable[[np.ndarray, np.ndarray], Any], eps: float = 0.0, rows: int = 4) -> Answer:
    """Return a test that looks at a property of dx and compares with nothing."""

    def test(backward: Answer) -> None:
        dy, x, gamma = _data(rows)
        assert condition(np.asarray(backward(dy, x, gamma, eps)), x)

    return test


def _along(dx: np.ndarray, x: np.ndarray) -> float:
    return float(np.abs(np.sum(dx * x, axis=-1)).max())


def _always_fails(backward: Answer) -> None:
    raise AssertionError


def _bit_for_bit(backward: Answer) -> None:
    assert np.array_equal(backward(*_data(), 1e-5), _backward()(*_data(), 1e-5))


def _without_gain() -> Data:
    dy, x, gamma = _data()
    return dy, x, np.ones_like(gamma)


TEST_DETACHED_SCALE = failing_test(
    "test_detached_scale",
    signature="test_detached_scale(backward)",
    buggy={
        "r taken for a constant: dx = g / r": _backward("detached"),
        "half of the second term": _backward("half"),
        "the mean of g taken out instead, as if r were constant and a mean were subtracted": _backward("mean of g"),
        "the second term without gamma": _backward("no gamma"),
        "the second term for the first row only": _backward("first row"),
        "the second term divided by D once too often": _backward("over D"),
        "the second term averaged over the batch": _backward("batch"),
    },
    correct={
        "the formula of chapter 9": _backward(),
        "the formula in float32": _in_single,
        "the chain rule through the scale": _through_scale,
        "the matrix of all derivatives, for each row": _by_jacobian,
        "central differences": _numeric,
    },
    solution=_looks_at(lambda dx, x: _along(dx, x) < 1e-3),
    forbids=("lnorm.reference.rms_norm_backward",),
    mistakes={
        "a test that nothing fails": lambda backward: None,
        "a test that everything fails": _always_fails,
        "a gain of one, with which a missing gamma does not show": _differences(_without_gain()),
        "one row only, so that nothing can be wrong in the others": _looks_at(
            lambda dx, x: _along(dx, x) < 1e-3, rows=1
        ),
        "a dy for which the second term is zero": _differences(_at_right_angles(*_data())),
        "an eps so large that the scale is nearly constant": _differences(eps=1e6),
        "Σ dx·x = 0 asked for at a large eps, where it is not": _looks_at(lambda dx, x: _along(dx, x) < 1e-3, eps=1.0),
        "Σ dx = 0, which is LayerNorm's property": _looks_at(lambda dx, x: np.abs(dx.sum(axis=-1)).max() < 1e-3),
        "Σ dx·x = 0 asked for over the batch instead of over rows": _looks_at(
            lambda dx, x: np.abs(np.sum(dx * x, axis=0)).max() < 1e-3
        ),
        "only a look at the shape of dx": _looks_at(lambda dx, x: dx.shape == x.shape),
        "only a look whether dx is zero": _looks_at(lambda dx, x: np.abs(dx).max() > 0),
        "a tolerance below the rounding of float32": _looks_at(lambda dx, x: _along(dx, x) < 1e-12),
        "a tolerance so wide that wrong gradients pass": _differences(tolerance=10.0),
        "a step so large that the difference is no derivative": _differences(step=3.0),
        "equality bit for bit with one way to write it": _bit_for_bit,
        "the assertion upside down": _looks_at(lambda dx, x: _along(dx, x) > 1e-3),
    },
)
