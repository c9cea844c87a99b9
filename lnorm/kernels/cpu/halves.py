"""Numbers of 16 bits, which NumPy and numba cannot compute with: how they are widened, and rounded back.

A bfloat16 array comes as uint16, a float16 array as int16: the same bits, and a type that says which they are. A
kernel writes ``widen(x[i, j])`` and ``y[i, j] = narrow(value, y)``; where x or y is of another type, nothing happens.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

BFLOAT16, FLOAT16 = types.uint16, types.int16


def instruction(function: Callable[..., Any]) -> Any:
    """Return numba's intrinsic: a function that a kernel can call, given by the instructions it becomes."""
    return intrinsic(function)


@instruction
def widen(typing: Any, value: Any) -> Any:
    """Return a number as it is computed with: float32 where it has 16 bits."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (bits,) = arguments
        if value == FLOAT16:
            return builder.fpext(builder.bitcast(bits, ir.HalfType()), ir.FloatType())
        if value == BFLOAT16:
            word = builder.shl(builder.zext(bits, ir.IntType(32)), ir.IntType(32)(16))
            return builder.bitcast(word, ir.FloatType())
        return bits

    return (types.float32 if value in (BFLOAT16, FLOAT16) else value)(value), code


@instruction
def narrow(typing: Any, value: Any, like: Any) -> Any:
    """Return a number as the array ``like`` holds it, rounded to nearest, ties to even.

    A NaN stays a NaN when it comes from 16 bits or from arithmetic. (There are NaN whose last bits are all ones, and
    these would become zero. Testing for them costs a tenth of a kernel's time, so gains and biases are cleaned before.)
    """
    target = like.dtype

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if target not in (BFLOAT16, FLOAT16):
            return context.cast(builder, arguments[0], value, target)
        single = context.cast(builder, arguments[0], value, types.float32)
        if target == FLOAT16:
            return builder.bitcast(builder.fptrunc(single, ir.HalfType()), ir.IntType(16))
        word = ir.IntType(32)
        bits = builder.bitcast(single, word)
        even = builder.and_(builder.lshr(bits, word(16)), word(1))
        rounded = builder.lshr(builder.add(bits, builder.add(even, word(0x7FFF))), word(16))
        return builder.trunc(rounded, ir.IntType(16))

    return target(value, like), code


def either(first: Any, second: Any) -> Any:
    """Return the first, or the second where the first is None.

    Where an output is also an input, a kernel is given None for the output. The compiler then knows what it otherwise
    has to find out while it runs, upon which it would not vectorize.
    """
    return second if first is None else first


def _second(first: Any, second: Any) -> Any:
    return second


def _first(first: Any, second: Any) -> Any:
    return first


@overload(either)
def _either(first: Any, second: Any) -> Any:
    return _second if isinstance(first, types.NoneType) else _first
