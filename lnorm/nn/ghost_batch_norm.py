"""Ghost batch normalization (Hoffer, Hubara & Soudry 2017)."""

from typing import Any

from torch import Tensor

from lnorm.nn import _arguments as arguments
from lnorm.nn._numerics import moments
from lnorm.nn.batch_norm import BatchNorm


class GhostBatchNorm(BatchNorm):
    """BatchNorm that treats every ``group`` consecutive examples as a batch of their own.

    The input has shape ``(N, C, ...)``, in training with N a multiple of ``group``. Running statistics move towards the
    mean of the groups' statistics, once a batch. All else, ``state_dict`` included, is as in :class:`BatchNorm`.

    Raises TypeError for an input that is not floating point; ValueError for shapes that do not fit, for rows left over
    and for groups of one value a channel.
    """

    def __init__(self, num_features: int, group: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(num_features, *args, **kwargs)
        self.group = arguments.positive("group", group)

    def _batch_statistics(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
        if len(x) % self.group:
            raise ValueError(f"x: expected a multiple of {self.group} rows, one or more whole groups, got {len(x)}")
        groups = x.unflatten(0, (-1, self.group)) if len(x) else x[None]  # (groups, group, C, ...)
        centred, mean, var = moments(groups, (1, *range(3, groups.ndim)))
        var_of_rows = var.expand(*groups.shape[:2], *var.shape[2:]).flatten(0, 1)
        return centred.flatten(0, 1), mean, var_of_rows, groups[0].numel() // self.num_features

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, group={self.group}"
