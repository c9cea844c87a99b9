"""Mean and variance in one pass over the data (Welford 1962)."""

import numpy as np
from numpy.typing import ArrayLike

from lnorm.reference import _arguments as arguments
from lnorm.reference._arguments import FloatArray


def welford(x: ArrayLike, axis: int) -> tuple[FloatArray, FloatArray]:
    """Return mean and biased variance of ``x`` along ``axis``, reading every value once.

    Both are updated value by value. The sum of squares m2 grows by products of two differences, so nothing large is
    subtracted from anything large, as it is in E[x²] - E[x]²::

        delta = value - mean
        mean  = mean + delta / n
        m2    = m2 + delta * (value - mean)    # one factor with the old mean, one with the new

    The results have the dtype of ``x`` and its shape without ``axis``.
    Raises TypeError for a dtype other than float16/32/64, ValueError for an axis that ``x`` lacks or that is empty.
    """
    x = arguments.float_array("x", x)
    axis = arguments.axis_index("axis", axis, x.ndim)
    if x.shape[axis] == 0:
        raise ValueError(f"x: expected at least one value along {axis=}, got shape {x.shape}")

    values = np.moveaxis(x, axis, 0).astype(arguments.accumulator(x.dtype))
    mean = np.zeros(values.shape[1:], values.dtype)
    m2 = np.zeros_like(mean)
    for n, value in enumerate(values, start=1):
        delta = value - mean
        mean += delta / n
        m2 += delta * (value - mean)
    return mean.astype(x.dtype), (m2 / len(values)).astype(x.dtype)
