"""Root-mean-square normalization (Zhang & Sennrich 2019, equation 4)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from lnorm.reference import _arguments as arguments
from lnorm.reference._arguments import FloatArray


class RMSNormCache(NamedTuple):
    """What the backward pass needs: the normalized input, one over the root mean square, and the gain."""

    x_hat: FloatArray
    rrms: FloatArray
    gamma: FloatArray | None
    axes: tuple[int, ...]
    dtype: DTypeLike


def rms_norm(
    x: ArrayLike, normalized_shape: int | Sequence[int], gamma: ArrayLike | None = None, eps: float = 1e-5
) -> tuple[FloatArray, RMSNormCache]:
    """Divide every row of ``x`` by its own root mean square, then scale by ``gamma``. No mean is subtracted.

    Rows and ``gamma`` are as in :func:`lnorm.reference.layer_norm`; ``eps`` is added to the mean square, inside the
    root.

    Returns ``y`` with the shape and dtype of ``x``, and the cache for :func:`rms_norm_backward`.
    Raises TypeError for a dtype other than float16/32/64, ValueError for shapes that do not fit.
    """
    x = arguments.float_array("x", x)
    shape = arguments.shape_tuple("normalized_shape", normalized_shape)
    axes = arguments.trailing_axes(x, shape)
    gamma = arguments.parameter("gamma", gamma, shape)
    arguments.check_eps(eps)

    wide = x.astype(arguments.accumulator(x.dtype))
    rrms = 1 / np.sqrt(np.mean(wide**2, axis=axes, keepdims=True) + eps)
    x_hat = wide * rrms
    y = x_hat if gamma is None else x_hat * gamma
    return y.astype(x.dtype), RMSNormCache(x_hat, rrms, gamma, axes, x.dtype)


def rms_norm_backward(dy: ArrayLike, cache: RMSNormCache) -> tuple[FloatArray, FloatArray]:
    """Return ``(dx, dgamma)``: as LayerNorm's backward, without the mean term.

    With g = dy * gamma::

        dx = (g - x_hat * mean(g * x_hat)) * rrms
    """
    x_hat, rrms, gamma, axes, dtype = cache
    dy = arguments.cotangent(dy, x_hat.shape).astype(x_hat.dtype)
    g = dy if gamma is None else dy * gamma

    dx = (g - x_hat * np.mean(g * x_hat, axis=axes, keepdims=True)) * rrms
    dgamma = np.sum(dy * x_hat, axis=tuple(range(axes[0])))
    return dx.astype(dtype), dgamma.astype(dtype)
