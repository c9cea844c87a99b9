"""Layer normalization (Ba, Kiros & Hinton 2016, equations 3 and 4)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from lnorm.reference import _arguments as arguments
from lnorm.reference._arguments import FloatArray


class LayerNormCache(NamedTuple):
    """What the backward pass needs: the normalized input, one over the standard deviation, and the gain."""

    x_hat: FloatArray
    rstd: FloatArray
    gamma: FloatArray | None
    axes: tuple[int, ...]
    dtype: DTypeLike


def layer_norm(
    x: ArrayLike,
    normalized_shape: int | Sequence[int],
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    eps: float = 1e-5,
) -> tuple[FloatArray, LayerNormCache]:
    """Normalize every row of ``x`` by its own mean and variance, then scale by ``gamma`` and shift by ``beta``.

    A row is whatever ``normalized_shape`` spans: the trailing axes of ``x``, shape ``(..., *normalized_shape)``.
    ``gamma`` and ``beta`` have shape ``normalized_shape``; None means 1 and 0. The variance divides by the number of
    elements D, not D - 1, and ``eps`` is added to it inside the square root, as in torch.nn.LayerNorm.

    Returns ``y`` with the shape and dtype of ``x``, and the cache for :func:`layer_norm_backward`.
    Raises TypeError for a dtype other than float16/32/64, ValueError for shapes that do not fit.
    """
    x = arguments.float_array("x", x)
    shape = arguments.shape_tuple("normalized_shape", normalized_shape)
    axes = arguments.trailing_axes(x, shape)
    gamma = arguments.parameter("gamma", gamma, shape)
    beta = arguments.parameter("beta", beta, shape)
    arguments.check_eps(eps)

    wide = x.astype(arguments.accumulator(x.dtype))
    centred = wide - wide.mean(axis=axes, keepdims=True)
    var = np.mean(centred**2, axis=axes, keepdims=True)  # two passes: E[x²] - E[x]² would cancel
    rstd = 1 / np.sqrt(var + eps)
    x_hat = centred * rstd

    y = x_hat
    if gamma is not None:
        y = y * gamma
    if beta is not None:
        y = y + beta
    return y.astype(x.dtype), LayerNormCache(x_hat, rstd, gamma, axes, x.dtype)


def layer_norm_backward(dy: ArrayLike, cache: LayerNormCache) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return ``(dx, dgamma, dbeta)`` for the cotangent ``dy`` of the forward output.

    With g = dy * gamma, the gradient of a row is g with its mean and its component along x_hat taken out::

        dx = (g - mean(g) - x_hat * mean(g * x_hat)) * rstd

    ``dx`` has the shape and dtype of x; ``dgamma`` and ``dbeta`` have shape ``normalized_shape`` and are given even
    when the forward pass had no gain or bias (then they are the gradients at gamma = 1, beta = 0).
    """
    x_hat, rstd, gamma, axes, dtype = cache
    dy = arguments.cotangent(dy, x_hat.shape).astype(x_hat.dtype)
    g = dy if gamma is None else dy * gamma

    mean_g = g.mean(axis=axes, keepdims=True)
    mean_gx = np.mean(g * x_hat, axis=axes, keepdims=True)
    dx = (g - mean_g - x_hat * mean_gx) * rstd

    batch_axes = tuple(range(axes[0]))
    dgamma = np.sum(dy * x_hat, axis=batch_axes)
    dbeta = np.sum(dy, axis=batch_axes)
    return dx.astype(dtype), dgamma.astype(dtype), dbeta.astype(dtype)
