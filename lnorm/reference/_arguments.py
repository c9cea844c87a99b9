"""What every norm asks of its arguments, and the sentence a caller reads when one is wrong."""

import math
import operator
from collections.abc import Sequence
from typing import Any, TypeGuard

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


def channels_first(name: str, value: ArrayLike) -> FloatArray:
    """Return ``value`` as a float array of shape ``(N, C, ...)``."""
    array = float_array(name, value)
    if array.ndim < 2:
        raise ValueError(f"{name}: expected shape (N, C, ...) with channels on axis 1, got {array.shape}")
    return array


def shaped(name: str, value: ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """Return ``value`` as a float array of exactly ``shape``."""
    array = float_array(name, value)
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    return array


def parameter(name: str, value: ArrayLike | None, shape: tuple[int, ...]) -> FloatArray | None:
    """Return a gain or bias of exactly ``shape``, or None."""
    return None if value is None else shaped(name, value, shape)


def channel_parameter(name: str, value: ArrayLike | None, x: FloatArray) -> FloatArray | None:
    """Return a gain or bias of shape ``(C,)``, reshaped to broadcast against ``x``, shape ``(N, C, ...)``; or None."""
    array = parameter(name, value, x.shape[1:2])
    return None if array is None else array.reshape(x.shape[1:2] + (1,) * (x.ndim - 2))


def cotangent(dy: ArrayLike, shape: tuple[int, ...], name: str = "dy") -> FloatArray:
    """Return ``dy`` as an array of the forward output's shape."""
    array = float_array(name, dy)
    if array.shape != shape:
        raise ValueError(f"{name}: expected the shape of the forward output, {shape}, got {array.shape}")
    return array


def integer(name: str, value: int, least: int | None = None) -> int:
    """Return ``value`` as an int of at least ``least``; TypeError for anything that is not a whole number."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an int, got {value!r}") from None
    if least is not None and number < least:
        raise ValueError(f"{name}: expected an int of at least {least}, got {number}")
    return number


def axis_index(name: str, value: int, ndim: int) -> int:
    """Return an axis of an array of ``ndim`` axes, counted from the front; negative ones count from the end."""
    axis = integer(name, value)
    if not -ndim <= axis < ndim:
        raise ValueError(f"{name}: expected an axis of an array with {ndim} axes, got {axis}")
    return axis % ndim


def is_finite(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a real number other than infinity and NaN."""
    return isinstance(value, (int, float, np.integer, np.floating)) and math.isfinite(value)


def check_eps(eps: float) -> None:
    """Refuse an eps that is negative, infinite or not a number."""
    if not (is_finite(eps) and eps >= 0):
        raise ValueError(f"eps: expected a finite number of at least 0, got {eps!r}")
