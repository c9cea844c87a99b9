"""RMSNorm: as LayerNorm's kernels, without the mean."""

from typing import Any

import numpy as np
from numba import prange

from lnorm.kernels.cpu.compiled import REORDER, compiled
from lnorm.kernels.cpu.halves import either, narrow, widen
from lnorm.kernels.cpu.rows import mean_square


@compiled(parallel=True, fastmath=REORDER)
def forward(x: Any, gamma: Any, eps: float, pieces: int, out: Any, rrms: Any) -> None:
    """Fill ``out`` (N, D), and ``rrms`` (N,): one over the root mean square of each row."""
    N, D = x.shape
    y = either(out, x)
    number = gamma.dtype.type
    for k in prange(pieces):
        for i in range(k * N // pieces, (k + 1) * N // pieces):
            r = number(1 / np.sqrt(mean_square(x, i, number) + eps))
            for j in range(D):
                y[i, j] = narrow(widen(x[i, j]) * r * gamma[j], y)
            if len(rrms):
                rrms[i] = r


@compiled(parallel=True, fastmath=REORDER)
def backward(dy: Any, x: Any, gamma: Any, rrms: Any, pieces: int, dx: Any, partial: Any) -> None:
    """Fill ``dx`` (N, D), and add to ``partial`` (pieces, D): each piece's sum of dgamma."""
    N, D = x.shape
    number = gamma.dtype.type
    for k in prange(pieces):
        for i in range(k * N // pieces, (k + 1) * N // pieces):
            r = rrms[i]
            sum_gx = number(0)
            for j in range(D):
                x_hat = widen(x[i, j]) * r
                d = widen(dy[i, j])
                sum_gx += d * gamma[j] * x_hat
                partial[k, j] += d * x_hat
            mean_gx = number(sum_gx / D)
            for j in range(D):
                dx[i, j] = narrow((widen(dy[i, j]) * gamma[j] - widen(x[i, j]) * r * mean_gx) * r, dx)
