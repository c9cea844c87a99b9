"""What is a learning rate worth if the size of the weights does not matter to the loss?

A network in float64 whose matrices are each followed by LayerNorm, the last included, without gains, biases or eps:
every matrix is scale-invariant. Multiply the weights by c and SGD's learning rate by c², and training does not change
(van Laarhoven 2017). Then three consequences: weight decay sets the size of the steps, the initialization's gain is a
learning rate in disguise (chapter 1), and weights that grow are a brake.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lnorm.data import digits
from lnorm.experiments.claim import Claim, Measurements, over_seeds
from lnorm.nn.mlp import Norm, StackedMLP
from lnorm.training import accuracies, batches, losses

SCALES = (0.25, 1.0, 4.0)
DECAY = 0.02
GAINS = (0.25, 0.5, 1.0, 2.0, 4.0)
RATES = (0.05, 0.2, 1.0, 5.0, 20.0)


def initial_weights(seed: int) -> list[Tensor]:
    """Return three matrices, 64 × 64, 64 × 64 and 64 × 10, with He's initialization."""
    generator = torch.Generator().manual_seed(seed)
    draw = (torch.randn(m, n, generator=generator, dtype=torch.float64) for m, n in pairwise((64, 64, 64, 10)))
    return [math.sqrt(2 / len(w)) * w for w in draw]


