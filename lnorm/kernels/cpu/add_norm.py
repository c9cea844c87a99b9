"""The residual addition fused with the norm that follows it: the sum is written once, and normalized from the cache.

The backward passes take the gradient ``dr`` of the sum along, so that it is not added in a pass of its own.
"""

from typing import Any

import numpy as np
from numba import prange

from lnorm.kernels.cpu.compiled import REORDER, compiled
from lnorm.kernels.cpu.rows import deviation, mean_square, moments


@compiled(parallel=True, fastmath=REORDER)
def layer_norm_forward(
    x: Any, residual: Any, gamma: Any, beta: Any, eps: float, pieces: int, y: Any, total: Any, stats: Any
) -> None:
    """Fill ``total`` = x + residual and its LayerNorm ``y``, both (N, D), and ``stats`` (N, 3)."""
    N, D = x.shape
    for k in prange(pieces):
        for i in range(k * N // pieces, (k + 1) * N // pieces):
            for j in range(D):
                total[i, j] = x[i, j] + residual[i, j]
            stats[i, 0], stats[i, 1], var = moments(total, i)
            stats[i, 2] = 1 / np.sqrt(var + eps)
            shift, rest, rstd = stats[i, 0], stats[i, 1], stats[i, 2]
            for j in range(D):
                y[i, j] = deviation(total[i, j], shift, rest) * rstd * gamma[j] + beta[j]


@compiled(parallel=True, fastmath=REORDER)
def layer_norm_backward(
    dy: Any, dr: Any, total: Any, gamma: Any, stats: Any, pieces: int, dx: Any, partial: Any
) -> None:
    """Fill ``dx`` (N, D), the gradient of both inputs, and add to ``partial`` (pieces, 2, D)."""
    N, D = total.shape
    number = total.dtype.type
    for k in prange(pieces):
        for i in range(k * N // pieces, (k + 1) * N // pieces):
            shift, rest, rstd = stats[i, 0], stats[i, 1], stats[i, 2]
            sum_g, sum_gx = number(0), number(0)
            for j in range(D):
                x_hat = deviation(total[i, j], shift, rest) * rstd
                g = dy[i, j] * gamma[j]
                sum_g += g
                sum_gx += g * x_hat
                partial[k, 0, j] += dy[i, j] * x_hat
                partial[k, 1, j] += dy[i, j]
            mean_g, mean_gx = number(sum_g / D), number(sum_gx / D)
            for j in range(D):
                x_hat = deviation(total[i, j], shift, rest) * rstd
                dx[i, j] = (dy[i, j] * gamma[j] - mean_g - x_hat * mean_gx) * rstd + dr[i, j]


@compiled(parallel=True, fastmath=REORDER)
def rms_norm_forward(x: Any, residual: Any, gamma: Any, eps: float, pieces: int, y: Any, total: Any, rrms: Any) -> None:
    """Fill ``total`` = x + residual and its RMSNorm ``y``, both (N, D), and ``rrms`` (N,)."""
    N, D = x.shape
    for k in prange(pieces):
        for i in range(k * N // pieces, (k + 1) * N // pieces):
            for j in range(D):
                total[i, j] = x[i, j] + residual[i, j]
            rrms[i] = 1 / np.sqrt(mean_square(total, i) + eps)
            r = rrms[i]
            for j in range(D):
                y[i, j] = total[i, j] * r * gamma[j]


@compiled(parallel=True, fastmath=REORDER)
def rms_norm_backward(dy: Any, dr: Any, total: Any, gamma: Any, rrms: Any, pieces: int, dx: Any, partial: Any) -> None:
    """Fill ``dx`` (N, D), the gradient of both inputs, and add to ``partial`` (pieces, D)."""
    N, D = total.shape
    number = total.dtype.type
    for k in prange(pieces):
        for i in range(k * N // pieces, (k + 1) * N // pieces):
            r = rrms[i]
            sum_gx = number(0)
            for j in range(D):
                x_hat = total[i, j] * r
                sum_gx += dy[i, j] * gamma[j] * x_hat
                partial[k, j] += dy[i, j] * x_hat
            mean_gx = number(sum_gx / D)
            for j in range(D):
                dx[i, j] = (dy[i, j] * gamma[j] - total[i, j] * r * mean_gx) * r + dr[i, j]
