"""Group normalization (Wu & He 2018): LayerNorm of the channels in groups, between LayerNorm and InstanceNorm."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from lnorm.reference import _arguments as arguments
from lnorm.reference._arguments import FloatArray
from lnorm.reference.layer_norm import LayerNormCache, layer_norm, layer_norm_backward


class GroupNormCache(NamedTuple):
    """What the backward pass needs: LayerNorm's cache for the rows, the gain and the shape of x."""

    rows: LayerNormCache
    gamma: FloatArray | None
    shape: tuple[int, ...]
    dtype: DTypeLike


def group_norm(
    x: ArrayLike,
    num_groups: int,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    eps: float = 1e-5,
) -> tuple[FloatArray, GroupNormCache]:
    """Normalize every group of channels of every sample by its own mean and variance, then scale and shift channels.

    ``x`` has shape ``(N, C, ...)`` with C a multiple of ``num_groups``; a group is C / num_groups consecutive channels
    at all positions. ``gamma`` and ``beta`` have shape ``(C,)``; None means 1 and 0. One group is what CNNs call
    LayerNorm, C groups are InstanceNorm.

    Returns ``y`` with the shape and dtype of ``x``, and the cache for :func:`group_norm_backward`.
    Raises TypeError for a dtype other than float16/32/64, ValueError for shapes that do not fit.
    """
    x = arguments.channels_first("x", x)
    channels = x.shape[1]
    num_groups = arguments.integer("num_groups", num_groups, least=1)
    if channels % num_groups:
        raise ValueError(f"num_groups: expected a divisor of the {channels} channels of x, got {num_groups}")
    gamma = arguments.channel_parameter("gamma", gamma, x)
    beta = arguments.channel_parameter("beta", beta, x)

    wide = x.astype(arguments.accumulator(x.dtype))
    size = math.prod(x.shape[1:]) // num_groups or 1  # 1: an empty x has no rows, whatever their size
    x_hat, rows = layer_norm(wide.reshape(-1, size), size, eps=eps)  # (N * num_groups, size): a row is a group
    y = x_hat.reshape(x.shape)
    if gamma is not None:
        y = y * gamma
    if beta is not None:
        y = y + beta
    return y.astype(x.dtype), GroupNormCache(rows, gamma, x.shape, x.dtype)


def group_norm_backward(dy: ArrayLike, cache: GroupNormCache) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return ``(dx, dgamma, dbeta)``: LayerNorm's backward for every group, with g = dy * gamma."""
    rows, gamma, shape, dtype = cache
    dy = arguments.cotangent(dy, shape).astype(rows.x_hat.dtype)
    g = dy if gamma is None else dy * gamma
    dx, _, _ = layer_norm_backward(g.reshape(rows.x_hat.shape), rows)

    axes = (0, *range(2, dy.ndim))
    dgamma = np.sum(dy * rows.x_hat.reshape(shape), axis=axes)
    dbeta = np.sum(dy, axis=axes)
    return dx.reshape(shape).astype(dtype), dgamma.astype(dtype), dbeta.astype(dtype)
