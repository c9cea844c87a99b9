"""Which initializations and norms let deep ReLU networks without residual connections learn digits at all?

MLPs of 20 layers (a sweep over the gain on He's initialization) and of 30 layers (Xavier's and He's), width 64,
Adam at 1e-3, 150 steps of 64 digits; accuracy on the test set, norms in evaluation mode.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from lnorm.data import digits
from lnorm.experiments.claim import Claim, Measurements
from lnorm.nn.mlp import Norm, StackedMLP
from lnorm.training import accuracies, batches, losses

GAINS = (0.25, 0.5, 1.0, math.sqrt(2), 2.0, 4.0)
NORMS: tuple[Norm, ...] = ("none", "layer", "batch")


def test_accuracy(seed: int, depth: int, norm: Norm, gains: Sequence[float], steps: int = 150) -> np.ndarray:
    """Train one MLP per gain (in units of He's initialization); return their test accuracies."""
    data = digits()
    train_x, train_y, test_x, test_y = map(torch.from_numpy, data)
    generator = torch.Generator().manual_seed(seed)
    widths = (64,) * depth + (10,)
    model = StackedMLP(widths, [math.sqrt(2) * gain for gain in gains], norm, generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for index in batches(len(train_x), 64, steps, generator):
        optimizer.zero_grad()
        losses(model(train_x[index]), train_y[index]).sum().backward()
        optimizer.step()
    return accuracies(model, test_x, test_y).numpy()


def run(seed: int, steps: int = 150) -> Measurements:
    """Measure 18 networks of 20 layers and 6 of 30. About 10 s on one core."""
    m: Measurements = {"gains": np.array(GAINS)}
    for norm in NORMS:
        m[f"accuracy_20_{norm}"] = test_accuracy(seed, 20, norm, GAINS, steps)
        xavier, he = test_accuracy(seed, 30, norm, (1 / math.sqrt(2), 1.0), steps)
        m[f"accuracy_30_{norm}_xavier"], m[f"accuracy_30_{norm}_he"] = float(xavier), float(he)
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """Initialization decides for plain networks; LayerNorm forgives it; BatchNorm cannot be trained this deep."""

    def at(norm: str, gain: float) -> tuple[float, ...]:
        return tuple(float(run[f"accuracy_20_{norm}"][GAINS.index(gain)]) for run in runs)

    def difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, ...]:
        return tuple(a - b for a, b in zip(first, second, strict=True))

    def deep(norm: str, init: str) -> tuple[float, ...]:
        return tuple(run[f"accuracy_30_{norm}_{init}"] for run in runs)

    yang = "vanilla BN networks “are not trainable at large depths”"
    return [
        Claim(
            "30 layers, no norm: accuracy with He's initialization minus accuracy with Xavier's",
            difference(deep("none", "he"), deep("none", "xavier")),
            low=0.25,
            published="Xavier stalls, He converges",
            source="he2015delving",
            where="figure 3",
        ),
        Claim(
            "20 layers, LayerNorm: worst mean accuracy over gains 0.5 to 2",
            min((at("layer", gain) for gain in GAINS[1:5]), key=np.mean),
            low=0.75,
        ),
        Claim("20 layers, no norm: accuracy at gain √2", at("none", GAINS[3]), high=0.55),
        Claim("20 layers, no norm: accuracy at gain 2", at("none", 2.0), high=0.55),
        Claim(
            "20 layers, He's initialization: accuracy with LayerNorm minus accuracy with BatchNorm",
            difference(at("layer", 1.0), at("batch", 1.0)),
            low=0.25,
            published=yang,
            source="yang2019mean",
            where="abstract",
        ),
        Claim(
            "30 layers, He's initialization, BatchNorm: accuracy",
            deep("batch", "he"),
            high=0.30,
            published=yang,
            source="yang2019mean",
            where="abstract",
        ),
    ]
