"""Instance normalization (Ulyanov, Vedaldi & Lempitsky 2016)."""

import torch
from torch import Tensor

from lnorm.nn import _arguments as arguments
from lnorm.nn._numerics import moments
from lnorm.nn.batch_norm import BatchNorm


class InstanceNorm(BatchNorm):
    """Normalize every channel of every example by its own mean and variance over space: BatchNorm with a batch of one.

    The input has shape ``(N, C, ...)`` with at least one axis of space. Constructor, parameters and ``state_dict`` are
    those of :class:`torch.nn.InstanceNorm1d` and its sisters. With ``track_running_stats=True``, evaluation uses
    running statistics that average over the examples; ``num_batches_tracked`` then counts, where torch leaves it at 0.

    Raises TypeError for an input that is not floating point; ValueError for shapes that do not fit and for one value
    a channel, whose variance would be 0.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: arguments.Device = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def _batch_statistics(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
        if x.ndim < 3:
            raise ValueError(
                f"x: expected shape (N, {self.num_features}, ...) with axes of space, got {tuple(x.shape)}"
            )
        return *moments(x, tuple(range(2, x.ndim))), x.numel() // max(x.shape[0] * x.shape[1], 1)
