"""Batch normalization when the batch is in pieces: one statistic a piece (ghost), or one for all of them (sync)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from lnorm.reference import _arguments as arguments
from lnorm.reference._arguments import FloatArray
from lnorm.reference.batch_norm import BatchNormCache, batch_norm, batch_norm_backward


class GhostBatchNormCache(NamedTuple):
    """What the backward pass needs: the cache of every group, in order."""

    groups: list[BatchNormCache]
    shape: tuple[int, ...]
    dtype: DTypeLike


def ghost_batch_norm(
    x: ArrayLike, group: int, gamma: ArrayLike | None = None, beta: ArrayLike | None = None, eps: float = 1e-5
) -> tuple[FloatArray, GhostBatchNormCache]:
    """Apply BatchNorm to every ``group`` consecutive rows of ``x`` on their own (Hoffer, Hubara & Soudry 2017).

    ``x`` has shape ``(N, C, ...)`` with N a multiple of ``group``: rows 0 to group - 1 are the first group, and so on.
    ``gamma`` and ``beta`` have shape ``(C,)`` and are the same for all groups. This is what data-parallel training
    does when every device normalizes its own shard.

    Returns ``y`` with the shape and dtype of ``x``, and the cache for :func:`ghost_batch_norm_backward`.
    Raises TypeError for a dtype other than float16/32/64, ValueError for shapes that do not fit, rows left over, and
    groups of one value a channel.
    """
    x = arguments.channels_first("x", x)
    group = arguments.integer("group", group, least=1)
    if len(x) % group:
        raise ValueError(f"group: expected a divisor of the {len(x)} rows of x, got {group}")
    if group * math.prod(x.shape[2:]) == 1:
        raise ValueError(f"group: expected groups of more than one value a channel, got {group} for shape {x.shape}")

    wide = x.astype(arguments.accumulator(x.dtype))
    y = np.empty_like(x)
    caches = []
    for start in range(0, len(x) or 1, group):  # an empty batch is one empty group
        rows = slice(start, start + group)
        y[rows], cache = batch_norm(wide[rows], gamma, beta, eps=eps)
        caches.append(cache)
    return y, GhostBatchNormCache(caches, x.shape, x.dtype)


def ghost_batch_norm_backward(dy: ArrayLike, cache: GhostBatchNormCache) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return ``(dx, dgamma, dbeta)``: BatchNorm's backward in every group; the groups' dgamma and dbeta add up."""
    groups, shape, dtype = cache
    dy = arguments.cotangent(dy, shape)
    dx = np.empty(shape, dtype)
    dgamma, dbeta = np.zeros((2, shape[1]), groups[0].x_hat.dtype)
    start = 0
    for group in groups:
        rows = slice(start, start := start + len(group.x_hat))
        dx[rows], group_dgamma, group_dbeta = batch_norm_backward(dy[rows], group)
        dgamma += group_dgamma
        dbeta += group_dbeta
    return dx, dgamma.astype(dtype), dbeta.astype(dtype)


def merge_statistics(
    n1: int, mean1: ArrayLike, var1: ArrayLike, n2: int, mean2: ArrayLike, var2: ArrayLike
) -> tuple[int, FloatArray, FloatArray]:
    """Return count, mean and biased variance of two samples together, given those of each (Chan et al. 1979, 1983).

    With n = n1 + n2, the variance of the whole is the variance within the samples plus that between their means::

        mean = mean1 + (mean2 - mean1) * n2 / n
        var = (n1 * var1 + n2 * var2) / n + (mean2 - mean1)**2 * n1 * n2 / n**2

    Means and variances are numbers or arrays of one shape, for example ``(C,)``; those of an empty sample (n = 0) are
    ignored. The results have the dtype of ``mean1``.
    Raises TypeError for a dtype other than float16/32/64, ValueError for shapes that do not fit and a negative count.
    """
    n1, n2 = arguments.integer("n1", n1, least=0), arguments.integer("n2", n2, least=0)
    mean1 = arguments.float_array("mean1", mean1)
    wide = arguments.accumulator(mean1.dtype)
    named = {"mean1": mean1, "var1": var1, "mean2": mean2, "var2": var2}
    m1, v1, m2, v2 = (arguments.shaped(name, value, mean1.shape).astype(wide) for name, value in named.items())

    n = n1 + n2
    if n2 == 0:
        mean, var = m1, v1
    elif n1 == 0:
        mean, var = m2, v2
    else:
        mean = m1 + (m2 - m1) * n2 / n
        var = (n1 * v1 + n2 * v2) / n + (m2 - m1) ** 2 * n1 * n2 / n**2
    return n, np.asarray(mean, mean1.dtype), np.asarray(var, mean1.dtype)


class SyncBatchNormCache(NamedTuple):
    """What the backward pass needs: what every shard keeps for itself, and what all of them share."""

    x_hats: list[FloatArray]
    rstd: FloatArray
    gamma: FloatArray | None
    total: int  # values a channel, in all shards
    dtype: DTypeLike


