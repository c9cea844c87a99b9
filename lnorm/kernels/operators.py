"""The numba kernels as torch operators: what they return, what the compiler may know of them, and their derivatives.

Every operator takes contiguous ``(N, D)`` tensors of one dtype on the CPU, and a gain and bias of the dtype that is
computed in: float32, or float64 if the rows are. Which calls come here is decided in :mod:`lnorm.kernels.dispatch`.
The functions ``…_into`` write into tensors that exist, differentiate nothing and allocate nothing.
"""

import os
import platform
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.library import custom_op

_process = os.getpid()

BITS = {torch.bfloat16: torch.uint16, torch.float16: torch.int16}  # see lnorm.kernels.cpu.halves


def usable(*tensors: Tensor) -> bool:
    """Whether the kernels may run here.

    Not in a process that was forked off a running one: GNU's OpenMP would end it. And not on float16 where the
    processor does not convert it.
    """
    return os.getpid() == _process and (_converts_float16() or all(each.dtype != torch.float16 for each in tensors))


@cache
def _converts_float16() -> bool:
    from llvmlite import binding

    return platform.machine() in ("arm64", "aarch64") or bool(binding.get_host_cpu_features().get("f16c", False))


def _run(operator: Any, *arguments: Any) -> Any:
    """Call an operator past the dispatcher, unless something there wants to see it."""
    seen = torch._C._len_torch_dispatch_stack() > 0 or torch.is_grad_enabled()
    return operator(*arguments) if seen else operator._init_fn(*arguments)


def launch(kernel: Callable[..., Any], *arguments: Any) -> None:
    """Call a kernel with tensors as arrays, which copies nothing, on as many threads as torch may use."""
    import numba

    before = numba.get_num_threads()
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    numba.set_num_threads(min(torch.get_num_threads(), most))
    try:
        kernel(*(_array(each) if isinstance(each, Tensor) else each for each in arguments))
    finally:
        numba.set_num_threads(before)


def _array(tensor: Tensor) -> Any:
    """Return the same memory as a NumPy array; 16-bit numbers as the integers that stand for them in the kernels."""
    bits = BITS.get(tensor.dtype)
    return (tensor.detach() if bits is None else tensor.detach().view(bits)).numpy()


def pieces(x: Tensor) -> int:
    """Return into how many pieces the rows of ``x`` are cut."""
    from lnorm.kernels.cpu import compiled

    return compiled.pieces(len(x))


def _new(x: Tensor, *shape: int) -> Tensor:
    """Return an empty tensor of the dtype that rows like ``x`` are computed in."""
    return x.new_empty(shape, dtype=computed_in(x))


def computed_in(x: Tensor) -> torch.dtype:
    return torch.float32 if x.dtype in BITS else x.dtype


def _summed(partial: Tensor) -> Tensor:
    """Add the pieces' sums in float64, in their order."""
    return partial.sum(0, dtype=torch.float64).to(partial.dtype)


# LayerNorm


