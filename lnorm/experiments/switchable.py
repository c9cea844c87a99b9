"""Left to choose between batch and layer statistics, does a network turn away from BatchNorm when its batch shrinks?

Switchable normalization (Luo et al. 2019) in the networks of :mod:`lnorm.experiments.norm_batch`: same data, same
optimizer, and for the shares the same learning rate as for everything else.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lnorm.data import digits
from lnorm.experiments.claim import Claim, Measurements
from lnorm.experiments.norm_batch import BATCH, GROUPS, LAST, GhostNorm, ghost_network, train
from lnorm.training import accuracies, batches


class GhostSwitchNorm(GhostNorm):
    """:class:`GhostNorm` with a learned share of LayerNorm's statistics in its mean and in its variance.

    ``mean_weight`` and ``var_weight``, shape ``(copies, 2)``, become by softmax the shares of (layer, batch). This is
    :class:`lnorm.nn.SwitchNorm` of an input without axes of space, for several copies with a group size each.
    """

    def __init__(self, groups: Sequence[int], features: int) -> None:
        super().__init__(groups, features)
        self.mean_weight = nn.Parameter(torch.ones(len(groups), 2))
        self.var_weight = nn.Parameter(torch.ones(len(groups), 2))

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mixtures of means and of variances, shape ``(copies, N, features)``."""
        batch_mean, batch_var = super().statistics(x)
        layer_mean = x.mean(dim=2, keepdim=True)
        layer_var = (x - layer_mean).square().mean(dim=2, keepdim=True)
        in_mean, in_var = (weight.softmax(dim=1)[:, 1, None, None] for weight in (self.mean_weight, self.var_weight))
        return torch.lerp(layer_mean, batch_mean, in_mean), torch.lerp(layer_var, batch_var, in_var)


def run(seed: int, steps: int = 600) -> Measurements:
    """Train five group sizes at once and read off BatchNorm's shares, averaged over layers. About 3 s on one core."""
    train_y, test_x, test_y = map(torch.from_numpy, digits()[1:])
    generator = torch.Generator().manual_seed(seed)
    model = ghost_network(generator, norm=GhostSwitchNorm)
    loss, _ = train(model, batches(len(train_y), BATCH, steps, generator), steps)

    def share(weight: str) -> np.ndarray:
        of_layers = [getattr(norm, weight).detach().softmax(dim=1)[:, 1] for norm in model.norms]
        return torch.stack(of_layers).mean(0).numpy()

    return {
        "groups": np.array(GROUPS),
        "mean_share": share("mean_weight"),
        "var_share": share("var_weight"),
        "loss": loss[-LAST:].mean(0).numpy(),
        "error": 1 - accuracies(model, test_x, test_y).numpy(),
    }


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """BatchNorm's share in the mean falls, its share in the variance does not, and the error stays where it was."""

    def change(name: str) -> tuple[float, ...]:
        return tuple(float(run[name][GROUPS.index(2)] - run[name][GROUPS.index(32)]) for run in runs)

    halvings = tuple(float(np.max(np.diff(run["mean_share"][:4]))) for run in runs)
    return [
        Claim("BatchNorm's share in the mean, groups of 2 minus groups of 32", change("mean_share"), high=-0.1),
        Claim("Its change when the group is halved, from 32 down to 4: the least fall", halvings, high=0.0),
        Claim("BatchNorm's share in the variance, groups of 2 minus groups of 32", change("var_share"), low=0.0),
        Claim(
            "Test error, groups of 2 minus groups of 32",
            change("error"),
            high=0.03,
            published="robust to a wide range of batch sizes",
            source="luo2019switchable",
            where="abstract",
        ),
    ]