def sync_batch_norm(
    shards: Sequence[ArrayLike], gamma: ArrayLike | None = None, beta: ArrayLike | None = None, eps: float = 1e-5
) -> tuple[list[FloatArray], SyncBatchNormCache]:
    """Apply BatchNorm to a batch that lies in pieces, as if they were one: SyncBatchNorm without the network.

    ``shards`` are arrays of shape ``(N_i, C, ...)`` that differ in nothing but their rows; some may have none.
    ``gamma`` and ``beta`` have shape ``(C,)``. Every shard computes its own count, mean and variance; these are all
    that devices need to exchange, and :func:`merge_statistics` makes them those of the whole batch.

    Returns the list of outputs, with the shapes and dtype of the shards, and the cache for
    :func:`sync_batch_norm_backward`. Together they equal :func:`lnorm.reference.batch_norm` of the concatenation.
    Raises TypeError for a dtype other than float16/32/64 or shards of several dtypes, ValueError for shapes that do not
    fit, for no shards and for one value a channel in all of them together.
    """
    xs = [arguments.channels_first(f"shards[{i}]", shard) for i, shard in enumerate(shards)]
    if not xs:
        raise ValueError("shards: expected one or more arrays, got none")
    for i, x in enumerate(xs):
        if x.dtype != xs[0].dtype:
            raise TypeError(f"shards[{i}]: expected the dtype of shards[0], {xs[0].dtype}, got {x.dtype}")
        if x.shape[1:] != xs[0].shape[1:]:
            raise ValueError(f"shards[{i}]: expected shape (N, {', '.join(map(str, xs[0].shape[1:]))}), got {x.shape}")
    dtype, channels = xs[0].dtype, xs[0].shape[1]
    gamma = arguments.channel_parameter("gamma", gamma, xs[0])
    beta = arguments.channel_parameter("beta", beta, xs[0])
    arguments.check_eps(eps)

    axes = (0, *range(2, xs[0].ndim))
    per_channel = (1, channels) + (1,) * (xs[0].ndim - 2)
    wides = [x.astype(arguments.accumulator(dtype)) for x in xs]
    total, mean, var = 0, np.zeros(per_channel, wides[0].dtype), np.ones(per_channel, wides[0].dtype)
    for wide in wides:
        if wide.size:
            shard_mean = wide.mean(axis=axes, keepdims=True)
            shard_var = np.mean((wide - shard_mean) ** 2, axis=axes, keepdims=True)
            total, mean, var = merge_statistics(total, mean, var, wide.size // channels, shard_mean, shard_var)
    if total == 1:
        raise ValueError("shards: expected more than one value a channel in all of them together, got one")

    rstd = 1 / np.sqrt(var + eps)
    x_hats: list[FloatArray] = [(wide - mean) * rstd for wide in wides]
    ys = x_hats
    if gamma is not None:
        ys = [y * gamma for y in ys]
    if beta is not None:
        ys = [y + beta for y in ys]
    return [y.astype(dtype) for y in ys], SyncBatchNormCache(x_hats, rstd, gamma, total, dtype)


def sync_batch_norm_backward(
    dys: Sequence[ArrayLike], cache: SyncBatchNormCache
) -> tuple[list[FloatArray], FloatArray, FloatArray]:
    """Return ``(dxs, dgamma, dbeta)`` for the list of cotangents ``dys``: one dx a shard, the others summed over all.

    BatchNorm's formula again. Its two means run over the whole batch, so the shards exchange two sums a channel::

        dx = (g - mean(g) - x_hat * mean(g * x_hat)) * rstd,   g = dy * gamma
    """
    x_hats, rstd, gamma, total, dtype = cache
    if len(dys) != len(x_hats):
        raise ValueError(f"dys: expected one cotangent for each of the {len(x_hats)} shards, got {len(dys)}")
    wides = [
        arguments.cotangent(dy, x_hat.shape, f"dys[{i}]").astype(x_hat.dtype)
        for i, (dy, x_hat) in enumerate(zip(dys, x_hats, strict=True))
    ]
    axes = (0, *range(2, x_hats[0].ndim))
    gain = 1 if gamma is None else gamma

    dbeta = sum(np.sum(dy, axis=axes, keepdims=True) for dy in wides)
    dgamma = sum(np.sum(dy * x_hat, axis=axes, keepdims=True) for dy, x_hat in zip(wides, x_hats, strict=True))
    mean_g, mean_gx = gain * dbeta / max(total, 1), gain * dgamma / max(total, 1)
    dxs = [(dy * gain - mean_g - x_hat * mean_gx) * rstd for dy, x_hat in zip(wides, x_hats, strict=True)]
    return [dx.astype(dtype) for dx in dxs], dgamma.reshape(-1).astype(dtype), dbeta.reshape(-1).astype(dtype)
