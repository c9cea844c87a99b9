"""Switchable normalization (Luo et al. 2018)."""

import torch
from torch import Tensor, nn

from lnorm.nn import _arguments as arguments
from lnorm.nn._numerics import moments
from lnorm.nn.batch_norm import BatchNorm


class SwitchNorm(BatchNorm):
    """Normalize with a learned mixture of instance, layer and batch statistics.

    The input has shape ``(N, C, ...)``. ``mean_weight`` and ``var_weight``, shape ``(3,)``, become by softmax the
    shares of (instance, layer, batch) in the mean and in the variance; they start equal. Without axes of space an
    instance would be a single value, so that an input ``(N, C)`` mixes (layer, batch) alone. The batch's part keeps
    running statistics for evaluation, as :class:`lnorm.nn.BatchNorm` does, with its conventions and errors.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        device: arguments.Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, device=device, dtype=dtype)
        self.mean_weight = nn.Parameter(torch.ones(3, device=device, dtype=dtype))
        self.var_weight = nn.Parameter(torch.ones(3, device=device, dtype=dtype))

    def shares(self, rank: int = 4) -> tuple[Tensor, Tensor]:
        """Return the shares in mean and in variance of (instance, layer, batch); for rank 2, of (layer, batch)."""
        first = 0 if rank > 2 else 1
        return self.mean_weight[first:].softmax(0), self.var_weight[first:].softmax(0)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        layer, _, layer_var = moments(x, tuple(range(1, x.ndim)))  # var: (N, 1, 1, ...)
        each = [(layer, layer_var), super()._statistics(x)]  # batch, var: (1, C, 1, ...)
        if x.ndim > 2:
            instance, _, instance_var = moments(x, tuple(range(2, x.ndim)))  # var: (N, C, 1, ...)
            each.insert(0, (instance, instance_var))
        in_mean, in_var = self.shares(x.ndim)
        # The shares sum to 1: mixing the centred inputs subtracts the mixture of the means.
        mixture = sum(share * centred for share, (centred, _) in zip(in_mean, each, strict=True))
        var = sum(share * var for share, (_, var) in zip(in_var, each, strict=True))
        return mixture, var
