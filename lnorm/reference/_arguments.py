"""What every norm asks of its arguments, and the sentence a caller reads when one is wrong."""

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]


def float_array(name: str, value: ArrayLike) -> FloatArray:
    """Return ``value`` as an array of float16, float32 or float64; TypeError for anything else."""
    array = np.asarray(value)
    if array.dtype not in (np.float16, np.float32, np.float64):
        raise TypeError(
            f"{name}: expected float16, float32 or float64, got {array.dtype}; "
            f"convert it first, for example with np.asarray({name}, float)"
        )
    return array


def accumulator(dtype: DTypeLike) -> type[np.floating[Any]]:
    """The type that statistics are summed in: wide enough that rounding them costs nothing at the input's precision."""
    return np.float32 if dtype == np.float16 else np.float64


def shape_tuple(name: str, value: int | Sequence[int]) -> tuple[int, ...]:
    """Return ``normalized_shape`` as a tuple of at least one positive int."""
    try:
        shape = (operator.index(value),) if not isinstance(value, Sequence) else tuple(map(operator.index, value))
    except TypeError:
        raise TypeError(f"{name}: expected an int or a sequence of ints, got {value!r}") from None
    if not shape or any(size < 1 for size in shape):
        raise ValueError(
            f"{name}: expected one or more sizes of at least 1, got {value!r}; there is nothing to average over"
        )
    return shape


def trailing_axes(x: FloatArray, normalized_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes of ``x`` that ``normalized_shape`` names: always the last ones."""
    if x.shape[-len(normalized_shape) :] != normalized_shape:
        raise ValueError(
            f"normalized_shape: expected the last {len(normalized_shape)} size(s) of x, whose shape is {x.shape}, "
            f"got {normalized_shape}"
        )
    return tuple(range(x.ndim - len(normalized_shape), x.ndim))


def parameter(name: str, value: ArrayLike | None, shape: tuple[int, ...]) -> FloatArray | None:
    """Return a gain or bias of exactly ``shape``, or None."""
    if value is None:
        return None
    array = float_array(name, value)
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    return array


def cotangent(dy: ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """Return ``dy`` as an array of the forward output's shape."""
    array = float_array("dy", dy)
    if array.shape != shape:
        raise ValueError(f"dy: expected the shape of the forward output, {shape}, got {array.shape}")
    return array


def check_eps(eps: float) -> None:
    """Refuse an eps that is negative, infinite or not a number."""
    if not (isinstance(eps, (int, float, np.number)) and math.isfinite(eps) and eps >= 0):
        raise ValueError(f"eps: expected a finite number of at least 0, got {eps!r}")