def scale_invariant_loss(weights: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of an MLP whose every linear map is followed by LayerNorm; x ``(N, 64)``, labels y ``(N,)``."""
    h = x
    for weight in weights:
        z = F.layer_norm(h @ weight, weight.shape[1:], eps=1e-30)
        h = torch.relu(z)
    return F.cross_entropy(z, y)


class Trajectory(NamedTuple):
    """What happened in each step of a training; ``steps`` rows, and a column for each matrix where there are three."""

    loss: np.ndarray  # (steps,) before the step
    norm: np.ndarray  # (steps, 3) of the matrix after the step
    relative_step: np.ndarray  # (steps, 3) norm of the change ÷ norm of the matrix
    cosine: np.ndarray  # (steps, 3) of the angle between gradient and matrix
    pythagoras: np.ndarray  # (steps, 3) ‖new‖² ÷ (‖old‖² + rate² ‖gradient‖²) - 1


def trajectory(
    seed: int,
    scale: float = 1.0,
    rate: float = 0.5,
    decay: float = 0.0,
    optimizer: Literal["sgd", "adam"] = "sgd",
    steps: int = 60,
) -> Trajectory:
    """Train from ``scale`` times the initial weights; the batches depend on the seed alone."""
    train_x, train_y, _, _ = map(torch.from_numpy, digits())
    train_x = train_x.double()
    weights = [(scale * w).requires_grad_() for w in initial_weights(seed)]
    step: torch.optim.Optimizer = (
        torch.optim.SGD(weights, lr=rate, weight_decay=decay)
        if optimizer == "sgd"
        else torch.optim.Adam(weights, lr=rate, eps=1e-30)  # Adam's usual eps = 1e-8 is compared with the gradient
    )
    rows = []
    for index in batches(len(train_x), 64, steps, torch.Generator().manual_seed(seed)):
        step.zero_grad()
        loss = scale_invariant_loss(weights, train_x[index], train_y[index])
        loss.backward()
        old = [w.detach().clone() for w in weights]
        step.step()
        columns = [loss.item()]
        for before, now in zip(old, weights, strict=True):
            after, gradient = now.detach(), torch.as_tensor(now.grad)
            size, norm, slope = (float(torch.linalg.vector_norm(v)) for v in (before, after, gradient))
            columns += [
                norm,
                float(torch.linalg.vector_norm(after - before)) / size,
                float((gradient * before).sum()) / (slope * size),
                norm**2 / (size**2 + (rate * slope) ** 2) - 1,
            ]
        rows.append(columns)
    table = np.array(rows)
    return Trajectory(table[:, 0], *(table[:, 1 + i :: 4] for i in range(4)))


def loss_range(seed: int, scale: float, walk: Sequence[float] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)) -> float:
    """Walk down the gradient from ``scale`` times the initial weights; return the largest minus the smallest loss."""
    train_x, train_y, _, _ = map(torch.from_numpy, digits())
    x, y = train_x[:128].double(), train_y[:128]
    weights = [(scale * w).requires_grad_() for w in initial_weights(seed)]
    gradient = torch.autograd.grad(scale_invariant_loss(weights, x, y), weights)
    with torch.no_grad():
        seen = [
            scale_invariant_loss([w - step * g for w, g in zip(weights, gradient, strict=True)], x, y).item()
            for step in (0.0, *walk)
        ]
    return max(seen) - min(seen)


def gain_sweep(seed: int, norm: Norm, steps: int = 150) -> np.ndarray:
    """Train chapter 1's 20-layer networks in three ways; return test accuracies, shape ``(3, gains)``.

    Row 0: as in chapter 1, Adam at 1e-3. Row 1: all that stands before a norm is trained at gain × 1e-3. Row 2: as
    row 1, and the gain is kept away from the head, which no norm follows.
    """
    train_x, train_y, test_x, test_y = map(torch.from_numpy, digits())
    generator = torch.Generator().manual_seed(seed)
    model = StackedMLP((64,) * 20 + (10,), [math.sqrt(2) * gain for gain in 3 * GAINS], norm, generator=generator)
    gain = torch.tensor(GAINS)
    with torch.no_grad():
        model.weights[-1][-len(GAINS) :] /= gain.view(-1, 1, 1)
    before_a_norm = [*model.weights[:-1], *model.biases[:-1]]
    factor = torch.cat([torch.ones(len(GAINS)), gain, gain]).view(-1, 1, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for index in batches(len(train_x), 64, steps, generator):
        optimizer.zero_grad()
        losses(model(train_x[index]), train_y[index]).sum().backward()
        old = [p.detach().clone() for p in before_a_norm]
        optimizer.step()
        with torch.no_grad():  # Adam's state holds gradients only, so stretching its step changes the rate
            for p, before in zip(before_a_norm, old, strict=True):
                p.copy_(before + factor * (p - before))
    return accuracies(model, test_x, test_y).numpy().reshape(3, -1)


class Sweep(NamedTuple):
    """What became of networks trained at several rates; one number per rate."""

    accuracy: np.ndarray  # on the test set
    growth: np.ndarray  # norm of a unit's weights ÷ initial norm, averaged over hidden units
    variation: np.ndarray  # share of the last hidden layer's mean square that differs from test image to test image


def rate_sweep(seed: int, norm: Norm, pinned: bool = False, steps: int = 200) -> Sweep:
    """Train networks of eight hidden layers, one per rate; ``pinned`` weights cannot grow.

    The rates apply to what stands before a norm; gains, biases and the head are trained at 0.05. SGD with momentum 0.9,
    batches of 128. Pinned is: after every step, the weights of each unit are set back to the norm that they started
    with, which changes no output of BatchNorm.
    """
    train_x, train_y, test_x, test_y = map(torch.from_numpy, digits())
    generator = torch.Generator().manual_seed(seed)
    model = StackedMLP((64,) * 9 + (10,), [1.0] * len(RATES), norm, generator=generator)
    hidden = model.weights[:-1]
    before_a_norm = [*hidden, *model.biases[:-1]]
    initial = [w.detach().norm(dim=1, keepdim=True) for w in hidden]  # (copies, 1, units)
    factor = torch.tensor(RATES).view(-1, 1, 1) / 0.05
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for index in batches(len(train_x), 128, steps, generator):
        optimizer.zero_grad()
        losses(model(train_x[index]), train_y[index]).sum().backward()
        for p in before_a_norm:
            torch.as_tensor(p.grad).mul_(factor)  # scaling SGD's gradient by a number scales its rate
        optimizer.step()
        if pinned:
            with torch.no_grad():
                for w, norm_then in zip(hidden, initial, strict=True):
                    w *= norm_then / w.norm(dim=1, keepdim=True)
    signal = []  # last hidden layer, (rates, examples, features)
    model.norms[-1].register_forward_hook(lambda _module, _args, z: signal.append(torch.relu(z)))
    accuracy = accuracies(model, test_x, test_y)
    with torch.no_grad():
        growth = [(w.norm(dim=1, keepdim=True) / then).mean((1, 2)) for w, then in zip(hidden, initial, strict=True)]
        centred = signal[0] - signal[0].mean(dim=1, keepdim=True)
        variation = centred.square().mean((1, 2)) / signal[0].square().mean((1, 2))
    return Sweep(accuracy.numpy(), torch.stack(growth).mean(0).numpy(), variation.numpy())


def run(seed: int) -> Measurements:
    """Measure twins, weight decay, the gain sweep and the brake. About 12 s on one core."""
    m: Measurements = {}
    start = trajectory(seed)
    m["loss"] = start.loss
    m["loss_same_rate"] = trajectory(seed, scale=10, rate=0.5).loss
    m["loss_twin"] = trajectory(seed, scale=10, rate=50).loss
    m["twin_sgd"] = float(np.abs(m["loss_twin"] - m["loss"]).max())
    m["same_rate_gap"] = float(np.mean((m["loss_same_rate"] - m["loss"])[-5:]))
    adam = [trajectory(seed, scale=c, rate=0.01 * c, optimizer="adam").loss for c in (1, 10)]
    decayed = [trajectory(seed, scale=c, rate=0.5 * c**2, decay=DECAY / c**2).loss for c in (1, 10)]
    m["twin_adam"], m["twin_decay"] = (float(np.abs(a - b).max()) for a, b in (adam, decayed))
    m["cosine"], m["pythagoras"] = float(np.abs(start.cosine).max()), float(np.abs(start.pythagoras).max())
    m["growing"] = float(np.mean(np.diff(start.norm, axis=0) > 0))

    for scale in SCALES:
        for decay in (0.0, DECAY):
            step = trajectory(seed, scale, decay=decay, steps=600).relative_step
            m[f"relative_step_{scale:g}_{decay:g}"] = np.sqrt(np.mean(step**2, axis=1))
        settled = np.sqrt(np.mean(m[f"relative_step_{scale:g}_{DECAY:g}"][-200:] ** 2))
        m[f"settled_{scale:g}"] = float(settled / math.sqrt(2 * 0.5 * DECAY))
    m["range_ratio"] = loss_range(seed, 1.0) / loss_range(seed, 10.0)

    for norm in ("layer", "batch"):
        m[f"gains_{norm}"] = gain_sweep(seed, norm)
        m[f"rates_{norm}"], m[f"growth_{norm}"], m[f"variation_{norm}"] = rate_sweep(seed, norm)
    m["rates_pinned"] = rate_sweep(seed, "batch", pinned=True).accuracy
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """The law, exactly, and what follows from it."""

    def gains(norm: str, way: int, gain: float) -> np.ndarray:
        return np.array([run[f"gains_{norm}"][way, GAINS.index(gain)] for run in runs])

    def rates(weights: str, rate: float, quantity: str = "rates") -> np.ndarray:
        return np.array([run[f"{quantity}_{weights}"][RATES.index(rate)] for run in runs])

    def law(sentence: str, name: str, high: float) -> Claim:
        return Claim(sentence, over_seeds(runs, name), high=high, published="0 (law)", where="derived in chapter 4")

    return [
        Claim(
            "SGD, weights × 10 and rate × 100: largest difference of the loss in 60 steps",
            over_seeds(runs, "twin_sgd"),
            high=1e-12,
            published="0 (law)",
            source="vanlaarhoven2017l2",
        ),
        law("Adam, weights × 10 and rate × 10: largest difference of the loss", "twin_adam", 1e-12),
        law("SGD, weights × 10, rate × 100, weight decay ÷ 100: largest difference", "twin_decay", 1e-12),
        Claim(
            "SGD, weights × 10 and the same rate: loss after 60 steps minus the twins'",
            over_seeds(runs, "same_rate_gap"),
            low=0.5,
        ),
        law("Largest cosine between a gradient and its matrix", "cosine", 1e-14),
        law("Pythagoras: largest relative error of ‖W‖² + η²‖g‖² as the next ‖W‖²", "pythagoras", 1e-13),
        Claim(
            "Share of steps in which a matrix grew, without weight decay",
            over_seeds(runs, "growing"),
            low=1,
            high=1,
            published="1 (law)",
            where="derived in chapter 4",
        ),
        *(
            Claim(
                f"Weight decay, weights × {scale:g}: settled relative step ÷ √(2ηλ)",
                over_seeds(runs, f"settled_{scale:g}"),
                low=0.9,
                high=1.1,
                published="1",
                source="wan2021spherical",
            )
            for scale in SCALES
        ),
        Claim(
            "Loss range along the gradient: at the weights ÷ at ten times the weights",
            over_seeds(runs, "range_ratio"),
            low=10,
        ),
        Claim(
            "20 layers, LayerNorm, gain ¼: accuracy with rates that follow the gain minus accuracy without",
            tuple(gains("layer", 1, 0.25) - gains("layer", 0, 0.25)),
            low=0.15,
        ),
        Claim(
            "20 layers, BatchNorm: accuracy at gain ¼ minus accuracy at gain 4",
            tuple(gains("batch", 0, 0.25) - gains("batch", 0, 4.0)),
            low=0.4,
        ),
        Claim(
            "20 layers, BatchNorm: gain ¼ minus gain 4, rates follow the gain, head left alone",
            tuple(gains("batch", 2, 0.25) - gains("batch", 2, 4.0)),
            low=-0.25,
            high=0.25,
            published="0 (law)",
            where="derived in chapter 4",
        ),
        Claim("BatchNorm at rate 20, weights free to grow: accuracy", tuple(rates("batch", 20.0)), low=0.85),
        Claim(
            "BatchNorm at rate 20: accuracy with free weights minus accuracy with pinned weights",
            tuple(rates("batch", 20.0) - rates("pinned", 20.0)),
            low=0.1,
        ),
        Claim("BatchNorm at rate 0.2, weights pinned: accuracy", tuple(rates("pinned", 0.2)), low=0.85),
        Claim(
            "BatchNorm at rate 5: share of the last layer's signal that differs between images",
            tuple(rates("batch", 5.0, "variation")),
            low=0.5,
        ),
        Claim(
            "LayerNorm at rate 5: share of the last layer's signal that differs between images",
            tuple(rates("layer", 5.0, "variation")),
            high=0.1,
        ),
    ]
