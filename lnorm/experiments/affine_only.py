"""How much can a network of random weights learn if only the gains and biases of its norms are trained?

MLPs on digits whose weights, head included, stay as they were drawn (He's initialization); Adam at 1e-2 moves gamma and
beta alone. Beside them, networks of the same weights in which as many numbers, picked at random among all weights, are
trained and gamma = 1, beta = 0 stay.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lnorm.data import digits
from lnorm.experiments.claim import Claim, Measurements
from lnorm.nn.mlp import Norm, StackedMLP
from lnorm.training import accuracies, batches, losses

DEPTHS = (1, 2, 4, 8)  # hidden layers
WIDTH = 128
DEAD = 0.01  # gains smaller than this count as switched off, as in the paper
NORMS: tuple[Norm, ...] = ("layer", "batch")


def random_masks(model: StackedMLP, count: int, generator: torch.Generator) -> list[Tensor]:
    """Pick ``count`` numbers among one copy's weights; return a mask for each weight, 1 where it was picked."""
    sizes = [weight[0].numel() for weight in model.weights]
    flat = torch.zeros(sum(sizes))
    flat[torch.randperm(len(flat), generator=generator)[:count]] = 1.0
    parts = flat.split(sizes)
    return [part.view(weight.shape[1:]) for part, weight in zip(parts, model.weights, strict=True)]


def train(seed: int, layers: int, norm: Norm, steps: int) -> tuple[np.ndarray, StackedMLP]:
    """Train two copies of one random network: gains and biases of the first, as many weights of the second."""
    train_x, train_y, test_x, test_y = map(torch.from_numpy, digits())
    generator = torch.Generator().manual_seed(seed)
    widths = (64,) + (WIDTH,) * layers + (10,)
    model = StackedMLP(widths, [2**0.5, 2**0.5], norm, generator=generator)
    masks = random_masks(model, 2 * WIDTH * layers, generator)
    for bias in model.biases:
        bias.requires_grad_(False)
    for weight, mask in zip(model.weights, masks, strict=True):
        both = torch.stack([torch.zeros_like(mask), mask])
        weight.register_hook(lambda gradient, both=both: gradient * both)
    first = torch.tensor([1.0, 0.0]).view(2, 1, 1)
    for module in model.norms:
        for parameter in module.parameters():
            parameter.register_hook(lambda gradient: gradient * first)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for index in batches(len(train_x), 64, steps, generator):
        optimizer.zero_grad()
        losses(model(train_x[index]), train_y[index]).sum().backward()
        optimizer.step()
    return accuracies(model, test_x, test_y).numpy(), model


def run(seed: int, steps: int = 300) -> Measurements:
    """Train four depths with either norm, and their controls. About 7 s on one core."""
    m: Measurements = {"depths": np.array(DEPTHS), "parameters": np.array([2 * WIDTH * layers for layers in DEPTHS])}
    for norm in NORMS:
        trained = [train(seed, layers, norm, steps) for layers in DEPTHS]
        m[f"affine_{norm}"], m[f"weights_{norm}"] = np.array([accuracy for accuracy, _ in trained]).T
        gains = torch.cat([module.gamma[0].flatten() for module in trained[DEPTHS.index(4)][1].norms])
        m[f"dead_{norm}"] = (gains.abs() < DEAD).float().mean().item()
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """Gains and biases alone learn a lot, more with depth; as many random weights learn as much."""

    def at(name: str, layers: int) -> tuple[float, ...]:
        return tuple(float(run[name][DEPTHS.index(layers)]) for run in runs)

    def difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, ...]:
        return tuple(a - b for a, b in zip(first, second, strict=True))

    return [
        Claim(
            "Gains and biases alone, 4 layers of 128, BatchNorm: test accuracy",
            at("affine_batch", 4),
            low=0.85,
            published="0.82 (ResNet, CIFAR-10)",
            source="frankle2021training",
            where="abstract",
        ),
        Claim("Gains and biases alone, 4 layers of 128, LayerNorm: test accuracy", at("affine_layer", 4), low=0.8),
        Claim(
            "LayerNorm: accuracy with 4 layers minus accuracy with 1",
            difference(at("affine_layer", 4), at("affine_layer", 1)),
            low=0.15,
            published="“sufficiently deep”",
            source="frankle2021training",
            where="abstract",
        ),
        Claim(
            "BatchNorm, 4 layers: accuracy minus accuracy of as many random weights",
            difference(at("affine_batch", 4), at("weights_batch", 4)),
            low=-0.1,
            high=0.1,
            published="“far higher”: not so here",
            source="frankle2021training",
            where="abstract",
        ),
        Claim(
            "LayerNorm, 4 layers: accuracy minus accuracy of as many random weights",
            difference(at("affine_layer", 4), at("weights_layer", 4)),
            low=-0.2,
            high=0.2,
        ),
        Claim(
            "BatchNorm, 4 layers: share of gains below 0.01",
            tuple(run["dead_batch"] for run in runs),
            high=0.1,
            published="“around a third”: not so here",
            source="frankle2021training",
            where="abstract",
        ),
    ]
