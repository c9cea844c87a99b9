"""Batch normalization (Ioffe & Szegedy 2015, algorithms 1 and 2)."""

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm  # what torch's own tools look for, update_bn for one

from lnorm.nn import _arguments as arguments
from lnorm.nn._numerics import moments, scale_and_shift, widen


class BatchNorm(_BatchNorm):
    """Normalize every channel by its mean and variance over batch and space, then scale by ``weight`` and add ``bias``.

    One class for every rank: the input has shape ``(N, C, ...)``, channels on axis 1. In training the statistics are
    the batch's, and the running ones move towards them by ``momentum`` (None: they are the mean over all batches); in
    evaluation the running ones are used. The batch is divided by the biased standard deviation, the running variance
    is the unbiased estimate. Constructor, parameters, buffers and ``state_dict`` are those of
    :class:`torch.nn.BatchNorm1d` and its sisters; half-precision statistics are taken in float32.

    Raises TypeError for an input that is not floating point; ValueError for shapes that do not fit, and in training for
    one value a channel, whose variance would be 0, and for ``eps=0``, as torch does.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: arguments.Device = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        arguments.positive("num_features", num_features)
        arguments.check_eps(eps)
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        arguments.channels("x", x, self.num_features)
        wide = widen(x)
        centred, var = self._statistics(wide)
        x_hat = centred * torch.rsqrt(var + self.eps)
        return scale_and_shift(x_hat, self.weight, self.bias).to(x.dtype)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``x`` minus the mean, and the variance, to normalize with; update the running ones in training."""
        if not self.training and self.track_running_stats:
            per_channel = (1, -1) + (1,) * (x.ndim - 2)
            mean, var = (widen(each).view(per_channel) for each in (self.running_mean, self.running_var))
            return x - mean, var
        centred, mean, var, count = self._batch_statistics(x)
        if count == 1:
            raise ValueError(f"x: expected more than one value a channel in training, got shape {tuple(x.shape)}")
        if self.training and self.track_running_stats:
            self.num_batches_tracked += 1
            if count:  # an empty batch has no statistics to learn from
                self._track(mean.detach(), var.detach() * count / (count - 1))
        return centred, var

    def _batch_statistics(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
        """Return ``x`` minus its mean, the mean, the biased variance and the number of values behind a statistic."""
        if self.eps == 0:
            raise ValueError("eps: expected a number above 0 with a batch's statistics, got 0; torch refuses it too")
        return *moments(x, (0, *range(2, x.ndim))), x.numel() // self.num_features

    def _track(self, mean: Tensor, var: Tensor) -> None:
        """Move the running statistics towards those of this batch; instances, if kept apart on axis 0, are averaged."""
        momentum = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        for running, batch in ((self.running_mean, mean), (self.running_var, var)):
            wide = widen(running)
            running.copy_(wide.lerp(batch.mean(0).flatten().to(wide.dtype), momentum))


class TokenBatchNorm(BatchNorm):
    """BatchNorm of token vectors ``(..., D)``: the last axis holds the channels, all other axes are the batch.

    This is what a Transformer with BatchNorm in the place of LayerNorm uses (Shen et al. 2020).
    """

    def forward(self, x: Tensor) -> Tensor:
        arguments.trailing_axes("x", x, (self.num_features,))
        return super().forward(x.reshape(-1, self.num_features)).view(x.shape)
