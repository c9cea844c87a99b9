"""How well do BatchNorm's running statistics stand in for a batch's own, and what does forgetting to use them cost?

Digits, four hidden layers of 64, ReLU, Xavier's initialization, SGD at 0.03 with momentum 0.9, 300 batches of 64. Three
ways to average: PyTorch's default momentum, Keras' default, and the plain average of all batches so far. None of them
changes the training itself.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lnorm.data import digits
from lnorm.experiments.claim import Claim, Measurements
from lnorm.training import batches

MOMENTA = {"0.1": 0.1, "0.01": 0.01, "plain": None}  # None is PyTorch's name for the plain average
STEPS = (1, 2, 5, 10, 20, 50, 100)
ROWS = (2, 8, 64)
IMAGES = 448  # of the 450 test images: all of ROWS divide it


def network(momentum: float | None, generator: torch.Generator) -> nn.Sequential:
    """Return the untrained network. Its linear layers have no biases: a BatchNorm would subtract them."""
    layers: list[nn.Module] = []
    for _ in range(4):
        layers += [nn.Linear(64, 64, bias=False), nn.BatchNorm1d(64, momentum=momentum), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(64, 10, bias=False))
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight, generator=generator)
    return model


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor, rows: int | None = None) -> float:
    """Return the share of right answers in evaluation mode or, with ``rows``, in training mode in batches of ``rows``.

    Works on a copy, because a forward pass in training mode moves the running statistics.
    """
    model = copy.deepcopy(model).train(rows is not None)
    answers = torch.cat([model(batch).argmax(dim=1) for batch in x.split(rows or len(x))])
    return (answers == y).float().mean().item()


def train(seed: int, momentum: float | None, steps: int) -> tuple[nn.Module, np.ndarray, np.ndarray]:
    """Return the trained network, and its test accuracy after each of STEPS with running and with batch statistics."""
    train_x, train_y, test_x, test_y = map(torch.from_numpy, digits())
    generator = torch.Generator().manual_seed(seed)
    model = network(momentum, generator)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    running, batch = [], []
    for step, index in enumerate(batches(len(train_x), 64, steps, generator), start=1):
        optimizer.zero_grad()
        F.cross_entropy(model(train_x[index]), train_y[index]).backward()
        optimizer.step()
        if step in STEPS:
            running.append(accuracy(model, test_x[:IMAGES], test_y[:IMAGES]))
            batch.append(accuracy(model, test_x[:IMAGES], test_y[:IMAGES], rows=64))
    return model, np.array(running), np.array(batch)


def run(seed: int, steps: int = 300) -> Measurements:
    """Train one network with three running averages, and use the first as it should not be used. About 2 s."""
    m: Measurements = {"steps": np.array(STEPS), "rows": np.array(ROWS)}
    models = {}
    for name, momentum in MOMENTA.items():
        models[name], m[f"running_{name}"], m[f"batch_{name}"] = train(seed, momentum, steps)

    x, y = (torch.from_numpy(array[:IMAGES]) for array in digits()[2:])
    by_class = y.argsort(stable=True)
    trained = models["0.1"]
    m["trained"] = accuracy(trained, x, y)
    m["forgotten"] = np.array([accuracy(trained, x, y, rows) for rows in ROWS])
    m["forgotten_by_class"] = accuracy(trained, x[by_class], y[by_class], rows=64)
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """The gap after a few steps, where it comes from, and the price of forgetting evaluation mode."""

    def gap(name: str, step: int) -> tuple[float, ...]:
        i = STEPS.index(step)
        return tuple(float(run[f"batch_{name}"][i] - run[f"running_{name}"][i]) for run in runs)

    def lost(rows: int) -> tuple[float, ...]:
        return tuple(float(run["trained"] - run["forgotten"][ROWS.index(rows)]) for run in runs)

    by_class = tuple(run["trained"] - run["forgotten_by_class"] for run in runs)
    return [
        Claim(
            "After 5 steps, momentum 0.1: accuracy with batch minus with running statistics", gap("0.1", 5), low=0.03
        ),
        Claim(
            "After 5 steps, momentum 0.01: accuracy with batch minus with running statistics", gap("0.01", 5), low=0.1
        ),
        Claim(
            "After 5 steps, plain average: accuracy with batch minus with running statistics",
            gap("plain", 5),
            low=-0.08,
            high=0.08,
        ),
        Claim(
            "After 100 steps, momentum 0.1: accuracy with batch minus with running statistics",
            gap("0.1", 100),
            low=-0.04,
            high=0.04,
        ),
        Claim("Evaluation mode forgotten, batches of 2: accuracy lost", lost(2), low=0.4),
        Claim("Evaluation mode forgotten, batches of 8: accuracy lost", lost(8), low=0.08),
        Claim("Evaluation mode forgotten, batches of 64: accuracy lost", lost(64), low=-0.03, high=0.03),
        Claim("Evaluation mode forgotten, batches of 64 sorted by class: accuracy lost", by_class, low=0.4),
    ]
