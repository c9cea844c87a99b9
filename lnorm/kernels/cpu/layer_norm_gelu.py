"""LayerNorm and the GELU that follows it, in one pass (Hendrycks & Gimpel 2016)."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types

from lnorm.kernels.cpu.compiled import IN_ORDER, REORDER, compiled
from lnorm.kernels.cpu.halves import instruction, narrow, widen
from lnorm.kernels.cpu.rows import deviation, moments

F = np.float32
ROUNDER = F(1.5 * 2.0**23)
LOG2_E, LN2_HIGH, LN2_LOW = F(1 / np.log(2)), F(0.693359375), F(np.log(2) - 0.693359375)
HALF, ONE, ROOT_HALF, CUBIC = F(0.5), F(1), F(np.sqrt(0.5)), F(0.044715)
TWICE_SLOPE = F(2 * np.sqrt(2 / np.pi))
# erf(t) = t P(t²)/Q(t²) for |t| < 4, and 1 beyond to the last bit: the coefficients of Eigen's vectorized erf.
P0, P1, P2, P3 = F(-1.60960333262415e-02), F(-2.95459980854025e-03), F(-7.34990630326855e-04), F(-5.69250639462346e-05)
P4, P5, P6 = F(-2.10102402082508e-06), F(2.77068142495902e-08), F(-2.72614225801306e-10)
Q0, Q1, Q2 = F(-1.42647390514189e-02), F(-7.37332916720468e-03), F(-1.68282697438203e-03)
Q3, Q4 = F(-2.13374055278905e-04), F(-1.45660718464996e-05)
E3, E4, E5, E6, E7 = (F(1 / each) for each in (6, 24, 120, 720, 5040))  # exp's series, |f| < ln(2)/2


@instruction
def power_of_two(typing: Any, value: Any) -> Any:
    """Return 2 to the power n, given ROUNDER + n as float32."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(32)
        n = builder.add(builder.bitcast(arguments[0], word), word(127))
        return builder.bitcast(builder.shl(n, word(23)), ir.FloatType())

    return types.float32(types.float32), code


@compiled(fastmath=IN_ORDER)
def exp(v: Any) -> Any:
    """Return e to the power v in float32, without a branch; v is kept within ±87."""
    v = F(87) if v > F(87) else v
    v = F(-87) if v < F(-87) else v
    shifted = v * LOG2_E + ROUNDER
    n = shifted - ROUNDER
    f = (v - n * LN2_HIGH) - n * LN2_LOW
    return (ONE + f * (ONE + f * (HALF + f * (E3 + f * (E4 + f * (E5 + f * (E6 + f * E7))))))) * power_of_two(shifted)


@compiled(fastmath=REORDER)
def gelu(z: Any) -> Any:
    """Return z times the standard normal distribution's cumulative probability at z."""
    t = z * ROOT_HALF
    t = F(4) if t > F(4) else t
    t = F(-4) if t < F(-4) else t
    s = t * t
    p = P0 + s * (P1 + s * (P2 + s * (P3 + s * (P4 + s * (P5 + s * P6)))))
    q = Q0 + s * (Q1 + s * (Q2 + s * (Q3 + s * Q4)))
    return z * (HALF + HALF * (t * p / q))


@compiled(fastmath=REORDER)
def gelu_tanh(z: Any) -> Any:
    """Return GELU's approximation by a hyperbolic tangent, which is a logistic function in other clothes."""
    return z / (ONE + exp(-TWICE_SLOPE * (z + CUBIC * z * z * z)))


@compiled(parallel=True, fastmath=REORDER)
def forward(x: Any, gamma: Any, beta: Any, eps: float, tanh: bool, pieces: int, y: Any, stats: Any) -> None:
    """Fill ``y`` (N, D), and ``stats`` (N, 3) as LayerNorm's kernel does."""
    N, D = x.shape
    for k in prange(pieces):
        for i in range(k * N // pieces, (k + 1) * N // pieces):
            shift, rest, var = moments(x, i, np.float32)
            rstd = np.float32(1 / np.sqrt(var + eps))
            if tanh:
                for j in range(D):
                    z = deviation(widen(x[i, j]), shift, rest) * rstd * gamma[j] + beta[j]
                    y[i, j] = narrow(gelu_tanh(z), y)
            else:
                for j in range(D):
                    z = deviation(widen(x[i, j]), shift, rest) * rstd * gamma[j] + beta[j]
                    y[i, j] = narrow(gelu(z), y)
            if len(stats):
                stats[i, 0], stats[i, 1], stats[i, 2] = shift, rest, rstd
