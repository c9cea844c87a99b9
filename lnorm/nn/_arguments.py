"""What every module asks of its arguments, and the sentence a caller reads when one is wrong."""

import math
import operator
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor


def floating(name: str, x: Any) -> None:
    """Refuse anything but a tensor of real floating-point numbers."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        came = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name}: expected a floating-point tensor, got {came}")


def trailing_axes(name: str, x: Any, normalized_shape: Sequence[int]) -> tuple[int, ...]:
    """Return the axes of the floating-point tensor ``x`` that ``normalized_shape`` names: always the last ones."""
    floating(name, x)
    shape = tuple(normalized_shape)
    if tuple(x.shape[-len(shape) :]) != shape:
        raise ValueError(f"{name}: expected shape (..., {', '.join(map(str, shape))}), got {tuple(x.shape)}")
    return tuple(range(x.ndim - len(shape), x.ndim))


def channels(name: str, x: Any, count: int) -> None:
    """Refuse anything but a floating-point tensor of shape ``(N, count, ...)``."""
    floating(name, x)
    if x.ndim < 2 or x.shape[1] != count:
        raise ValueError(f"{name}: expected shape (N, {count}, ...) with channels on axis 1, got {tuple(x.shape)}")


def shape_tuple(name: str, value: int | Sequence[int]) -> tuple[int, ...]:
    """Return ``normalized_shape`` as a tuple of at least one positive int."""
    sizes = value if isinstance(value, Sequence) else (value,)
    if not sizes:
        raise ValueError(f"{name}: expected at least one size, got {value!r}; there is nothing to average over")
    return tuple(positive(name, size) for size in sizes)


def positive(name: str, value: int) -> int:
    """Return ``value`` if it is an int of at least 1."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an int, got {value!r}") from None
    if number < 1:
        raise ValueError(f"{name}: expected at least 1, got {value!r}")
    return number


def check_eps(eps: float) -> None:
    """Refuse an eps that is negative, infinite or not a number."""
    if not (isinstance(eps, (int, float)) and math.isfinite(eps) and eps >= 0):
        raise ValueError(f"eps: expected a finite number of at least 0, got {eps!r}")


def one_of(name: str, value: str, choices: Collection[str]) -> None:
    """Refuse a name that is not one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")


def instance(name: str, value: Any, kinds: type | tuple[type, ...]) -> None:
    """Refuse an object that is not of one of ``kinds``."""
    if not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
        raise TypeError(f"{name}: expected {wanted}, got {type(value).__name__}")


Device = torch.device | str | None  # what torch's constructors take as device=
