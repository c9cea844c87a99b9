"""LayerNorm: a forward pass that reads x once and writes y once, and a backward pass that reads x and dy once."""

from typing import Any

import numpy as np
from numba import prange

from lnorm.kernels.cpu.compiled import REORDER, compiled
from lnorm.kernels.cpu.halves import either, narrow, widen
from lnorm.kernels.cpu.rows import deviation, moments


@compiled(parallel=True, fastmath=REORDER)
def forward(x: Any, gamma: Any, beta: Any, eps: float, pieces: int, out: Any, stats: Any) -> None:
    """Fill ``out`` (N, D), and ``stats`` (N, 3): the mean of each row in two parts, and one over its deviation."""
    N, D = x.shape
    y = either(out, x)
    number = gamma.dtype.type
    for k in prange(pieces):
        for i in range(k * N // pieces, (k + 1) * N // pieces):
            shift, rest, var = moments(x, i, number)  # the only time the row comes from memory
            rstd = number(1 / np.sqrt(var + eps))
            for j in range(D):
                y[i, j] = narrow(deviation(widen(x[i, j]), shift, rest) * rstd * gamma[j] + beta[j], y)
            if len(stats):
                stats[i, 0], stats[i, 1], stats[i, 2] = shift, rest, rstd


@compiled(parallel=True, fastmath=REORDER)
def backward(dy: Any, x: Any, gamma: Any, stats: Any, pieces: int, dx: Any, partial: Any) -> None:
    """Fill ``dx`` (N, D), and add to ``partial`` (pieces, 2, D): each piece's sums of dgamma and dbeta."""
    N, D = x.shape
    number = gamma.dtype.type
    for k in prange(pieces):
        for i in range(k * N // pieces, (k + 1) * N // pieces):
            shift, rest, rstd = stats[i, 0], stats[i, 1], stats[i, 2]
            sum_g, sum_gx = number(0), number(0)
            for j in range(D):
                x_hat = deviation(widen(x[i, j]), shift, rest) * rstd
                d = widen(dy[i, j])
                g = d * gamma[j]
                sum_g += g
                sum_gx += g * x_hat
                partial[k, 0, j] += d * x_hat
                partial[k, 1, j] += d
            mean_g, mean_gx = number(sum_g / D), number(sum_gx / D)
            for j in range(D):  # the row is still in the cache
                x_hat = deviation(widen(x[i, j]), shift, rest) * rstd
                dx[i, j] = narrow((widen(dy[i, j]) * gamma[j] - mean_g - x_hat * mean_gx) * rstd, dx)
