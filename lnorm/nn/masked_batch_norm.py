"""Batch normalization that leaves padding out."""

import torch
from torch import Tensor

from lnorm.nn import _arguments as arguments
from lnorm.nn.batch_norm import BatchNorm


class MaskedBatchNorm(BatchNorm):
    """BatchNorm of the positions that a mask keeps: call it with ``(x, mask)``.

    ``x`` has shape ``(..., C)``, for example ``(N, T, C)`` for N padded sequences; ``mask`` is boolean, of shape
    ``x.shape[:-1]``. Positions where it is False count in no statistic and come out as 0, whatever they hold.
    Constructor and ``state_dict`` are those of :class:`BatchNorm`.

    Raises TypeError for an input that is not floating point or a mask that is not boolean, ValueError for shapes that
    do not fit and, in training, for a mask that keeps a single position.
    """

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]  # the mask is the point
        arguments.trailing_axes("x", x, (self.num_features,))
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            raise TypeError(f"mask: expected a boolean tensor, got {getattr(mask, 'dtype', type(mask).__name__)}")
        if mask.shape != x.shape[:-1]:
            raise ValueError(
                f"mask: expected the shape of x without its channels, {tuple(x.shape[:-1])}, got {tuple(mask.shape)}"
            )
        return torch.zeros_like(x).index_put((mask,), super().forward(x[mask]))
