"""The residual addition fused with the norm that follows it: the sum is written once, and normalized from the cache.

The backward passes take the gradient ``dr`` of the sum along, so that it is not added in a pass of its own.
"""

from typing import Any

import numpy as np
from numba import prange

from lnorm.kernels.cpu.compiled import REORDER, compiled
from lnorm.kernels.cpu.halves import either, narrow, widen
from lnorm.kernels.cpu.rows import deviation, mean_square, moments


@compiled(parallel=True, fastmath=REORDER)
def layer_norm_forward(
    x: Any, residual: Any, gamma: Any, beta: Any, eps: float, pieces: int, out: Any, sums: Any, stats: Any
) -> None:
    """Fill ``sums`` = x + residual and its LayerNorm ``out``, both (N, D), and ``stats`` (N, 3)."""
    N, D = x.shape
    y, total = either(out, x), either(sums, residual)
    number = gamma.dtype.type
    for k in prange(pieces):
        for i in range(k * N // pieces, (k + 1) * N // pieces):
            for j in range(D):
                total[i, j] = narrow(widen(x[i, j]) + widen(residual[i, j]), total)
            shift, rest, var = moments(total, i, number)
            rstd = number(1 / np.sqrt(var + eps))
            for j in range(D):
                y[i, j] = narrow(deviation(widen(total[i, j]), shift, rest) * rstd * gamma[j] + beta[j], y)
            if len(stats):
                stats[i, 0], stats[i, 1], stats[i, 2] = shift, rest, rstd


@compiled(parallel=True, fastmath=REORDER)
def layer_norm_backward(
    dy: Any, dr: Any, total: Any, gamma: Any, stats: Any, pieces: int, dx: Any, partial: Any
) -> None:
    """Fill ``dx`` (N, D), the gradient of both inputs, and add to ``partial`` (pieces, 2, D)."""
    N, D = total.shape
    number = gamma.dtype.type
    for k in prange(pieces):
        for i in range(k * N // pieces, (k + 1) * N // pieces):
            shift, rest, rstd = stats[i, 0], stats[i, 1], stats[i, 2]
            sum_g, sum_gx = number(0), number(0)
            for j in range(D):
                x_hat = deviation(widen(total[i, j]), shift, rest) * rstd
                d = widen(dy[i, j])
                g = d * gamma[j]
                sum_g += g
                sum_gx += g * x_hat
                partial[k, 0, j] += d * x_hat
                partial[k, 1, j] += d
            mean_g, mean_gx = number(sum_g / D), number(sum_gx / D)
            for j in range(D):
                x_hat = deviation(widen(total[i, j]), shift, rest) * rstd
                d = (widen(dy[i, j]) * gamma[j] - mean_g - x_hat * mean_gx) * rstd
                dx[i, j] = narrow(d + widen(dr[i, j]), dx)


@compiled(parallel=True, fastmath=REORDER)
def rms_norm_forward(
    x: Any, residual: Any, gamma: Any, eps: float, pieces: int, out: Any, sums: Any, rrms: Any
) -> None:
    """Fill ``sums`` = x + residual and its RMSNorm ``out``, both (N, D), and ``rrms`` (N,)."""
    N, D = x.shape
    y, total = either(out, x), either(sums, residual)
    number = gamma.dtype.type
    for k in prange(pieces):
        for i in range(k * N // pieces, (k + 1) * N // pieces):
            for j in range(D):
                total[i, j] = narrow(widen(x[i, j]) + widen(residual[i, j]), total)
            r = number(1 / np.sqrt(mean_square(total, i, number) + eps))
            for j in range(D):
                y[i, j] = narrow(widen(total[i, j]) * r * gamma[j], y)
            if len(rrms):
                rrms[i] = r


@compiled(parallel=True, fastmath=REORDER)
def rms_norm_backward(dy: Any, dr: Any, total: Any, gamma: Any, rrms: Any, pieces: int, dx: Any, partial: Any) -> None:
    """Fill ``dx`` (N, D), the gradient of both inputs, and add to ``partial`` (pieces, D)."""
    N, D = total.shape
    number = gamma.dtype.type
    for k in prange(pieces):
        for i in range(k * N // pieces, (k + 1) * N // pieces):
            r = rrms[i]
            sum_gx = number(0)
            for j in range(D):
                x_hat = widen(total[i, j]) * r
                d = widen(dy[i, j])
                sum_gx += d * gamma[j] * x_hat
                partial[k, j] += d * x_hat
            mean_gx = number(sum_gx / D)
            for j in range(D):
                d = (widen(dy[i, j]) * gamma[j] - widen(total[i, j]) * r * mean_gx) * r
                dx[i, j] = narrow(d + widen(dr[i, j]), dx)
