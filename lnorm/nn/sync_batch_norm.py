"""Batch normalization with statistics over all processes, on any device that torch.distributed can sum on."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from lnorm.nn import _arguments as arguments
from lnorm.nn.batch_norm import BatchNorm


class AllReduceSum(torch.autograd.Function):
    """Sum over all processes. Every process used the sum, so its gradient is the sum of all their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        total = x.clone(memory_format=torch.contiguous_format)  # all_reduce works in place
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        total = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=ctx.group)
        return total, None


class SyncBatchNorm(BatchNorm):
    """BatchNorm whose batch is the union of the batches of all processes in ``process_group`` (None: of all processes).

    :class:`torch.nn.SyncBatchNorm` refuses tensors on the CPU; this one needs only ``all_reduce``, which gloo has. The
    processes may hold batches of different sizes, an empty one included, but all must call it. Without
    ``torch.distributed``, with a single process and in evaluation it is plain :class:`lnorm.nn.BatchNorm`.

    The gradient of the input is that of the sum of all processes' losses, as if one process had the whole batch; the
    gradients of ``weight`` and ``bias`` are this process's share, which DistributedDataParallel then averages.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: arguments.Device = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self.process_group = process_group

    def _batch_statistics(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
        if not (self.training and dist.is_available() and dist.is_initialized()):
            return super()._batch_statistics(x)
        axes = (0, *range(2, x.ndim))
        count = torch.tensor(x.numel() // self.num_features, device=x.device)
        dist.all_reduce(count, group=self.process_group)
        n = count.clamp(min=1)
        mean = AllReduceSum.apply(x.sum(axes, keepdim=True), self.process_group) / n
        centred = x - mean
        var = AllReduceSum.apply(centred.square().sum(axes, keepdim=True), self.process_group) / n
        return centred, mean, var, int(count)
