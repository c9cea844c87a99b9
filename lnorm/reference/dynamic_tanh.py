"""Dynamic tanh (Zhu et al. 2025): what a normalization layer does to large values, without any statistic."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from lnorm.reference import _arguments as arguments
from lnorm.reference._arguments import FloatArray


class DynamicTanhCache(NamedTuple):
    """What the backward pass needs: the input, the squashed input, the slope and the gain."""

    x: FloatArray
    squashed: FloatArray
    alpha: FloatArray
    gamma: FloatArray | None
    dtype: DTypeLike


def dynamic_tanh(
    x: ArrayLike, alpha: ArrayLike, gamma: ArrayLike | None = None, beta: ArrayLike | None = None
) -> tuple[FloatArray, DynamicTanhCache]:
    """Return ``gamma * tanh(alpha * x) + beta``, every element on its own.

    ``x`` has shape ``(..., D)``. ``alpha`` is one learned number for the layer, shape ``()`` or ``(1,)``; the paper
    starts it at 0.5. ``gamma`` and ``beta`` have shape ``(D,)``; None means 1 and 0.

    Returns ``y`` with the shape and dtype of ``x``, and the cache for :func:`dynamic_tanh_backward`.
    Raises TypeError for a dtype other than float16/32/64, ValueError for shapes that do not fit.
    """
    x = arguments.float_array("x", x)
    if x.ndim < 1:
        raise ValueError(f"x: expected shape (..., D), got {x.shape}")
    alpha = arguments.float_array("alpha", float(alpha) if isinstance(alpha, int) else alpha)
    if alpha.shape not in ((), (1,)):
        raise ValueError(f"alpha: expected one number, of shape () or (1,), got shape {alpha.shape}")
    gamma = arguments.parameter("gamma", gamma, x.shape[-1:])
    beta = arguments.parameter("beta", beta, x.shape[-1:])

    wide = x.astype(arguments.accumulator(x.dtype))
    squashed = np.tanh(alpha * wide)
    y = squashed
    if gamma is not None:
        y = y * gamma
    if beta is not None:
        y = y + beta
    return y.astype(x.dtype), DynamicTanhCache(wide, squashed, alpha, gamma, x.dtype)


def dynamic_tanh_backward(
    dy: ArrayLike, cache: DynamicTanhCache
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return ``(dx, dalpha, dgamma, dbeta)`` for the cotangent ``dy`` of the forward output.

    With g = dy * gamma and t = tanh(alpha * x), whose slope is 1 - t**2::

        dx = g * (1 - t**2) * alpha,   dalpha = sum(g * (1 - t**2) * x)
    """
    x, squashed, alpha, gamma, dtype = cache
    dy = arguments.cotangent(dy, x.shape).astype(x.dtype)
    g = dy if gamma is None else dy * gamma

    slope = 1 - squashed**2
    dx = g * slope * alpha
    dalpha = np.sum(g * slope * x).reshape(alpha.shape)
    batch_axes = tuple(range(dy.ndim - 1))
    dgamma = np.sum(dy * squashed, axis=batch_axes)
    dbeta = np.sum(dy, axis=batch_axes)
    return dx.astype(dtype), dalpha.astype(dtype), dgamma.astype(dtype), dbeta.astype(dtype)
