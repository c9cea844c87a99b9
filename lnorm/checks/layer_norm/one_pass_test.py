"""Exercise 3.8: the test that catches a variance computed in one pass."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer
from lnorm.checks.failing_test import failing_test


def _norm(variance: Callable[[np.ndarray], np.ndarray]) -> Answer:
    """Return a layer_norm over the last axis with this way to get the variance of rows, ``(..., D) -> (..., 1)``."""

    def layer_norm(x: np.ndarray, eps: float = 1e-5) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return ((x - x.mean(-1, keepdims=True)) / np.sqrt(variance(x) + x.dtype.type(eps))).astype(x.dtype)

    return layer_norm


def _one_pass(x: np.ndarray) -> np.ndarray:
    return np.mean(x * x, -1, keepdims=True) - np.mean(x, -1, keepdims=True) ** 2  # counter-example: this cancels


def _welford(x: np.ndarray) -> np.ndarray:
    mean, m2 = np.zeros_like(x[..., 0]), np.zeros_like(x[..., 0])
    for n in range(x.shape[-1]):
        delta = x[..., n] - mean
        mean = mean + delta / x.dtype.type(n + 1)
        m2 = m2 + delta * (x[..., n] - mean)
    return (m2 / x.dtype.type(x.shape[-1]))[..., None]


def _sums(x: np.ndarray) -> np.ndarray:
    d = x.shape[-1]
    return (np.sum(x * x, -1, keepdims=True) - np.sum(x, -1, keepdims=True) ** 2 / d) / d


def _data(loc: float, scale: float = 1.0, dtype: Any = np.float32) -> np.ndarray:
    return (loc + scale * np.random.default_rng(0).normal(size=(20, 64))).astype(dtype)


def _error(layer_norm: Answer, x: np.ndarray) -> float:
    """Return how far the output is from that of two passes in float64."""
    wide = x.astype(float)
    right = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5)
    return float(np.abs(layer_norm(x) - right).max())


def _solution(layer_norm: Answer) -> None:
    assert _error(layer_norm, _data(1e4)) < 0.05


def _always_fails(layer_norm: Answer) -> None:
    raise AssertionError


def _near_zero(layer_norm: Answer) -> None:
    assert _error(layer_norm, _data(0.0)) < 1e-4


def _in_float64(layer_norm: Answer) -> None:
    assert _error(layer_norm, _data(1e4, dtype=np.float64)) < 0.05


def _only_finite(layer_norm: Answer) -> None:
    assert np.isfinite(layer_norm(_data(1e4))).all()


def _only_the_mean(layer_norm: Answer) -> None:
    assert np.abs(np.nan_to_num(layer_norm(_data(1e4))).mean(-1)).max() < 1.0


def _too_strict(layer_norm: Answer) -> None:
    assert _error(layer_norm, _data(1e4)) < 1e-7


def _bit_for_bit(layer_norm: Answer) -> None:
    x = _data(1e4)
    two_pass = _norm(lambda x: np.mean((x - x.mean(-1, keepdims=True)) ** 2, -1, keepdims=True))
    assert np.array_equal(layer_norm(x), two_pass(x))


def _upside_down(layer_norm: Answer) -> None:
    assert not _error(layer_norm, _data(1e4)) < 0.05


TEST_ONE_PASS = failing_test(
    "test_one_pass",
    signature="test_one_pass(layer_norm)",
    buggy={
        "E[x²] − E[x]²": _norm(_one_pass),
        "E[x²] − E[x]², negative values set to 0": _norm(lambda x: np.maximum(_one_pass(x), 0)),
        "the absolute value of E[x²] − E[x]²": _norm(lambda x: np.abs(_one_pass(x))),
        "(Σx² − (Σx)² / D) / D": _norm(_sums),
    },
    correct={
        "two passes": _norm(lambda x: np.mean((x - x.mean(-1, keepdims=True)) ** 2, -1, keepdims=True)),
        "Welford's one pass": _norm(_welford),
        "NumPy's var": _norm(lambda x: x.var(-1, keepdims=True)),
        "sums in float64": _norm(lambda x: x.astype(np.float64).var(-1, keepdims=True).astype(x.dtype)),
        "one pass over x minus the first value of its row": _norm(lambda x: _one_pass(x - x[..., :1])),
    },
    solution=_solution,
    mistakes={
        "a test that nothing fails": lambda layer_norm: None,
        "a test that everything fails": _always_fails,
        "rows near zero, where one pass is as good as two": _near_zero,
        "float64, in which the bug does not show at this distance": _in_float64,
        "only a look for NaN, which misses wrong numbers that are finite": _only_finite,
        "only a look at the mean of the output": _only_the_mean,
        "a tolerance below the rounding of float32": _too_strict,
        "equality bit for bit with one way to write it": _bit_for_bit,
        "the assertion upside down": _upside_down,
    },
)
