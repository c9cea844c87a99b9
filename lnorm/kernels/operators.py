"""The numba kernels as torch operators: what they return, what the compiler may know of them, and their derivatives.

Every operator takes contiguous ``(N, D)`` tensors of one dtype, float32 or float64, on the CPU. Which calls come here
is decided in :mod:`lnorm.kernels.dispatch`.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

_process = os.getpid()


def usable() -> bool:
    """Whether the kernels may run in this process: GNU's OpenMP ends a process that was forked off a running one."""
    return os.getpid() == _process


def launch(kernel: Callable[..., Any], *arguments: Any) -> None:
    """Call a kernel with tensors as arrays, which copies nothing, on as many threads as torch may use."""
    import numba

    before = numba.get_num_threads()
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    numba.set_num_threads(min(torch.get_num_threads(), most))
    try:
        kernel(*(each.detach().numpy() if isinstance(each, Tensor) else each for each in arguments))
    finally:
        numba.set_num_threads(before)


def pieces(x: Tensor) -> int:
    """Return into how many pieces the rows of ``x`` are cut."""
    from lnorm.kernels.cpu import compiled

    return compiled.pieces(len(x))


def _summed(partial: Tensor) -> Tensor:
    """Add the pieces' sums in float64, in their order."""
    return partial.sum(0, dtype=torch.float64).to(partial.dtype)


# LayerNorm


