"""How every kernel is compiled: on its first call, and kept on disk where there is a place to keep it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

# Sums may be reordered, or they would not be vectorized. Infinities and NaN keep their meaning.
REORDER = {"reassoc", "contract", "arcp", "nsz"}
# Where an expression was written to lose nothing to rounding, its order stays. numba sets these flags function by
# function, and they survive inlining: so such an expression is a small function of its own.
IN_ORDER = {"nsz"}

CHUNKS = 64  # at most so many pieces, whatever the number of threads: results depend on the pieces alone
ROWS = 32  # and at least so many rows in a piece, so that the partial sums stay small beside the input


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return numba's decorator. The cache on disk is left out where no directory can be written to."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            kernel = njit(cache=True, nogil=True, error_model="numpy", **options)(function)
        except RuntimeError:  # "no locator available": neither this folder nor the user's can be written to
            return njit(nogil=True, error_model="numpy", **options)(function)
        # numba takes a cached kernel for fresh while the kernel's own file is. It must be while this whole folder is.
        kernel._cache._cache_file._source_stamp = sources()
        return kernel

    return decorate


def sources() -> list[tuple[str, int, int]]:
    """Return what changes when any file changes that a kernel is made of."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return [(each.name, each.stat().st_mtime_ns, each.stat().st_size) for each in files]


def pieces(rows: int) -> int:
    """Return into how many pieces ``rows`` rows are cut: a function of the shape, not of the machine."""
    return max(1, min(CHUNKS, rows // ROWS))
