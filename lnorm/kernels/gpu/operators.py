"""What :mod:`lnorm.kernels.operators` computes, on a GPU: the same functions of the same tensors.

Rows are contiguous ``(N, D)`` of float32, float16 or bfloat16; gains and biases of any of these types.
"""

from types import ModuleType
from typing import Any

import torch
import triton
from torch import Tensor

from lnorm.kernels.gpu import layer_norm, rms_norm
from lnorm.kernels.gpu.launch import Tiles, programs, start, tiles

# The widest block that stays in registers; in a backward pass, dgamma and dbeta stay there, too.
FORWARD = 16384
BACKWARD = {layer_norm: 8192, rms_norm: 16384}
# Longer rows: blocks that leave room for a second program on a processor (and no more, so that rows stay in the cache),
# and for the gradients of the parameters many rows of few columns.
LONG = 4096
COLUMNS = Tiles(rows=16, block=256, warps=8)


def layer_norm_into(y: Tensor | None, stats: Tensor, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> None:
    """Fill ``y``, or ``x`` itself where it is None; and ``stats`` (N, 3), unless it has no rows."""
    _forward(layer_norm.forward, x, None, (weight, bias), y, None, stats, eps)


def layer_norm_backward(dy: Tensor, x: Tensor, weight: Tensor, stats: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    dx, (dweight, dbias) = _backward(layer_norm, dy, None, x, weight, stats)
    return dx, dweight, dbias


def rms_norm_into(y: Tensor | None, rrms: Tensor, x: Tensor, weight: Tensor, eps: float) -> None:
    """Fill ``y``, or ``x`` itself where it is None; and ``rrms`` (N,), unless it is empty."""
    _forward(rms_norm.forward, x, None, (weight,), y, None, rrms, eps)


def rms_norm_backward(dy: Tensor, x: Tensor, weight: Tensor, rrms: Tensor) -> tuple[Tensor, Tensor]:
    dx, (dweight,) = _backward(rms_norm, dy, None, x, weight, rrms)
    return dx, dweight


def add_layer_norm_into(
    y: Tensor | None,
    total: Tensor | None,
    stats: Tensor,
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
) -> None:
    """Fill ``y``, or ``x`` where it is None; ``total``, or ``residual`` where it is None; and ``stats``."""
    _forward(layer_norm.forward, x, residual, (weight, bias), y, residual if total is None else total, stats, eps)


def add_layer_norm_backward(
    dy: Tensor, dtotal: Tensor, total: Tensor, weight: Tensor, stats: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    dx, (dweight, dbias) = _backward(layer_norm, dy, dtotal, total, weight, stats)
    return dx, dweight, dbias


def add_rms_norm_into(
    y: Tensor | None, total: Tensor | None, rrms: Tensor, x: Tensor, residual: Tensor, weight: Tensor, eps: float
) -> None:
    """Fill ``y``, or ``x`` where it is None; ``total``, or ``residual`` where it is None; and ``rrms``."""
    _forward(rms_norm.forward, x, residual, (weight,), y, residual if total is None else total, rrms, eps)


def add_rms_norm_backward(
    dy: Tensor, dtotal: Tensor, total: Tensor, weight: Tensor, rrms: Tensor
) -> tuple[Tensor, Tensor]:
    dx, (dweight,) = _backward(rms_norm, dy, dtotal, total, weight, rrms)
    return dx, dweight


def _forward(
    kernel: Any,
    x: Tensor,
    residual: Tensor | None,
    parameters: tuple[Tensor, ...],
    y: Tensor | None,
    total: Tensor | None,
    stats: Tensor,
    eps: float,
) -> None:
    N, D = x.shape
    cut = tiles(D, FORWARD)
    if N:
        written = x if y is None else y, total, stats if len(stats) else None
        start(kernel, (triton.cdiv(N, cut.rows),), cut, x, x, residual, *parameters, *written, float(eps))


def _backward(
    norm: ModuleType, dy: Tensor, dr: Tensor | None, x: Tensor, weight: Tensor, stats: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Return dx, and the gradients of the parameters."""
    N, D = x.shape
    dx, parameters = torch.empty_like(x), 2 if norm is layer_norm else 1
    if BACKWARD[norm] >= D:
        cut = tiles(D, BACKWARD[norm])
        many = programs(x, cut)
        partial = x.new_empty(parameters, many, D, dtype=torch.float32)
        start(norm.backward, (many,), cut, x, dy, dr, x, weight, stats, dx, partial, STAGES=2)
    else:
        cut, columns = tiles(D, LONG), triton.cdiv(D, COLUMNS.block)
        many = programs(x, COLUMNS, columns)
        partial = x.new_empty(parameters, many, D, dtype=torch.float32)
        start(norm.backward, (triton.cdiv(max(N, 1), cut.rows),), cut, x, dy, dr, x, weight, stats, dx, None, STAGES=1)
        start(norm.weight_gradients, (many, columns), COLUMNS, x, dy, x, stats, partial, STAGES=2)
    return dx, [each.sum(0).to(weight.dtype) for each in partial]
