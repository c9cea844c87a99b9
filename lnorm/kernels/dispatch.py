"""The public operators: each checks its arguments and chooses who computes, the kernel or torch."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

from lnorm.kernels import _arguments as arguments
from lnorm.kernels import composition, operators

# Fewer elements than this and torch is faster, because a kernel is launched from Python. (torch fuses LayerNorm on the
# CPU and does not fuse RMSNorm, hence the difference.)
LEAST = {"layer_norm": 1 << 19, "rms_norm": 1 << 16}
LEAST_DIRECT = {"layer_norm": 1 << 15, "rms_norm": 1 << 13}  # without autograd the launch is shorter


def layer_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5, *, out: Tensor | None = None
) -> Tensor:
    """Normalize the last axis of ``x`` by its mean and variance, then scale by ``weight`` and shift by ``bias``.

    As ``F.layer_norm(x, x.shape[-1:], weight, bias, eps)`` (Ba, Kiros & Hinton 2016), with less error where the mean
    is large. ``x`` has shape ``(..., D)``, ``weight`` and ``bias`` ``(D,)``; None means 1 and 0. float16 and bfloat16
    are computed in float32. ``out``, of the shape and dtype of ``x``, is filled and returned; it may be ``x`` itself.
    Raises TypeError for what is no floating-point tensor, ValueError for shapes, eps, and ``out`` where a gradient is
    required.
    """
    _check(x, weight, bias, eps)
    if out is not None:
        arguments.output("out", out, x, weight, bias)
    how = _how("layer_norm", x, weight, bias)
    if how is None or not _fresh(out, x, weight, bias):
        return _give(composition.layer_norm(x, weight, bias, eps), out)
    rows, gamma, beta = _rows(x), _gain(x, weight), _bias(x, bias)
    if how != "direct" and out is None:
        return _call(how, "layer_norm", rows, gamma, beta, eps)[0].view(x.shape)
    y = torch.empty_like(rows) if out is None else out
    operators.layer_norm_into(_other(y, rows), _nothing(x, 0, 3), rows, gamma, beta, eps)
    return y.view(x.shape)


def rms_norm(x: Tensor, weight: Tensor | None = None, eps: float = 1e-6, *, out: Tensor | None = None) -> Tensor:
    """Divide the last axis of ``x`` by its root mean square, then scale by ``weight``.

    As ``F.rms_norm(x, x.shape[-1:], weight, eps)`` (Zhang & Sennrich 2019). Shapes, dtypes, ``out`` and errors are
    those of :func:`layer_norm`.
    """
    _check(x, weight, None, eps)
    if out is not None:
        arguments.output("out", out, x, weight)
    how = _how("rms_norm", x, weight)
    if how is None or not _fresh(out, x, weight):
        return _give(composition.rms_norm(x, weight, eps), out)
    rows, gamma = _rows(x), _gain(x, weight)
    if how != "direct" and out is None:
        return _call(how, "rms_norm", rows, gamma, eps)[0].view(x.shape)
    y = torch.empty_like(rows) if out is None else out
    operators.rms_norm_into(_other(y, rows), _nothing(x, 0), rows, gamma, eps)
    return y.view(x.shape)


def add_layer_norm(
    x: Tensor,
    residual: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    out: Tensor | None = None,
    in_place: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return ``(y, new_residual)``: the sum ``new_residual = x + residual``, and :func:`layer_norm` of it.

    ``residual`` has the shape and dtype of ``x``. In half precision the sum is rounded before it is normalized. With
    ``in_place`` the sum is written over ``residual``, and with ``out`` y is written there; both only where no gradient
    is required.
    """
    _check(x, weight, bias, eps)
    y, total = _outputs(x, residual, out, in_place, weight, bias)
    how = _how("layer_norm", x, residual, weight, bias)
    if how is None or not (_fresh(y, x, residual, weight, bias) and _fresh(total, residual, x, weight, bias)):
        total = _give(x + residual, total)
        return layer_norm(total, weight, bias, eps, out=y), total
    rows, other, gamma, beta = _rows(x), _rows(residual), _gain(x, weight), _bias(x, bias)
    if how != "direct" and y is None and total is None:
        new, total, _ = _call(how, "add_layer_norm", rows, other, gamma, beta, eps)
        return new.view(x.shape), total.view(x.shape)
    y = torch.empty_like(rows) if y is None else y
    total = torch.empty_like(rows) if total is None else total
    nothing = _nothing(x, 0, 3)
    operators.add_layer_norm_into(_other(y, rows), _other(total, other), nothing, rows, other, gamma, beta, eps)
    return y.view(x.shape), total.view(x.shape)


