"""Batch normalization that leaves padding out: BatchNorm of the positions that a mask keeps."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lnorm.reference import _arguments as arguments
from lnorm.reference._arguments import FloatArray
from lnorm.reference.batch_norm import BatchNormCache, batch_norm, batch_norm_backward


class MaskedBatchNormCache(NamedTuple):
    """What the backward pass needs: which positions were kept, and BatchNorm's cache for them."""

    mask: np.ndarray
    kept: BatchNormCache


def masked_batch_norm(
    x: ArrayLike,
    mask: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    eps: float = 1e-5,
) -> tuple[FloatArray, MaskedBatchNormCache]:
    """Normalize every channel by its mean and variance over the positions where ``mask`` is True.

    ``x`` has shape ``(..., C)``, for example ``(N, T, C)`` for N padded sequences; ``mask`` is boolean, of shape
    ``x.shape[:-1]``; ``gamma`` and ``beta`` have shape ``(C,)``. Positions where ``mask`` is False count in no
    statistic and come out as 0, whatever they hold. A mask without any True gives zeros.

    Returns ``y`` with the shape and dtype of ``x``, and the cache for :func:`masked_batch_norm_backward`.
    Raises TypeError for a dtype other than float16/32/64 or a mask that is not boolean, ValueError for shapes that do
    not fit and for a mask with one True (its variance would be 0).
    """
    x = arguments.float_array("x", x)
    if x.ndim < 2:
        raise ValueError(f"x: expected shape (..., C) with channels on the last of at least 2 axes, got {x.shape}")
    mask = np.array(mask)  # a copy: the backward pass needs it as it is now
    if mask.dtype != bool:
        raise TypeError(f"mask: expected a boolean array, got {mask.dtype}")
    if mask.shape != x.shape[:-1]:
        raise ValueError(f"mask: expected the shape of x without its channels, {x.shape[:-1]}, got {mask.shape}")
    if np.count_nonzero(mask) == 1:
        raise ValueError("mask: expected more than one position that is True, or none, got one")

    y = np.zeros_like(x)
    y[mask], kept = batch_norm(x[mask], gamma, beta, eps=eps)  # (positions kept, C)
    return y, MaskedBatchNormCache(mask, kept)


def masked_batch_norm_backward(dy: ArrayLike, cache: MaskedBatchNormCache) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return ``(dx, dgamma, dbeta)``: BatchNorm's gradients for the positions kept, ``dx`` 0 at all others."""
    mask, kept = cache
    dy = arguments.cotangent(dy, (*mask.shape, kept.x_hat.shape[1]))
    dx = np.zeros(dy.shape, kept.dtype)
    dx[mask], dgamma, dbeta = batch_norm_backward(dy[mask], kept)
    return dx, dgamma, dbeta
