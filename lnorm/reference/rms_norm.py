"""Root-mean-square normalization (Zhang & Sennrich 2019, equation 4), and their partial version, pRMSNorm."""

import math
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


class PartialRMSNormCache(NamedTuple):
    """What the backward pass needs; ``used`` is how many elements of a row the root mean square was taken of."""

    x_hat: FloatArray
    rrms: FloatArray
    gamma: FloatArray | None
    used: int
    dtype: DTypeLike


def partial_rms_norm(
    x: ArrayLike, p: float, gamma: ArrayLike | None = None, eps: float = 1e-5
) -> tuple[FloatArray, PartialRMSNormCache]:
    """Divide the last axis of ``x`` by a root mean square estimated from the share ``p`` of its elements.

    ``x`` has shape ``(..., D)`` and ``gamma`` shape ``(D,)``. The estimate takes the first ceil(p * D) elements of
    every row (pRMSNorm in the paper; the authors' code rounds down). ``p=1`` is RMSNorm.

    Returns ``y`` with the shape and dtype of ``x``, and the cache for :func:`partial_rms_norm_backward`.
    Raises TypeError for a dtype other than float16/32/64, ValueError for shapes that do not fit and for a ``p`` that is
    not above 0 and at most 1.
    """
    x = arguments.float_array("x", x)
    if x.ndim < 1 or x.shape[-1] < 1:
        raise ValueError(f"x: expected shape (..., D) with D of at least 1, got {x.shape}")
    if not (arguments.is_finite(p) and 0 < p <= 1):
        raise ValueError(f"p: expected a number above 0 and at most 1, got {p!r}")
    gamma = arguments.parameter("gamma", gamma, x.shape[-1:])
    arguments.check_eps(eps)

    used = max(1, math.ceil(p * x.shape[-1] - 1e-9))  # 0.07 * 100 is 7.000000000000001 and means 7
    wide = x.astype(arguments.accumulator(x.dtype))
    rrms = 1 / np.sqrt(np.mean(wide[..., :used] ** 2, axis=-1, keepdims=True) + eps)
    x_hat = wide * rrms
    y = x_hat if gamma is None else x_hat * gamma
    return y.astype(x.dtype), PartialRMSNormCache(x_hat, rrms, gamma, used, x.dtype)


def partial_rms_norm_backward(dy: ArrayLike, cache: PartialRMSNormCache) -> tuple[FloatArray, FloatArray]:
    """Return ``(dx, dgamma)``: every output depends on the estimate, but only the elements it used feel that.

    With g = dy * gamma, k the number of elements used, and the sum over all D::

        dx_i = (g_i - [i < k] * x_hat_i * sum(g * x_hat) / k) * rrms
    """
    x_hat, rrms, gamma, used, dtype = cache
    dy = arguments.cotangent(dy, x_hat.shape).astype(x_hat.dtype)
    g = dy if gamma is None else dy * gamma

    correction = np.zeros_like(x_hat)
    correction[..., :used] = x_hat[..., :used] * np.sum(g * x_hat, axis=-1, keepdims=True) / used
    dx = (g - correction) * rrms
    dgamma = np.sum(dy * x_hat, axis=tuple(range(dy.ndim - 1)))
    return dx.astype(dtype), dgamma.astype(dtype)
