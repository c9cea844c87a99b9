"""Exercise 10.7: the test that catches an eps which float16 rounds away."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm import museum
from lnorm.checks.exercise import Answer
from lnorm.checks.failing_test import failing_test

HALF = np.float16


def _layer_norm(below: Callable[[np.ndarray, float], np.ndarray], wide: Any = np.float32) -> Answer:
    """Return a layer_norm with this way from the variance of rows and eps to what stands under the root."""

    def layer_norm(x: np.ndarray, eps: float = 1e-12) -> np.ndarray:
        centred = x.astype(wide) - x.astype(wide).mean(-1, keepdims=True)
        var = np.mean(centred**2, -1, keepdims=True)
        with np.errstate(all="ignore"):
            return (centred / np.sqrt(below(var, eps)).astype(wide)).astype(HALF)

    return layer_norm


def _of_exhibit(function: Callable[..., museum.Outputs]) -> Answer:
    return lambda x, eps=1e-12: function(x=x, eps=eps)["y"]


def _all_in_half(x: np.ndarray, eps: float = 1e-12) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    with np.errstate(all="ignore"):
        return centred / np.sqrt(np.mean(centred * centred, -1, keepdims=True) + HALF(eps))


def _nan_removed(x: np.ndarray, eps: float = 1e-12) -> np.ndarray:
    """The bug, and its symptom on constant rows removed: quiet rows come out infinite."""
    y = museum.eps_rounded_to_half(x, eps)["y"]
    return np.where(np.isnan(y), HALF(0), y)


def _quiet_rows_lost(x: np.ndarray, eps: float = 1e-12) -> np.ndarray:
    """Everything that is not finite removed: quiet rows come out as zeros."""
    y = museum.eps_rounded_to_half(x, eps)["y"]
    return np.where(np.isfinite(y), y, HALF(0))


def _scaled(x: np.ndarray, eps: float = 1e-12) -> np.ndarray:
    """Divide each row by its largest deviation first, and eps by its square: no square is ever small."""
    wide = x.astype(np.float32)
    centred = wide - wide.mean(-1, keepdims=True)
    size = np.maximum(np.abs(centred).max(-1, keepdims=True), 1e-7)
    centred = centred / size
    return (centred / np.sqrt(np.mean(centred**2, -1, keepdims=True) + eps / size**2)).astype(HALF)


def _quiet(n: int = 20, size: float = 3e-5) -> np.ndarray:
    return (size * np.random.default_rng(0).normal(size=(n, 32))).astype(HALF)


def _loud(n: int = 20) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n, 32)).astype(HALF)


ZEROS = np.zeros((3, 32), HALF)


def _error(layer_norm: Answer, x: np.ndarray, eps: float = 1e-12) -> float:
    """Return how far the output is from that in float64; NaN and infinity where it is not finite."""
    wide = x.astype(float)
    right = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + eps)
    return float(np.abs(layer_norm(x, eps) - right).max())


def _asserts(condition: Callable[[Answer], Any]) -> Answer:
    def test(layer_norm: Answer) -> None:
        assert condition(layer_norm)

    return test


TEST_LOST_EPS = failing_test(
    "test_lost_eps",
    signature="test_lost_eps(layer_norm)",
    buggy={
        "eps added in float32, and the sum stored in float16": _of_exhibit(museum.eps_rounded_to_half),
        "eps rounded to float16, and the variance too": _layer_norm(lambda var, eps: var.astype(HALF) + HALF(eps)),
        "everything in float16": _all_in_half,
        "the bug, and NaN replaced by zeros": _nan_removed,
        "the bug, and all that is not finite replaced by zeros": _quiet_rows_lost,
    },
    correct={
        "float32 until the end": _of_exhibit(museum.eps_kept_in_single),
        "float64 until the end": _of_exhibit(museum.eps_kept_in_double),
        "the root taken of each part": _layer_norm(lambda var, eps: np.hypot(np.sqrt(var), np.sqrt(eps)) ** 2),
        "every row scaled by its largest deviation first": _scaled,
        "the variance in float32, the rest in float64": _layer_norm(
            lambda var, eps: var.astype(np.float32).astype(float) + eps, wide=np.float64
        ),
    },
    solution=_asserts(lambda f: _error(f, ZEROS) == 0 and _error(f, _quiet()) < 0.05),
    mistakes={
        "a test that nothing fails": lambda layer_norm: None,
        "a test that everything fails": _asserts(lambda f: False),
        "rows of ordinary size, in which eps does not matter": _asserts(lambda f: _error(f, _loud()) < 0.05),
        "only constant rows: NaN is easily replaced": _asserts(lambda f: _error(f, ZEROS) == 0),
        "only a look for NaN": _asserts(lambda f: not np.isnan(f(np.concatenate([ZEROS, _quiet()]))).any()),
        "only a look at what is finite, which zeros are": _asserts(
            lambda f: np.isfinite(f(np.concatenate([ZEROS, _quiet()]))).all()
        ),
        "an eps of 1e-3, which float16 can hold": _asserts(
            lambda f: max(_error(f, ZEROS, 1e-3), _error(f, _loud(), 1e-3)) < 0.05
        ),
        "rows in float64, in which nothing is rounded away": _asserts(lambda f: f(_loud().astype(float)).dtype == HALF),
        "a tolerance below the rounding of float16": _asserts(lambda f: _error(f, _quiet()) < 1e-6),
        "equality bit for bit with one way to write it": _asserts(
            lambda f: (
                np.array_equal(f(_loud(200)), museum.eps_kept_in_single(_loud(200))["y"])
                and np.array_equal(f(_quiet(200)), museum.eps_kept_in_single(_quiet(200))["y"])
            )
        ),
        "the assertion upside down": _asserts(lambda f: _error(f, ZEROS) != 0),
    },
)
