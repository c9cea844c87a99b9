"""The public operators: each checks its arguments and chooses who computes, the kernel or torch."""

import torch
from torch import Tensor

from lnorm.kernels import _arguments as arguments
from lnorm.kernels import composition, operators

# Fewer elements than this and torch is faster, because a kernel is launched from Python. (torch fuses LayerNorm on the
# CPU and does not fuse RMSNorm, hence the difference.)
LEAST = {"layer_norm": 1 << 19, "rms_norm": 1 << 16}


def layer_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Normalize the last axis of ``x`` by its mean and variance, then scale by ``weight`` and shift by ``bias``.

    As ``F.layer_norm(x, x.shape[-1:], weight, bias, eps)`` (Ba, Kiros & Hinton 2016), with less error where the mean
    is large. ``x`` has shape ``(..., D)``, ``weight`` and ``bias`` ``(D,)``; None means 1 and 0. float16 and bfloat16
    are computed in float32. Raises TypeError for what is no floating-point tensor, ValueError for shapes and eps.
    """
    _check(x, weight, bias, eps)
    if not _takes("layer_norm", x, weight, bias):
        return composition.layer_norm(x, weight, bias, eps)
    rows, weight, bias = _rows(x), _gain(x, weight), _bias(x, bias)
    y, _ = operators.layer_norm(rows, weight, bias, eps)
    return y.view(x.shape).to(x.dtype)


def rms_norm(x: Tensor, weight: Tensor | None = None, eps: float = 1e-6) -> Tensor:
    """Divide the last axis of ``x`` by its root mean square, then scale by ``weight``.

    As ``F.rms_norm(x, x.shape[-1:], weight, eps)`` (Zhang & Sennrich 2019). Shapes, dtypes and errors are those of
    :func:`layer_norm`.
    """
    _check(x, weight, None, eps)
    if not _takes("rms_norm", x, weight):
        return composition.rms_norm(x, weight, eps)
    y, _ = operators.rms_norm(_rows(x), _gain(x, weight), eps)
    return y.view(x.shape).to(x.dtype)


def add_layer_norm(
    x: Tensor, residual: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """Return ``(y, new_residual)``: the sum ``new_residual = x + residual``, and :func:`layer_norm` of it.

    ``residual`` has the shape and dtype of ``x``. In half precision the sum is rounded before it is normalized.
    """
    _check(x, weight, bias, eps)
    arguments.like("residual", residual, x)
    if not _takes("layer_norm", x, residual, weight, bias) or composition.widen(x) is not x:
        total = x + residual
        return layer_norm(total, weight, bias, eps), total
    y, total, _ = operators.add_layer_norm(_rows(x), _rows(residual), _gain(x, weight), _bias(x, bias), eps)
    return y.view(x.shape), total.view(x.shape)


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor | None = None, eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Return ``(y, new_residual)``: the sum ``new_residual = x + residual``, and :func:`rms_norm` of it."""
    _check(x, weight, None, eps)
    arguments.like("residual", residual, x)
    if not _takes("rms_norm", x, residual, weight) or composition.widen(x) is not x:
        total = x + residual
        return rms_norm(total, weight, eps), total
    y, total, _ = operators.add_rms_norm(_rows(x), _rows(residual), _gain(x, weight), eps)
    return y.view(x.shape), total.view(x.shape)


def _check(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> None:
    arguments.rows("x", x)
    arguments.parameter("weight", weight, x)
    arguments.parameter("bias", bias, x)
    arguments.check_eps(eps)


def _takes(norm: str, x: Tensor, *others: Tensor | None) -> bool:
    """Whether the kernel takes these tensors: large, on the CPU, of one dtype once half precision is widened."""
    if torch.compiler.is_compiling() or x.numel() < LEAST[norm] or not operators.usable():
        return False
    given = [x, *(each for each in others if each is not None)]
    dtypes = {torch.float32 if each.dtype in (torch.float16, torch.bfloat16) else each.dtype for each in given}
    return (
        dtypes in ({torch.float32}, {torch.float64})
        and all(type(each) in (Tensor, torch.nn.Parameter) and each.device.type == "cpu" for each in given)
        and not torch._C._functorch.peek_interpreter_stack()  # vmap, torch.func.grad: torch's own operations know how
    )


def _rows(x: Tensor) -> Tensor:
    """Return ``x`` as contiguous rows (N, D), widened; a view where it is that already."""
    return composition.widen(x).reshape(-1, x.shape[-1]).contiguous()


def _gain(x: Tensor, weight: Tensor | None) -> Tensor:
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return torch.ones(x.shape[-1], dtype=wide) if weight is None else composition.widen(weight).contiguous()


def _bias(x: Tensor, bias: Tensor | None) -> Tensor:
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return torch.zeros(x.shape[-1], dtype=wide) if bias is None else composition.widen(bias).contiguous()
