"""Arrays in a slow memory that counts what is moved, and what else an answer allocates."""

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from lnorm.checks.exercise import UnusableError


class Memory:
    """A two-dimensional array behind a cache that holds one row of it.

    ``a[i, j]`` is one number and ``a[i]`` a row; both can be read and written, nothing else can. Reading a row that is
    not in the cache loads it. Writing changes the cached row, and does not load it first; a row that was changed is
    stored when another one takes its place.
    """

    def __init__(self, values: np.ndarray) -> None:
        self._values = values.copy()
        self._row, self._is_cached, self._is_changed = -1, False, False
        self._loads = self._stores = 0
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __getitem__(self, index: Any) -> Any:
        if self._is_cached and self._row_of(index) == self._row:  # most often: loops should not wait for the rest
            return self._values[index]
        i, part = self._split(index)
        self._move_to(i)
        if not self._is_cached:
            self._loads += 1
            self._is_cached = True
        return self._values[i, part].copy()

    def __setitem__(self, index: Any, value: Any) -> None:
        if self._is_changed and self._row_of(index) == self._row:
            self._values[index] = value
            return
        i, part = self._split(index)
        self._move_to(i)
        self._is_cached = self._is_changed = True
        self._values[i, part] = value

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise UnusableError(ONE_ROW)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(self.shape[0]))

    def __len__(self) -> int:
        return self.shape[0]

    def _row_of(self, index: Any) -> int:
        """Return the row of the index of a single number, -2 of anything else."""
        is_number = index.__class__ is tuple and index[0].__class__ is int is index[-1].__class__ and len(index) == 2
        return index[0] if is_number else -2

    def _split(self, index: Any) -> tuple[int, Any]:
        """Return the row, and what of the row: a number or a slice."""
        i, *rest = index if isinstance(index, tuple) else (index,)
        if not isinstance(i, (int, np.integer)) or len(rest) > 1:
            raise UnusableError(ONE_ROW)
        if not -self.shape[0] <= i < self.shape[0]:
            raise IndexError(f"there is no row {i}")
        return int(i) % self.shape[0], rest[0] if rest else slice(None)

    def _move_to(self, row: int) -> None:
        if row != self._row:
            self._stores += self._is_changed
            self._row, self._is_cached, self._is_changed = row, False, False

    def moved(self) -> np.ndarray:
        """Return how many times the array was loaded and stored, in units of its own size, ``(2,)``."""
        self._move_to(-1)
        return np.array([self._loads, self._stores]) / self.shape[0]

    def values(self) -> np.ndarray:
        """Return what the array contains now."""
        return self._values.copy()


ONE_ROW = "the arrays of this exercise are read and written one row or one number at a time: x[i] or x[i, j]"


@contextmanager
def peak_memory(wanted: bool = True) -> Iterator[Callable[[], int]]:
    """Give a function that returns, after the block, the most bytes that were allocated in it at one time."""
    if not wanted:
        yield lambda: 0
        return
    nested = tracemalloc.is_tracing()
    if not nested:
        tracemalloc.start()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    peak = 0

    def bytes_at_most() -> int:
        return peak

    try:
        yield bytes_at_most
    finally:
        peak = tracemalloc.get_traced_memory()[1] - before
        if not nested:
            tracemalloc.stop()


def plain(answer: Any) -> Any:
    """Return the Python function that was compiled by numba, if it was: it takes arrays that count."""
    return getattr(answer, "py_func", answer)