def add_rms_norm(
    x: Tensor,
    residual: Tensor,
    weight: Tensor | None = None,
    eps: float = 1e-6,
    *,
    out: Tensor | None = None,
    in_place: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return ``(y, new_residual)``: the sum ``new_residual = x + residual``, and :func:`rms_norm` of it.

    As :func:`add_layer_norm`, ``out`` and ``in_place`` too.
    """
    _check(x, weight, None, eps)
    y, total = _outputs(x, residual, out, in_place, weight)
    how = _how("rms_norm", x, residual, weight)
    if how is None or not (_fresh(y, x, residual, weight) and _fresh(total, residual, x, weight)):
        total = _give(x + residual, total)
        return rms_norm(total, weight, eps, out=y), total
    rows, other, gamma = _rows(x), _rows(residual), _gain(x, weight)
    if how != "direct" and y is None and total is None:
        new, total, _ = _call(how, "add_rms_norm", rows, other, gamma, eps)
        return new.view(x.shape), total.view(x.shape)
    y = torch.empty_like(rows) if y is None else y
    total = torch.empty_like(rows) if total is None else total
    operators.add_rms_norm_into(_other(y, rows), _other(total, other), _nothing(x, 0), rows, other, gamma, eps)
    return y.view(x.shape), total.view(x.shape)


def layer_norm_gelu(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    approximate: Literal["none", "tanh"] = "none",
) -> Tensor:
    """Return GELU of :func:`layer_norm`, as ``F.gelu(…, approximate=approximate)`` (Hendrycks & Gimpel 2016).

    In half precision the result is rounded once, at the end.
    """
    _check(x, weight, bias, eps)
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate: expected 'none' or 'tanh', got {approximate!r}")
    how = None if x.dtype == torch.float64 else _how("layer_norm", x, weight, bias)
    if how is None:
        return composition.layer_norm_gelu(x, weight, bias, eps, approximate)
    rows, gamma, beta, tanh = _rows(x), _gain(x, weight), _bias(x, bias), approximate == "tanh"
    if how != "direct":
        return _call(how, "layer_norm_gelu", rows, gamma, beta, eps, tanh)[0].view(x.shape)
    y = torch.empty_like(rows)
    operators.layer_norm_gelu_into(y, _nothing(x, 0, 3), rows, gamma, beta, eps, tanh)
    return y.view(x.shape)


def rms_norm_int8(x: Tensor, weight: Tensor | None = None, eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Return ``(q, scale)``: :func:`rms_norm` in 8 bits, with one scale a row, for a matrix product in int8.

    ``q``, int8, has the shape of ``x``; ``scale``, float32 (float64 for float64), has all axes but the last; the norm
    is about ``q * scale[..., None]``. A row's largest size becomes 127; others are rounded to nearest. A row of zeros
    has the scale 0, one that is not finite a scale that is not. No gradient flows through.
    """
    _check(x, weight, None, eps)
    x, weight = x.detach(), None if weight is None else weight.detach()
    if x.dtype == torch.float64 or _how("rms_norm", x, weight) is None:
        return composition.rms_norm_int8(x, weight, eps)
    q, scale = operators.rms_norm_int8(_rows(x), _gain(x, weight), eps)
    return q.view(x.shape), scale.view(x.shape[:-1])


def _check(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> None:
    arguments.rows("x", x)
    arguments.parameter("weight", weight, x)
    arguments.parameter("bias", bias, x)
    arguments.check_eps(eps)


def _outputs(
    x: Tensor, residual: Tensor, out: Tensor | None, in_place: bool, *parameters: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Check what an addition is given to write into."""
    arguments.like("residual", residual, x)
    if out is not None:
        arguments.output("out", out, x, residual, *parameters)
        if in_place and _overlap(out, residual):
            raise ValueError("out: expected memory of its own beside residual, which is written to in place")
    if in_place:
        arguments.output("in_place", residual, x, *parameters)
    return out, residual if in_place else None


def _how(norm: str, *tensors: Tensor | None) -> Literal["operator", "function", "direct"] | None:
    """Who computes: the kernel, as an operator that torch sees, as a function of autograd, or directly; or torch, None.

    The kernel takes large tensors on the CPU, of one dtype once half precision is widened.
    """
    given = [each for each in tensors if each is not None]
    x = given[0]
    if torch.compiler.is_compiling() or not operators.usable(*given):
        return None
    graded = torch.is_grad_enabled() and any(each.requires_grad for each in given)
    if x.numel() < (LEAST if graded else LEAST_DIRECT)[norm]:
        return None
    dtypes = {operators.computed_in(each) for each in given}
    if dtypes not in ({torch.float32}, {torch.float64}):
        return None
    if any(type(each) not in (Tensor, torch.nn.Parameter) or each.device.type != "cpu" for each in given):
        return None
    # vmap, torch.func.grad and forward-mode derivatives: torch's own operations know how
    if torch._C._functorch.peek_interpreter_stack() or forward_ad._current_level >= 0:
        return None
    if torch._C._len_torch_dispatch_stack() > 0:
        return "operator"
    return "function" if graded else "direct"


def _call(how: str, name: str, *given: Any) -> Any:
    return (operators.EAGER[name] if how == "function" else getattr(operators, name))(*given)


def _fresh(out: Tensor | None, x: Tensor, *others: Tensor | None) -> bool:
    """Whether a kernel may write to ``out``: it may be ``x``, row on row, and touches no other input."""
    if out is None:
        return True
    if not out.is_contiguous() or any(each is not None and _overlap(out, each) for each in others):
        return False
    return not _overlap(out, x) or (out.data_ptr() == x.data_ptr() and x.is_contiguous())


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors may share memory; those of one storage that are not contiguous count as if they did."""
    if a.device.type != "cpu" or a.untyped_storage().data_ptr() != b.untyped_storage().data_ptr():
        return a.device.type != "cpu" and a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
    if not (a.is_contiguous() and b.is_contiguous()):
        return True
    return a.data_ptr() < b.data_ptr() + b.nbytes and b.data_ptr() < a.data_ptr() + a.nbytes


def _give(value: Tensor, out: Tensor | None) -> Tensor:
    return value if out is None else out.copy_(value)


def _other(out: Tensor, rows: Tensor) -> Tensor | None:
    """Return ``out`` as rows, or None where it is the input itself."""
    return None if out.data_ptr() == rows.data_ptr() and rows.numel() else out.view(rows.shape)


def _nothing(x: Tensor, *shape: int) -> Tensor:
    return x.new_empty(shape, dtype=operators.computed_in(x))


def _rows(x: Tensor) -> Tensor:
    """Return ``x`` as contiguous rows (N, D); a view where it is that already."""
    return x.reshape(-1, x.shape[-1]).contiguous()


def _gain(x: Tensor, weight: Tensor | None) -> Tensor:
    return x.new_ones(x.shape[-1], dtype=operators.computed_in(x)) if weight is None else _parameter(x, weight)


def _bias(x: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_zeros(x.shape[-1], dtype=operators.computed_in(x)) if bias is None else _parameter(x, bias)


def _parameter(x: Tensor, value: Tensor) -> Tensor:
    if x.dtype == torch.bfloat16 and value.dtype == torch.float32:  # see lnorm.kernels.cpu.halves.narrow
        value = value.nan_to_num(torch.nan, torch.inf, -torch.inf)
    return composition.widen(value).contiguous()
