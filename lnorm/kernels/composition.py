"""The same functions composed of torch's operations: for small tensors, compilers, and what the kernels do not take."""

import torch
from torch import Tensor
from torch.nn import functional as F


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Return LayerNorm of the last axis, in the dtype of ``x``; computed in float32 at least.

    F.layer_norm loses digits where a row lies far from zero, because it rounds the mean to one float32. Rows that come
    with their mean taken off are safe, and LayerNorm does not see the difference; nor does its gradient.
    """
    wide = widen(x)
    mean = wide.detach().mean(-1, keepdim=True)
    return F.layer_norm(wide - mean, wide.shape[-1:], _as(wide, weight), _as(wide, bias), eps).to(x.dtype)


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """Return RMSNorm of the last axis, in the dtype of ``x``; computed in float32 at least."""
    wide = widen(x)
    y = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (y if weight is None else y * weight.to(wide.dtype)).to(x.dtype)


def layer_norm_gelu(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, approximate: str) -> Tensor:
    """Return GELU of LayerNorm, in the dtype of ``x``; rounded to it once."""
    return F.gelu(layer_norm(widen(x), weight, bias, eps), approximate=approximate).to(x.dtype)


def rms_norm_int8(x: Tensor, weight: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """Return RMSNorm in 8 bits, and what each row was divided by. A row that is zero or not finite becomes zeros."""
    y = rms_norm(widen(x), weight, eps)
    largest = y.abs().amax(-1, keepdim=True)
    inverse = 127 / largest
    q = torch.where((inverse > 0) & inverse.isfinite(), y * inverse, 0).round().to(torch.int8)
    return q, largest.squeeze(-1) / 127


def widen(x: Tensor) -> Tensor:
    """Return ``x`` in the type it is computed in: float32 for half precision, its own otherwise."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _as(x: Tensor, parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else parameter.to(x.dtype)
