"""What every operator asks of its arguments, and the sentence a caller reads when one is wrong."""

import math
from typing import Any

import torch
from torch import Tensor


def rows(name: str, x: Any) -> None:
    """Refuse anything but a floating-point tensor of shape ``(..., D)`` with D of at least 1."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"{name}: expected a floating-point tensor, got {_kind(x)}")
    if x.ndim < 1 or x.shape[-1] < 1:
        raise ValueError(f"{name}: expected shape (..., D) with D of at least 1, got {tuple(x.shape)}")


def parameter(name: str, value: Any, x: Tensor) -> None:
    """Refuse a gain or bias that is not a floating-point tensor of shape ``(D,)``; None is fine."""
    if value is None:
        return
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise TypeError(f"{name}: expected a floating-point tensor or None, got {_kind(value)}")
    if value.shape != x.shape[-1:]:
        raise ValueError(f"{name}: expected shape {tuple(x.shape[-1:])}, got {tuple(value.shape)}")


def like(name: str, value: Any, x: Tensor) -> None:
    """Refuse anything but a tensor of the shape and dtype of ``x``."""
    if not isinstance(value, Tensor) or value.dtype != x.dtype:
        raise TypeError(f"{name}: expected a tensor of {x.dtype}, as x is, got {_kind(value)}")
    if value.shape != x.shape:
        raise ValueError(f"{name}: expected the shape of x, {tuple(x.shape)}, got {tuple(value.shape)}")


def output(name: str, value: Any, x: Tensor, *inputs: Tensor | None) -> None:
    """Refuse what cannot take a result like ``x``, and any output at all where a gradient is wanted."""
    like(name, value, x)
    if value.device != x.device:
        raise ValueError(f"{name}: expected a tensor on {x.device}, as x is, got one on {value.device}")
    if torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in (value, x, *inputs)):
        raise ValueError(
            f"{name}: expected None where a gradient is required; use torch.no_grad() or detach the inputs"
        )


def check_eps(eps: Any) -> None:
    """Refuse an eps that is negative, infinite or not a number."""
    if not (isinstance(eps, (int, float)) and math.isfinite(eps) and eps >= 0):
        raise ValueError(f"eps: expected a finite number of at least 0, got {eps!r}")


def _kind(value: Any) -> str:
    return f"a tensor of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
