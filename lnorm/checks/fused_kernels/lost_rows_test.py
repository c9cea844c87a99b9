"""Exercise 11.6: the test that catches rows lost at the end of a sum in chunks."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer
from lnorm.checks.failing_test import failing_test

Rows = list[slice]  # the rows of each chunk


def _sum(rows: Callable[[int], Rows], dtype: Any = None) -> Answer:
    """Return a gain_gradient that adds up these rows, chunk by chunk."""

    def gain_gradient(dy: np.ndarray, x_hat: np.ndarray) -> np.ndarray:
        total = np.zeros(dy.shape[1], dtype or dy.dtype)
        for chunk in rows(len(dy)):
            total += np.sum(dy[chunk] * x_hat[chunk], axis=0, dtype=total.dtype)
        return total.astype(dy.dtype)

    return gain_gradient


def _whole(size: int) -> Callable[[int], Rows]:
    return lambda n: [slice(start, start + size) for start in range(0, n - size + 1, size)]


def _all(size: int) -> Callable[[int], Rows]:
    return lambda n: [slice(start, start + size) for start in range(0, n, size)]


def _short_last(n: int) -> Rows:
    """Chunks of 16, of which an incomplete one loses its last row."""
    return [slice(start, start + 16 if start + 16 <= n else n - 1) for start in range(0, n, 16)]


def _shares(pieces: int, lost: bool) -> Callable[[int], Rows]:
    def rows(n: int) -> Rows:
        if n < pieces:
            return [slice(0, n)]
        size = n // pieces
        return [slice(k * size, n if k == pieces - 1 and not lost else (k + 1) * size) for k in range(pieces)]

    return rows


def _overwritten(dy: np.ndarray, x_hat: np.ndarray) -> np.ndarray:
    """The buffer has one place too few, and the incomplete chunk takes the place of the one before it."""
    places = max(len(dy) // 8, 1)
    partial = np.zeros((places, dy.shape[1]), dy.dtype)
    for k, start in enumerate(range(0, len(dy), 8)):
        partial[min(k, places - 1)] = np.sum(dy[start : start + 8] * x_hat[start : start + 8], axis=0)
    return partial.sum(axis=0)


def _at_once(dy: np.ndarray, x_hat: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->d", dy, x_hat)


def _padded(dy: np.ndarray, x_hat: np.ndarray) -> np.ndarray:
    """Full chunks of 32: rows that do not exist are zeros."""
    product = np.zeros((-(-len(dy) // 32) * 32, dy.shape[1]), dy.dtype)
    product[: len(dy)] = dy * x_hat
    return product.reshape(-1, 32, dy.shape[1]).sum(axis=1).sum(axis=0)


def _backwards(dy: np.ndarray, x_hat: np.ndarray) -> np.ndarray:
    return _sum(_all(24))(dy[::-1], x_hat[::-1])


def _ones(n: int, d: int = 5) -> tuple[np.ndarray, np.ndarray]:
    return np.ones((n, d), np.float32), np.ones((n, d), np.float32)


def _noise(n: int, d: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, d)).astype(np.float32), rng.normal(size=(n, d)).astype(np.float32)


def _right(dy: np.ndarray, x_hat: np.ndarray) -> np.ndarray:
    return np.sum(dy * x_hat, axis=0, dtype=float)


def _solution(gain_gradient: Answer) -> None:
    assert np.array_equal(gain_gradient(*_ones(1031)), np.full(5, 1031))


def _on(*sizes: int) -> Answer:
    """Return a test that is right but for the numbers of rows that it tries."""

    def test_lost_rows(gain_gradient: Answer) -> None:
        for n in sizes:
            assert np.array_equal(gain_gradient(*_ones(n)), np.full(5, n))

    return test_lost_rows


def _loose(gain_gradient: Answer) -> None:
    inputs = _ones(1031)
    np.testing.assert_allclose(gain_gradient(*inputs), _right(*inputs), rtol=0.05)


def _bit_for_bit(gain_gradient: Answer) -> None:
    inputs = _noise(1031)
    assert np.array_equal(gain_gradient(*inputs), np.sum(inputs[0] * inputs[1], axis=0))


def _zeros_at_the_end(gain_gradient: Answer) -> None:
    dy, x_hat = _ones(1031)
    dy[1000:] = 0
    assert np.array_equal(gain_gradient(dy, x_hat), np.full(5, 1000))


def _only_the_shape(gain_gradient: Answer) -> None:
    result = gain_gradient(*_noise(1031))
    assert result.shape == (5,)
    assert np.isfinite(result).all()


def _always_fails(gain_gradient: Answer) -> None:
    raise AssertionError


def _upside_down(gain_gradient: Answer) -> None:
    assert not np.array_equal(gain_gradient(*_ones(1031)), np.full(5, 1031))


TEST_LOST_ROWS = failing_test(
    "test_lost_rows",
    signature="test_lost_rows(gain_gradient)",
    buggy={
        "whole chunks of 8 rows only": _sum(_whole(8)),
        "whole chunks of 128 rows only": _sum(_whole(128)),
        "chunks of 10 rows, and the rest is lost": _sum(_whole(10)),
        "four equal pieces, and the rest is lost": _sum(_shares(4, lost=True)),
        "an incomplete chunk loses its last row": _sum(_short_last),
        "an incomplete chunk overwrites the sum of the one before it": _overwritten,
    },
    correct={
        "chunks of 8 rows, the last one incomplete": _sum(_all(8)),
        "all rows at once": _at_once,
        "four pieces, the last one larger": _sum(_shares(4, lost=False)),
        "chunks of 128 rows, added in float64": _sum(_all(128), np.float64),
        "rows that do not exist filled with zeros": _padded,
        "from the last row to the first": _backwards,
    },
    solution=_solution,
    mistakes={
        "a test that nothing fails": lambda gain_gradient: None,
        "a test that everything fails": _always_fails,
        "1024 rows, which most chunks divide": _on(1024),
        "1000 rows, which leave no rest in chunks of 8 or 10": _on(1000),
        "several numbers of rows that chunks of 128 all divide": _on(128, 256, 8192),
        "a single row, which some handle by itself": _on(1),
        "a tolerance of 5 %, larger than what is lost": _loose,
        "equality bit for bit on random numbers, which right code misses by rounding": _bit_for_bit,
        "zeros in the last rows, which nobody misses": _zeros_at_the_end,
        "only a look at the shape, and for NaN": _only_the_shape,
        "the assertion upside down": _upside_down,
    },
)
