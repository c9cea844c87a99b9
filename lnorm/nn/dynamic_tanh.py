"""Dynamic tanh (Zhu et al. 2025, "Transformers without Normalization")."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lnorm.nn import _arguments as arguments
from lnorm.nn._numerics import widen


class DynamicTanh(nn.Module):
    """``tanh(alpha * x) * weight + bias``: squashes as LayerNorm does at its extremes, and computes no statistics.

    ``alpha``, shape ``(1,)``, is learned and starts at ``alpha_init_value``; ``weight`` and ``bias`` have shape
    ``normalized_shape``, the trailing axes of the input. Names and keys are those of the paper's own module.

    Raises TypeError for an input that is not floating point, ValueError for shapes that do not fit.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        alpha_init_value: float = 0.5,
        device: arguments.Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = arguments.shape_tuple("normalized_shape", normalized_shape)
        self.alpha = nn.Parameter(torch.full((1,), float(alpha_init_value), device=device, dtype=dtype))
        self.weight = nn.Parameter(torch.ones(self.normalized_shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(self.normalized_shape, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        arguments.trailing_axes("x", x, self.normalized_shape)
        return (torch.tanh(self.alpha * widen(x)) * self.weight + self.bias).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}"
