"""Layer normalization (Ba, Kiros & Hinton 2016, equations 3 and 4)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lnorm.nn import _arguments as arguments
from lnorm.nn._numerics import moments, widen


class LayerNorm(nn.LayerNorm):
    """Normalize every row by its own mean and variance, then scale by ``weight`` (γ) and shift by ``bias`` (β).

    A row is whatever ``normalized_shape`` spans: the trailing axes of the input, shape ``(..., *normalized_shape)``.
    The output has the shape and dtype of the input; half-precision statistics are taken in float32. Constructor,
    parameters and ``state_dict`` are those of :class:`torch.nn.LayerNorm`; only the forward pass is written out.

    Raises TypeError for an input that is not floating point, ValueError for shapes that do not fit.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: arguments.Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        shape = arguments.shape_tuple("normalized_shape", normalized_shape)
        arguments.check_eps(eps)
        super().__init__(shape, eps, elementwise_affine, bias, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        axes = arguments.trailing_axes("x", x, self.normalized_shape)
        centred, _, var = moments(widen(x), axes)
        y = centred * torch.rsqrt(var + self.eps)  # x_hat
        if self.weight is not None:
            y = y * self.weight
        if self.bias is not None:
            y = y + self.bias
        return y.to(x.dtype)