def layer_norm_into(y: Tensor, stats: Tensor, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> None:
    """Fill ``y`` and ``stats``. Nothing is allocated."""
    from lnorm.kernels.cpu import layer_norm

    launch(layer_norm.forward, x, weight, bias, eps, pieces(x), y, stats)


@custom_op("lnorm::layer_norm", mutates_args=())
def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return y (N, D), and for the backward pass ``stats`` (N, 3): the mean in two parts, and rstd."""
    y, stats = torch.empty_like(x), x.new_empty(len(x), 3)
    layer_norm_into(y, stats, x, weight, bias, eps)
    return y, stats


@layer_norm.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(x.shape[0], 3)


@custom_op("lnorm::layer_norm_backward", mutates_args=())
def layer_norm_backward(dy: Tensor, x: Tensor, weight: Tensor, stats: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    from lnorm.kernels.cpu import layer_norm

    dx, partial = torch.empty_like(x), x.new_zeros(pieces(x), 2, x.shape[1])
    launch(layer_norm.backward, dy, x, weight, stats, len(partial), dx, partial)
    dweight, dbias = _summed(partial)
    return dx, dweight.clone(), dbias.clone()


@layer_norm_backward.register_fake
def _(dy: Tensor, x: Tensor, weight: Tensor, stats: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)


def _save_layer_norm(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, _, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, weight, output[1])


def _differentiate_layer_norm(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return *layer_norm_backward(dy.contiguous(), *ctx.saved_tensors), None


layer_norm.register_autograd(_differentiate_layer_norm, setup_context=_save_layer_norm)


# RMSNorm


def rms_norm_into(y: Tensor, rrms: Tensor, x: Tensor, weight: Tensor, eps: float) -> None:
    """Fill ``y`` and ``rrms``. Nothing is allocated."""
    from lnorm.kernels.cpu import rms_norm

    launch(rms_norm.forward, x, weight, eps, pieces(x), y, rrms)


@custom_op("lnorm::rms_norm", mutates_args=())
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return y (N, D), and for the backward pass one over the root mean square (N,)."""
    y, rrms = torch.empty_like(x), x.new_empty(len(x))
    rms_norm_into(y, rrms, x, weight, eps)
    return y, rrms


@rms_norm.register_fake
def _(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(x.shape[0])


@custom_op("lnorm::rms_norm_backward", mutates_args=())
def rms_norm_backward(dy: Tensor, x: Tensor, weight: Tensor, rrms: Tensor) -> tuple[Tensor, Tensor]:
    from lnorm.kernels.cpu import rms_norm

    dx, partial = torch.empty_like(x), x.new_zeros(pieces(x), x.shape[1])
    launch(rms_norm.backward, dy, x, weight, rrms, len(partial), dx, partial)
    return dx, _summed(partial)


@rms_norm_backward.register_fake
def _(dy: Tensor, x: Tensor, weight: Tensor, rrms: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(weight)


def _save_rms_norm(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, weight, output[1])


def _differentiate_rms_norm(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return *rms_norm_backward(dy.contiguous(), *ctx.saved_tensors), None


rms_norm.register_autograd(_differentiate_rms_norm, setup_context=_save_rms_norm)


# Residual addition and LayerNorm


@custom_op("lnorm::add_layer_norm", mutates_args=())
def add_layer_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y and x + residual, both (N, D), and for the backward pass ``stats`` (N, 3)."""
    from lnorm.kernels.cpu import add_norm

    y, total, stats = torch.empty_like(x), torch.empty_like(x), x.new_empty(len(x), 3)
    launch(add_norm.layer_norm_forward, x, residual, weight, bias, eps, pieces(x), y, total, stats)
    return y, total, stats


@add_layer_norm.register_fake
def _(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x), x.new_empty(x.shape[0], 3)


@custom_op("lnorm::add_layer_norm_backward", mutates_args=())
def add_layer_norm_backward(
    dy: Tensor, dtotal: Tensor, total: Tensor, weight: Tensor, stats: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    from lnorm.kernels.cpu import add_norm

    dx, partial = torch.empty_like(total), total.new_zeros(pieces(total), 2, total.shape[1])
    launch(add_norm.layer_norm_backward, dy, dtotal, total, weight, stats, len(partial), dx, partial)
    dweight, dbias = _summed(partial)
    return dx, dweight.clone(), dbias.clone()


@add_layer_norm_backward.register_fake
def _(dy: Tensor, dtotal: Tensor, total: Tensor, weight: Tensor, stats: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(total), torch.empty_like(weight), torch.empty_like(weight)


def _save_add_layer_norm(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(output[1], inputs[2], output[2])


def _differentiate_add_layer_norm(ctx: Any, dy: Tensor, dtotal: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    dx, dweight, dbias = add_layer_norm_backward(dy.contiguous(), dtotal.contiguous(), *ctx.saved_tensors)
    return dx, dx, dweight, dbias, None


add_layer_norm.register_autograd(_differentiate_add_layer_norm, setup_context=_save_add_layer_norm)


# Residual addition and RMSNorm


@custom_op("lnorm::add_rms_norm", mutates_args=())
def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return y and x + residual, both (N, D), and for the backward pass one over the root mean square (N,)."""
    from lnorm.kernels.cpu import add_norm

    y, total, rrms = torch.empty_like(x), torch.empty_like(x), x.new_empty(len(x))
    launch(add_norm.rms_norm_forward, x, residual, weight, eps, pieces(x), y, total, rrms)
    return y, total, rrms


@add_rms_norm.register_fake
def _(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x), x.new_empty(x.shape[0])


@custom_op("lnorm::add_rms_norm_backward", mutates_args=())
def add_rms_norm_backward(
    dy: Tensor, dtotal: Tensor, total: Tensor, weight: Tensor, rrms: Tensor
) -> tuple[Tensor, Tensor]:
    from lnorm.kernels.cpu import add_norm

    dx, partial = torch.empty_like(total), total.new_zeros(pieces(total), total.shape[1])
    launch(add_norm.rms_norm_backward, dy, dtotal, total, weight, rrms, len(partial), dx, partial)
    return dx, _summed(partial)


@add_rms_norm_backward.register_fake
def _(dy: Tensor, dtotal: Tensor, total: Tensor, weight: Tensor, rrms: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(total), torch.empty_like(weight)


def _save_add_rms_norm(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(output[1], inputs[2], output[2])


def _differentiate_add_rms_norm(ctx: Any, dy: Tensor, dtotal: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    dx, dweight = add_rms_norm_backward(dy.contiguous(), dtotal.contiguous(), *ctx.saved_tensors)
    return dx, dx, dweight, None


add_rms_norm.register_autograd(_differentiate_add_rms_norm, setup_context=_save_add_rms_norm)
