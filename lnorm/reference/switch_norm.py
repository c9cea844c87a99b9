"""Switchable normalization (Luo et al. 2018, equation 3): a learned mixture of three norms' statistics."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from lnorm.reference import _arguments as arguments
from lnorm.reference._arguments import FloatArray


class SwitchNormCache(NamedTuple):
    """What the backward pass needs; the gaps are between each norm's statistic and the mixture."""

    x_hat: FloatArray
    rstd: FloatArray
    mean_weights: FloatArray
    mean_gaps: list[FloatArray]
    var_weights: FloatArray
    var_gaps: list[FloatArray]
    gamma: FloatArray | None
    dtype: DTypeLike


def switch_norm(
    x: ArrayLike,
    mean_logits: ArrayLike,
    var_logits: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    eps: float = 1e-5,
) -> tuple[FloatArray, SwitchNormCache]:
    """Normalize by softmax-weighted sums of the instance, layer and batch means, and of the variances, then affine.

    ``x`` has shape ``(N, C, H, W)``, or any number of spatial axes from one; ``mean_logits`` and ``var_logits`` have
    shape ``(3,)``, in the order instance, layer, batch; ``gamma`` and ``beta`` have shape ``(C,)``::

        mean = sum_k softmax(mean_logits)_k * mean_k,   var = sum_k softmax(var_logits)_k * var_k

    The statistics are those of this batch, as in training. All variances are biased, as in the paper; the authors'
    code takes the unbiased instance variance.

    Returns ``y`` with the shape and dtype of ``x``, and the cache for :func:`switch_norm_backward`.
    Raises TypeError for a dtype other than float16/32/64, ValueError for shapes that do not fit.
    """
    x = arguments.float_array("x", x)
    if x.ndim < 3:
        raise ValueError(f"x: expected shape (N, C, H, W) or at least one spatial axis, got {x.shape}")
    dtype = x.dtype
    mean_weights = _softmax(arguments.shaped("mean_logits", mean_logits, (3,)))
    var_weights = _softmax(arguments.shaped("var_logits", var_logits, (3,)))
    gamma = arguments.channel_parameter("gamma", gamma, x)
    beta = arguments.channel_parameter("beta", beta, x)
    arguments.check_eps(eps)

    x = x.astype(arguments.accumulator(dtype))
    means = [_mean(x, axes) for axes in _axes(x)]  # (N, C, 1, 1), (N, 1, 1, 1), (1, C, 1, 1)
    variances = [_mean((x - mean) ** 2, axes) for mean, axes in zip(means, _axes(x), strict=True)]
    mean = sum(weight * each for weight, each in zip(mean_weights, means, strict=True))  # (N, C, 1, 1)
    var = sum(weight * each for weight, each in zip(var_weights, variances, strict=True))
    rstd = 1 / np.sqrt(var + eps)
    x_hat = (x - mean) * rstd

    y = x_hat
    if gamma is not None:
        y = y * gamma
    if beta is not None:
        y = y + beta
    mean_gaps, var_gaps = [each - mean for each in means], [each - var for each in variances]
    return y.astype(dtype), SwitchNormCache(x_hat, rstd, mean_weights, mean_gaps, var_weights, var_gaps, gamma, dtype)


def switch_norm_backward(
    dy: ArrayLike, cache: SwitchNormCache
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return ``(dx, dmean_logits, dvar_logits, dgamma, dbeta)`` for the cotangent ``dy`` of the forward output.

    With g = dy * gamma, a = g * rstd and b = a * x_hat * rstd, and E_k the average over what norm k averages over,
    each norm takes its share of LayerNorm's two corrections::

        dx = a - sum_k (w_k * E_k[a] + v_k * (x - mean_k) * E_k[b])

    where w and v are the two softmaxes. The logit of a norm moves the mixture towards its own statistic::

        dmean_logits_k = -w_k * sum(a * (mean_k - mean)),   dvar_logits_k = -v_k / 2 * sum(b * (var_k - var))
    """
    x_hat, rstd, mean_weights, mean_gaps, var_weights, var_gaps, gamma, dtype = cache
    dy = arguments.cotangent(dy, x_hat.shape).astype(x_hat.dtype)
    g = dy if gamma is None else dy * gamma
    a = g * rstd
    b = a * x_hat * rstd

    dx = a
    for axes, w, v, mean_gap in zip(_axes(x_hat), mean_weights, var_weights, mean_gaps, strict=True):
        from_own_mean = x_hat / rstd - mean_gap  # x - mean_k
        dx = dx - w * _mean(a, axes) - v * from_own_mean * _mean(b, axes)
    dmean_logits = -mean_weights * [np.sum(a * gap) for gap in mean_gaps]
    dvar_logits = -var_weights / 2 * [np.sum(b * gap) for gap in var_gaps]

    batch_and_space = (0, *range(2, dy.ndim))
    dgamma = np.sum(dy * x_hat, axis=batch_and_space)
    dbeta = np.sum(dy, axis=batch_and_space)
    dx, dmean_logits, dvar_logits = dx.astype(dtype), dmean_logits.astype(dtype), dvar_logits.astype(dtype)
    return dx, dmean_logits, dvar_logits, dgamma.astype(dtype), dbeta.astype(dtype)


def _axes(x: FloatArray) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """What instance, layer and batch normalization average over."""
    space = tuple(range(2, x.ndim))
    return space, (1, *space), (0, *space)


def _mean(x: FloatArray, axes: tuple[int, ...]) -> FloatArray:
    """The mean over ``axes``, kept with size 1; 0 where there is nothing to average, as in an empty batch."""
    return np.sum(x, axis=axes, keepdims=True) / max(math.prod(x.shape[axis] for axis in axes), 1)


def _softmax(logits: FloatArray) -> FloatArray:
    logits = logits.astype(arguments.accumulator(logits.dtype))
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()