def layer_norm_into(y: Tensor | None, stats: Tensor, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> None:
    """Fill ``y``, or ``x`` itself where it is None; and ``stats`` (N, 3), unless it has no rows."""
    from lnorm.kernels.cpu import layer_norm

    launch(layer_norm.forward, x, weight, bias, eps, pieces(x), y, stats)


@custom_op("lnorm::layer_norm", mutates_args=())
def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return y (N, D), and for the backward pass ``stats`` (N, 3): the mean in two parts, and rstd."""
    y, stats = torch.empty_like(x), _new(x, len(x), 3)
    layer_norm_into(y, stats, x, weight, bias, eps)
    return y, stats


@layer_norm.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), _new(x, x.shape[0], 3)


@custom_op("lnorm::layer_norm_backward", mutates_args=())
def layer_norm_backward(dy: Tensor, x: Tensor, weight: Tensor, stats: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    from lnorm.kernels.cpu import layer_norm

    dx, partial = torch.empty_like(x), _new(x, pieces(x), 2, x.shape[1]).zero_()
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
    return *_run(layer_norm_backward, dy.contiguous(), *ctx.saved_tensors), None


layer_norm.register_autograd(_differentiate_layer_norm, setup_context=_save_layer_norm)


# RMSNorm


def rms_norm_into(y: Tensor | None, rrms: Tensor, x: Tensor, weight: Tensor, eps: float) -> None:
    """Fill ``y``, or ``x`` itself where it is None; and ``rrms`` (N,), unless it is empty."""
    from lnorm.kernels.cpu import rms_norm

    launch(rms_norm.forward, x, weight, eps, pieces(x), y, rrms)


@custom_op("lnorm::rms_norm", mutates_args=())
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return y (N, D), and for the backward pass one over the root mean square (N,)."""
    y, rrms = torch.empty_like(x), _new(x, len(x))
    rms_norm_into(y, rrms, x, weight, eps)
    return y, rrms


@rms_norm.register_fake
def _(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), _new(x, x.shape[0])


@custom_op("lnorm::rms_norm_backward", mutates_args=())
def rms_norm_backward(dy: Tensor, x: Tensor, weight: Tensor, rrms: Tensor) -> tuple[Tensor, Tensor]:
    from lnorm.kernels.cpu import rms_norm

    dx, partial = torch.empty_like(x), _new(x, pieces(x), x.shape[1]).zero_()
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
    return *_run(rms_norm_backward, dy.contiguous(), *ctx.saved_tensors), None


rms_norm.register_autograd(_differentiate_rms_norm, setup_context=_save_rms_norm)


# LayerNorm and GELU


def layer_norm_gelu_into(
    y: Tensor, stats: Tensor, x: Tensor, weight: Tensor, bias: Tensor, eps: float, tanh: bool
) -> None:
    """Fill ``y``; and ``stats`` (N, 3), unless it has no rows."""
    from lnorm.kernels.cpu import layer_norm_gelu

    launch(layer_norm_gelu.forward, x, weight, bias, eps, tanh, pieces(x), y, stats)


@custom_op("lnorm::layer_norm_gelu", mutates_args=())
def layer_norm_gelu(x: Tensor, weight: Tensor, bias: Tensor, eps: float, tanh: bool) -> tuple[Tensor, Tensor]:
    """Return y (N, D) and ``stats`` (N, 3). Not for float64."""
    y, stats = torch.empty_like(x), _new(x, len(x), 3)
    layer_norm_gelu_into(y, stats, x, weight, bias, eps, tanh)
    return y, stats


@layer_norm_gelu.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float, tanh: bool) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), _new(x, x.shape[0], 3)


def _save_layer_norm_gelu(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, bias, ctx.eps, ctx.tanh = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, weight, bias, output[1])


