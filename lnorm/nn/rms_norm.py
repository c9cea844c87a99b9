"""Root-mean-square normalization (Zhang & Sennrich 2019, equation 4)."""

import math
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
        y = wide * torch.rsqrt(self.mean_square(wide, axes) + eps)  # x_hat
        if self.weight is not None:
            y = y * self.weight
        return y.to(x.dtype)

    def mean_square(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """Return the mean square of every row, its axes kept with size 1."""
        return x.square().mean(axes, keepdim=True)


class PartialRMSNorm(RMSNorm):
    """RMSNorm of the last axis whose root mean square is estimated from the first ceil(p · D) of its D elements.

    pRMSNorm in the paper. ``p=1`` is :class:`RMSNorm`; all else is as there. Raises ValueError for a ``p``
    that is not above 0 and at most 1.
    """

    def __init__(self, features: int, p: float, eps: float | None = None, elementwise_affine: bool = True) -> None:
        super().__init__(arguments.positive("features", features), eps, elementwise_affine)
        if not 0 < p <= 1:
            raise ValueError(f"p: expected a number above 0 and at most 1, got {p!r}")
        self.used = max(1, math.ceil(p * features - 1e-9))  # 0.07 * 100 is 7.000000000000001 and means 7

    def mean_square(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        return super().mean_square(x[..., : self.used], axes)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, used={self.used}"
