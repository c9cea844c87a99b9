"""How many steps to 90 % test accuracy does BatchNorm save, and LayerNorm, each at its best learning rate?

Digits, four hidden layers of 64, Xavier's initialization, SGD with momentum 0.9, batches of 64; test accuracy is looked
every 5 steps, at most 1500 steps.
"""

from collections.abc import Sequence

import numpy as np
import torch

from lnorm.data import digits
from lnorm.experiments.claim import Claim, Measurements
from lnorm.nn.mlp import Norm, StackedMLP
from lnorm.training import accuracies, batches, losses

RATES = (0.003, 0.015, 0.03, 0.09, 0.3)
NORMS: tuple[Norm, ...] = ("none", "batch", "layer")


def steps_to_target(
    seed: int, activation: str, norm: Norm, rates: Sequence[float] = RATES, target: float = 0.9, cap: int = 1500
) -> tuple[np.ndarray, np.ndarray]:
    """Train one MLP per learning rate; return steps to ``target`` (infinite if never) and the best accuracy seen."""
    train_x, train_y, test_x, test_y = map(torch.from_numpy, digits())
    generator = torch.Generator().manual_seed(seed)
    model = StackedMLP((64,) * 5 + (10,), [1.0] * len(rates), norm, activation, generator=generator)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    rate = torch.tensor(rates)  # scaling a copy's loss by its rate is SGD at that rate
    reached, best = np.full(len(rates), np.inf), np.zeros(len(rates))
    for step, index in enumerate(batches(len(train_x), 64, cap, generator), start=1):
        optimizer.zero_grad()
        (rate * losses(model(train_x[index]), train_y[index])).sum().backward()
        optimizer.step()
        if step % 5 == 0:
            accuracy = accuracies(model, test_x, test_y).numpy()
            best = np.maximum(best, accuracy)
            reached = np.where(np.isinf(reached) & (accuracy >= target), step, reached)
            if np.isfinite(reached).all():
                break
    return reached, best


def run(seed: int, cap: int = 1500) -> Measurements:
    """Measure 30 networks: 2 activations × 3 norms × 5 learning rates. About 20 s on one core."""
    m: Measurements = {"rates": np.array(RATES)}
    for activation in ("sigmoid", "relu"):
        for norm in NORMS:
            m[f"steps_{activation}_{norm}"], m[f"best_{activation}_{norm}"] = steps_to_target(
                seed, activation, norm, cap=cap
            )
    return m


def fastest(runs: Sequence[Measurements], activation: str, norm: str) -> tuple[float, ...]:
    """Steps to the target of every run, at the one learning rate that is best on average over runs."""
    steps = np.stack([run[f"steps_{activation}_{norm}"] for run in runs])  # (runs, rates)
    return tuple(steps[:, np.argmin(steps.mean(axis=0))])


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """The speed-up at each one's best learning rate, and what the largest rate does without a norm."""

    def ratio(activation: str, norm: str) -> tuple[float, ...]:
        plain, normed = fastest(runs, activation, "none"), fastest(runs, activation, norm)
        return tuple(a / b for a, b in zip(plain, normed, strict=True))

    def survives(norm: str) -> tuple[float, ...]:
        return tuple(float(np.isfinite(run[f"steps_relu_{norm}"][-1])) for run in runs)

    return [
        Claim(
            "Sigmoid network: steps without norm ÷ steps with BatchNorm",
            ratio("sigmoid", "batch"),
            low=8,
            published="14 times fewer steps (ImageNet, ReLU)",
            source="ioffe2015batch",
            where="abstract",
        ),
        Claim(
            "ReLU network: steps without norm ÷ steps with BatchNorm",
            ratio("relu", "batch"),
            low=1.8,
            published="14 times fewer steps (ImageNet)",
            source="ioffe2015batch",
            where="abstract",
        ),
        Claim("Sigmoid network: steps without norm ÷ steps with LayerNorm", ratio("sigmoid", "layer"), low=2.5),
        Claim(
            f"ReLU network without norm at learning rate {RATES[-1]}: share of seeds that learn",
            survives("none"),
            high=0.0,
        ),
        Claim(
            f"ReLU network with BatchNorm at learning rate {RATES[-1]}: share of seeds that learn",
            survives("batch"),
            low=1.0,
        ),
        Claim(
            f"ReLU network with LayerNorm at learning rate {RATES[-1]}: share of seeds that learn",
            survives("layer"),
            low=1.0,
        ),
    ]