def _differentiate_layer_norm_gelu(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias, stats = ctx.saved_tensors
    z, _stats = _run(layer_norm, x, weight, bias, ctx.eps)  # again, rather than kept
    dz = torch.ops.aten.gelu_backward(dy, z, approximate="tanh" if ctx.tanh else "none")
    return *_run(layer_norm_backward, dz, x, weight, stats), None, None


layer_norm_gelu.register_autograd(_differentiate_layer_norm_gelu, setup_context=_save_layer_norm_gelu)


# RMSNorm and 8 bits


@custom_op("lnorm::rms_norm_int8", mutates_args=())
def rms_norm_int8(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return q (N, D), int8, and scale (N,), float32. Not for float64, and without a derivative."""
    from lnorm.kernels.cpu import rms_norm_int8

    q, scale = torch.empty_like(x, dtype=torch.int8), _new(x, len(x))
    launch(rms_norm_int8.forward, x, weight, eps, pieces(x), q, scale)
    return q, scale


@rms_norm_int8.register_fake
def _(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, dtype=torch.int8), _new(x, x.shape[0])


# Residual addition and LayerNorm


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
    from lnorm.kernels.cpu import add_norm

    launch(add_norm.layer_norm_forward, x, residual, weight, bias, eps, pieces(x), y, total, stats)


@custom_op("lnorm::add_layer_norm", mutates_args=())
def add_layer_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y and x + residual, both (N, D), and for the backward pass ``stats`` (N, 3)."""
    y, total, stats = torch.empty_like(x), torch.empty_like(x), _new(x, len(x), 3)
    add_layer_norm_into(y, total, stats, x, residual, weight, bias, eps)
    return y, total, stats


@add_layer_norm.register_fake
def _(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x), _new(x, x.shape[0], 3)


@custom_op("lnorm::add_layer_norm_backward", mutates_args=())
def add_layer_norm_backward(
    dy: Tensor, dtotal: Tensor, total: Tensor, weight: Tensor, stats: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    from lnorm.kernels.cpu import add_norm

    dx, partial = torch.empty_like(total), _new(total, pieces(total), 2, total.shape[1]).zero_()
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
    dx, dweight, dbias = _run(add_layer_norm_backward, dy.contiguous(), dtotal.contiguous(), *ctx.saved_tensors)
    return dx, dx, dweight, dbias, None


add_layer_norm.register_autograd(_differentiate_add_layer_norm, setup_context=_save_add_layer_norm)


# Residual addition and RMSNorm


def add_rms_norm_into(
    y: Tensor | None, total: Tensor | None, rrms: Tensor, x: Tensor, residual: Tensor, weight: Tensor, eps: float
) -> None:
    """Fill ``y``, or ``x`` where it is None; ``total``, or ``residual`` where it is None; and ``rrms``."""
    from lnorm.kernels.cpu import add_norm

    launch(add_norm.rms_norm_forward, x, residual, weight, eps, pieces(x), y, total, rrms)


@custom_op("lnorm::add_rms_norm", mutates_args=())
def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return y and x + residual, both (N, D), and for the backward pass one over the root mean square (N,)."""
    y, total, rrms = torch.empty_like(x), torch.empty_like(x), _new(x, len(x))
    add_rms_norm_into(y, total, rrms, x, residual, weight, eps)
    return y, total, rrms


@add_rms_norm.register_fake
def _(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x), _new(x, x.shape[0])


@custom_op("lnorm::add_rms_norm_backward", mutates_args=())
def add_rms_norm_backward(
    dy: Tensor, dtotal: Tensor, total: Tensor, weight: Tensor, rrms: Tensor
) -> tuple[Tensor, Tensor]:
    from lnorm.kernels.cpu import add_norm

    dx, partial = torch.empty_like(total), _new(total, pieces(total), total.shape[1]).zero_()
    launch(add_norm.rms_norm_backward, dy, dtotal, total, weight, rrms, len(partial), dx, partial)
    return dx, _summed(partial)


@add_rms_norm_backward.register_fake
def _(dy: Tensor, dtotal: Tensor, total: Tensor, weight: Tensor, rrms: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(total), torch.empty_like(weight)


def _save_add_rms_norm(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(output[1], inputs[2], output[2])


def _differentiate_add_rms_norm(ctx: Any, dy: Tensor, dtotal: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    dx, dweight = _run(add_rms_norm_backward, dy.contiguous(), dtotal.contiguous(), *ctx.saved_tensors)
    return dx, dx, dweight, None


add_rms_norm.register_autograd(_differentiate_add_rms_norm, setup_context=_save_add_rms_norm)


# The same for autograd alone: where nothing else looks on, the dispatcher's part of a call is time saved


def _eager(operator: Any, save: Callable[..., None], differentiate: Callable[..., Any]) -> Callable[..., Any]:
    class Eager(torch.autograd.Function):
        forward = staticmethod(operator._init_fn)
        setup_context = staticmethod(save)
        backward = staticmethod(once_differentiable(differentiate))

    return Eager.apply


EAGER = {
    "layer_norm": _eager(layer_norm, _save_layer_norm, _differentiate_layer_norm),
    "rms_norm": _eager(rms_norm, _save_rms_norm, _differentiate_rms_norm),
    "add_layer_norm": _eager(add_layer_norm, _save_add_layer_norm, _differentiate_add_layer_norm),
    "add_rms_norm": _eager(add_rms_norm, _save_add_rms_norm, _differentiate_add_rms_norm),
    "layer_norm_gelu": _eager(layer_norm_gelu, _save_layer_norm_gelu, _differentiate_layer_norm_gelu),
}
