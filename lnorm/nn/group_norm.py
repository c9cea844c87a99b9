"""Group normalization (Wu & He 2018)."""

import torch
from torch import Tensor, nn

from lnorm.nn import _arguments as arguments
from lnorm.nn._numerics import moments, scale_and_shift, widen


class GroupNorm(nn.GroupNorm):
    """Normalize every group of neighbouring channels of every example by its own mean and variance.

    The input has shape ``(N, num_channels, ...)``; ``weight`` and ``bias`` hold one number a channel. One group is
    layer normalization over channels and space, ``num_groups == num_channels`` is instance normalization. Constructor,
    parameters and ``state_dict`` are those of :class:`torch.nn.GroupNorm`; half-precision statistics are taken in
    float32.

    Raises TypeError for an input that is not floating point; ValueError for shapes that do not fit and for channels
    that the groups do not divide.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: arguments.Device = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        arguments.positive("num_groups", num_groups)
        arguments.positive("num_channels", num_channels)
        arguments.check_eps(eps)
        super().__init__(num_groups, num_channels, eps, affine, device, dtype, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        arguments.channels("x", x, self.num_channels)
        groups = widen(x).unflatten(1, (self.num_groups, -1))  # (N, G, C / G, ...)
        centred, _, var = moments(groups, tuple(range(2, groups.ndim)))
        x_hat = (centred * torch.rsqrt(var + self.eps)).flatten(1, 2)  # (N, C, ...)
        return scale_and_shift(x_hat, self.weight, self.bias).to(x.dtype)
