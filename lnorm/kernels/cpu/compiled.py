"""How every kernel is compiled: on its first call, and kept on disk where there is a place to keep it."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import event

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


class Announcer(event.Listener):
    """Says what is going on when a kernel takes longer than ``patience`` seconds to compile."""

    def __init__(self, patience: float = 2.0) -> None:
        self.patience = patience
        self._running: list[tuple[Any, threading.Timer]] = []  # one kernel's compilation starts that of its parts

    def on_start(self, happening: Any) -> None:
        kernel = happening.data["dispatcher"].py_func
        if kernel.__module__.startswith(__package__) and not self._running:
            name = f"{kernel.__module__.rpartition('.')[2]}.{kernel.__name__}"
            timer = threading.Timer(self.patience, self._say, [name])
            timer.daemon = True
            timer.start()
            self._running.append((happening.data["dispatcher"], timer))

    def on_end(self, happening: Any) -> None:
        if self._running and self._running[-1][0] is happening.data["dispatcher"]:
            self._running.pop()[1].cancel()

    @staticmethod
    def _say(name: str) -> None:
        print(f"lnorm compiles its kernel {name} for this machine, once: a few seconds.", file=sys.stderr, flush=True)


event.register("numba:compile", Announcer())
