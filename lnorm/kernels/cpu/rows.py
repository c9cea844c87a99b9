"""What is computed once a row: the moments, in one pass over memory, and the deviation from the mean."""

from typing import Any

import numpy as np

from lnorm.kernels.cpu.compiled import IN_ORDER, REORDER, compiled
from lnorm.kernels.cpu.halves import widen

LEAD = 8  # elements that the first guess of the mean is taken from


@compiled(fastmath=IN_ORDER)
def deviation(x: Any, shift: Any, rest: Any) -> Any:
    """Return x minus the mean, where the mean is the sum of two numbers: a large one and what it was rounded by."""
    return (x - shift) - rest


@compiled(fastmath=REORDER)
def moments(x: Any, i: int, number: Any) -> Any:
    """Return the mean of row i, as ``(shift, rest)``, and its variance; ``number`` is the type to compute with.

    One pass: the sums of x - shift and of its square, with a shift near the mean. Where the shift was not near
    enough, or a square overflowed, the row, by now in the cache, is summed again in float64.
    """
    D = x.shape[1]
    lead = min(D, LEAD)
    total = number(0)
    for j in range(lead):
        total += widen(x[i, j])
    shift = number(total / lead)
    first, second = number(0), number(0)
    for j in range(D):
        d = deviation(widen(x[i, j]), shift, number(0))
        first += d
        second += d * d
    rest = np.float64(first) / D
    var = np.float64(second) / D - rest * rest
    if 0.05 * rest * rest <= var < np.inf:  # np.isfinite is itself a difference, and could be reordered away
        return shift, number(rest), var
    return wide_moments(x, i, number)


@compiled(fastmath=REORDER)
def wide_moments(x: Any, i: int, number: Any) -> Any:
    """Return the same from float64 sums around the mean, in two passes."""
    D = x.shape[1]
    total = 0.0
    for j in range(D):
        total += np.float64(widen(x[i, j]))
    mean = total / D
    first, second = 0.0, 0.0
    for j in range(D):
        d = deviation(np.float64(widen(x[i, j])), mean, 0.0)
        first += d
        second += d * d
    left = first / D
    shift = number(mean)
    return shift, number((mean - np.float64(shift)) + left), max(second / D - left * left, 0.0)


@compiled(fastmath=REORDER)
def mean_square(x: Any, i: int, number: Any) -> Any:
    """Return the mean square of row i; in float64, where it overflows otherwise."""
    D = x.shape[1]
    second = number(0)
    for j in range(D):
        second += widen(x[i, j]) * widen(x[i, j])
    if second < np.inf:
        return np.float64(second) / D
    wide = 0.0
    for j in range(D):
        wide += np.float64(widen(x[i, j])) * np.float64(widen(x[i, j]))
    return wide / D
