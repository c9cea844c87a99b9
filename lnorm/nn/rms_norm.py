"""Root-mean-square normalization (Zhang & Sennrich 2019, equation 4)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lnorm.nn import _arguments as arguments
from lnorm.nn._numerics import widen


class RMSNorm(nn.RMSNorm):
    """Divide every row by its own root mean square, then scale by ``weight`` (γ). No mean is subtracted, no bias added.

    Rows are as in :class:`lnorm.nn.LayerNorm`. ``eps=None`` means the machine epsilon of the type that the statistics
    are taken in, which is float32 for half-precision inputs, as in torch. Constructor, parameters and ``state_dict``
    are those of :class:`torch.nn.RMSNorm`.

    Raises TypeError for an input that is not floating point, ValueError for shapes that do not fit.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: arguments.Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        shape = arguments.shape_tuple("normalized_shape", normalized_shape)
        if eps is not None:
            arguments.check_eps(eps)
        super().__init__(shape, eps, elementwise_affine, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        axes = arguments.trailing_axes("x", x, self.normalized_shape)
        wide = widen(x)
        eps = torch.finfo(wide.dtype).eps if self.eps is None else self.eps
        y = wide * torch.rsqrt(wide.square().mean(axes, keepdim=True) + eps)  # x_hat
        if self.weight is not None:
            y = y * self.weight
        return y.to(x.dtype)
