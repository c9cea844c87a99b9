"""RMSNorm and its rounding to 8 bits in one pass: the normalized numbers never reach memory.

Largest and nearest are written with integers, because the compiler vectorizes these and not their floating-point kin.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types

from lnorm.kernels.cpu.compiled import REORDER, compiled
from lnorm.kernels.cpu.halves import instruction, widen
from lnorm.kernels.cpu.rows import mean_square

WORD, BYTE = ir.IntType(32), ir.IntType(8)
ROUNDER = 1.5 * 2.0**23  # added to a small float32, it leaves the nearest integer in the last bits of the sum
LARGEST = np.float32(127)


@instruction
def magnitude(typing: Any, value: Any) -> Any:
    """Return the bits of |value|, as int32: they are ordered as the numbers are, infinity and NaN last."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.and_(builder.bitcast(arguments[0], WORD), WORD(0x7FFFFFFF))

    return types.int32(types.float32), code


@instruction
def from_bits(typing: Any, bits: Any) -> Any:
    """Return the float32 with these bits."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), code


@instruction
def nearest(typing: Any, value: Any) -> Any:
    """Return a float32 of size up to 127 as int8, rounded to nearest, ties to even."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sum_ = builder.fadd(arguments[0], ir.FloatType()(ROUNDER))
        return builder.trunc(builder.bitcast(sum_, WORD), BYTE)

    return types.int8(types.float32), code


@compiled(parallel=True, fastmath=REORDER)
def forward(x: Any, gamma: Any, eps: float, pieces: int, q: Any, scale: Any) -> None:
    """Fill ``q`` (N, D), int8, and ``scale`` (N,): RMSNorm is about q times scale, and 127 is the largest |q|."""
    N, D = x.shape
    for k in prange(pieces):
        for i in range(k * N // pieces, (k + 1) * N // pieces):
            r = np.float32(1 / np.sqrt(mean_square(x, i, np.float32) + eps))
            bits = np.int32(0)
            for j in range(D):
                bits = max(bits, magnitude(widen(x[i, j]) * r * gamma[j]))
            largest = from_bits(bits)
            scale[i] = largest / LARGEST
            inverse = LARGEST / largest
            if 0 < inverse < np.inf:
                for j in range(D):
                    q[i, j] = nearest(widen(x[i, j]) * r * gamma[j] * inverse)
            else:  # all zero, or not finite, and then the scale says so
                for j in range(D):
                    q[i, j] = 0
