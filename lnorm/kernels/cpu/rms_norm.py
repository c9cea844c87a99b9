"""RMSNorm: as LayerNorm's kernels, without the mean."""

from typing import Any

import numpy as np
from numba import prange

from lnorm.kernels.cpu.compiled import REORDER, compiled
from lnorm.kernels.cpu.rows import mean_square


@compiled(parallel=True, fastmath=REORDER)
def forward(x: Any, gamma: Any, eps: float, pieces: int, y: Any, rrms: Any) -> None:
    """Fill ``y`` (N, D), and ``rrms`` (N,): one over the root mean square of each row."""
    N, D = x.shape
    for k in prange(pieces):
        for i in range(k * N // pieces, (k + 1) * N // pieces):
            rrms[i] = 1 / np.sqrt(mean_square(x, i) + eps)
            r = rrms[i]
            for j in range(D):
                y[i, j] = x[i, j] * r * gamma[j]


@compiled(parallel=True, fastmath=REORDER)
def backward(dy: Any, x: Any, gamma: Any, rrms: Any, pieces: int, dx: Any, partial: Any) -> None:
    """Fill ``dx`` (N, D), and add to ``partial`` (pieces, D): each piece's sum of dgamma."""
    N, D = x.shape
    number = x.dtype.type
    for k in prange(pieces):
        for i in range(k * N // pieces, (k + 1) * N // pieces):
            r = rrms[i]
            sum_gx = number(0)
            for j in range(D):
                x_hat = x[i, j] * r
                sum_gx += dy[i, j] * gamma[j] * x_hat
                partial[k, j] += dy[i, j] * x_hat
            mean_gx = number(sum_gx / D)
            for j in range(D):
                dx[i, j] = (dy[i, j] * gamma[j] - x[i, j] * r * mean_gx) * r
