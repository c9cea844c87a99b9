"""Which norm, and where, keeps a network's answers when the images change their contrast, brightness or noise?

Digits, three hidden layers of 128, Adam at 1e-3, 400 steps of 64 digits; four networks (no norm, BatchNorm, LayerNorm
in the hidden layers, LayerNorm at the input alone) that never saw a changed image. BatchNorm is asked with its running
statistics and with those of the test images. Then what one outlier does to the other features of a LayerNorm.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lnorm.data import digits
from lnorm.experiments.claim import Claim, Measurements
from lnorm.nn.mlp import Norm, StackedMLP
from lnorm.training import batches, losses

WIDTHS = (64, 128, 128, 128, 10)
KINDS: dict[str, Norm] = {"none": "none", "batch": "batch", "layer": "layer", "input": "none"}
SIZES = (10.0, 100.0, 1000.0)  # of an outlier among 64 features


def contrast(x: Tensor, factor: Tensor | float) -> Tensor:
    """Stretch every image by ``factor`` about its own mean."""
    mean = x.mean(dim=1, keepdim=True)
    return mean + factor * (x - mean)


def light(x: Tensor, factor: float) -> Tensor:
    """Multiply the pixels by ``factor``, where 0 is black: the darkest value that occurs."""
    black = x.min()
    return black + factor * (x - black)


def mixed(x: Tensor, generator: torch.Generator) -> Tensor:
    """Give every image a contrast (between 1/5 and 5 times) and a brightness (standard deviation 2) of its own."""
    factor = 5 ** (2 * torch.rand(len(x), 1, generator=generator) - 1)
    return contrast(x, factor) + 2 * torch.randn(len(x), 1, generator=generator)


def hot_pixel(x: Tensor, value: float = 100.0) -> Tensor:
    """Set the same pixel near the middle to ``value`` in every image, as a broken sensor does."""
    x = x.clone()
    x[:, 27] = value
    return x


# Every shift takes images (N, 64) in units of the training pixels' standard deviation, and a generator.
SHIFTS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "clean": lambda x, _: x,
    "contrast × 0.1": lambda x, _: contrast(x, 0.1),
    "contrast × 5": lambda x, _: contrast(x, 5.0),
    "light × 0.2": lambda x, _: light(x, 0.2),
    "brightness + 2": lambda x, _: x + 2,
    "each its own": mixed,
    "noise": lambda x, generator: x + torch.randn(x.shape, generator=generator),
    "hot pixel": lambda x, _: hot_pixel(x),
}


def prepare(kind: str, x: Tensor) -> Tensor:
    """Return what a network of this kind reads: for "input" the images after LayerNorm, otherwise the images."""
    return F.layer_norm(x, x.shape[1:]) if kind == "input" else x


def train(kind: str, seed: int, steps: int = 400) -> StackedMLP:
    """Train one network on clean digits and leave it in evaluation mode."""
    x, y = map(torch.from_numpy, digits()[:2])
    x = prepare(kind, x)
    generator = torch.Generator().manual_seed(seed)
    model = StackedMLP(WIDTHS, [2**0.5], KINDS[kind], generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for index in batches(len(x), 64, steps, generator):
        optimizer.zero_grad()
        losses(model(x[index]), y[index]).sum().backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def answers(kind: str, model: StackedMLP, x: Tensor) -> Tensor:
    """Return the network's answer to every image, shape ``(N,)``."""
    return model(prepare(kind, x))[0].argmax(dim=1)


def adapted_answers(model: StackedMLP, parts: Iterable[Tensor]) -> Tensor:
    """Answer with the statistics of the images that are asked together, for BatchNorm alone; weights stay as they are.

    Passes in training mode also move the running statistics: they are put back.
    """
    kept = {name: value.clone() for name, value in model.named_buffers()}
    model.train()
    given = [answers("batch", model, part) for part in parts]
    model.eval()
    for name, value in model.named_buffers():
        value.copy_(kept[name])
    return torch.cat(given)


def outlier(
    size: float, generator: torch.Generator, features: int = 64, rows: int = 2000
) -> tuple[float, float, float]:
    """Put one value of ``size`` among standard normals, normalize; return measured and predicted size, and the largest.

    The first two are the standard deviation of the other features after LayerNorm.
    """
    x = torch.randn(rows, features, generator=generator, dtype=torch.float64)
    x[:, 0] = size
    z = F.layer_norm(x, (features,))
    law = (1 + size**2 * (1 - 1 / features) / features) ** -0.5
    return z[:, 1:].std(dim=1).mean().item(), law, z.abs().max().item()


def run(seed: int, steps: int = 400) -> Measurements:
    """Train four networks and ask them under every shift. About 3 s on one core."""
    _, _, x, y = map(torch.from_numpy, digits())
    generator = torch.Generator().manual_seed(1000 + seed)
    shifted = {name: shift(x, generator) for name, shift in SHIFTS.items()}
    m: Measurements = {}

    def share(given: Tensor, labels: Tensor = y) -> float:
        return (given == labels).float().mean().item()

    models = {kind: train(kind, seed, steps) for kind in KINDS}
    for kind, model in models.items():
        given = {name: answers(kind, model, images) for name, images in shifted.items()}
        m[f"accuracy_{kind}"] = np.array([share(each) for each in given.values()])
        m[f"same_{kind}"] = np.array([share(each, given["clean"]) for each in given.values()])
    batch = models["batch"]
    m["accuracy_adapted"] = np.array([share(adapted_answers(batch, [images])) for images in shifted.values()])
    dark = shifted["light × 0.2"]
    for size in (32, 8):
        m[f"adapted_{size}"] = share(adapted_answers(batch, dark.split(size)))
    order = y.argsort()
    m["adapted_one_class"] = share(adapted_answers(batch, [dark[y == c] for c in range(10)]), y[order])

    m["sizes"] = np.array(SIZES)
    m["others"], m["others_law"], m["largest"] = np.array([outlier(size, generator) for size in SIZES]).T
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """LayerNorm in the hidden layers does not help, LayerNorm at the input is exact where it can be, BN can adapt."""
    names = list(SHIFTS)

    def at(name: str, shift: str) -> tuple[float, ...]:
        return tuple(float(run[name][names.index(shift)]) for run in runs)

    def difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, ...]:
        return tuple(a - b for a, b in zip(first, second, strict=True))

    affine = names[1:6]
    same = tuple(min(float(run["same_input"][names.index(shift)]) for shift in affine) for run in runs)
    law = tuple(float(np.abs(run["others"] / run["others_law"] - 1).max()) for run in runs)
    largest = tuple(float(run["largest"][-1]) for run in runs)
    return [
        Claim(
            "Light × 0.2: accuracy with LayerNorm in the hidden layers", at("accuracy_layer", "light × 0.2"), high=0.75
        ),
        Claim(
            "Contrast or brightness changed, LayerNorm at the input: share of answers that stay, the least of five",
            same,
            low=0.99,
            published="1: invariant to shift and scale of a row",
            source="ba2016layer",
            where="table 1",
        ),
        Claim("Contrast × 0.1: accuracy without a norm", at("accuracy_none", "contrast × 0.1"), low=0.7),
        Claim(
            "Contrast × 0.1: accuracy with BatchNorm's running statistics",
            at("accuracy_batch", "contrast × 0.1"),
            high=0.5,
        ),
        Claim(
            "Light × 0.2: accuracy with BatchNorm, statistics of the test images minus running ones",
            difference(at("accuracy_adapted", "light × 0.2"), at("accuracy_batch", "light × 0.2")),
            low=0.2,
            published="error 76.7 → 62.2 (mCE, ImageNet-C)",
            source="schneider2020improving",
            where="abstract",
        ),
        Claim(
            "Each image its own contrast and brightness: accuracy, LayerNorm at the input minus adapted BatchNorm",
            difference(at("accuracy_input", "each its own"), at("accuracy_adapted", "each its own")),
            low=0.1,
        ),
        Claim(
            "Noise: accuracy with LayerNorm in the hidden layers minus accuracy without a norm",
            difference(at("accuracy_layer", "noise"), at("accuracy_none", "noise")),
            high=0.03,
        ),
        Claim("Hot pixel: accuracy with LayerNorm at the input", at("accuracy_input", "hot pixel"), high=0.4),
        Claim(
            "Light × 0.2, images of one class asked together: accuracy with adapted BatchNorm",
            tuple(run["adapted_one_class"] for run in runs),
            high=0.3,
        ),
        Claim(
            "One outlier of 10, 100, 1000: the other features against the formula, largest relative error",
            law,
            high=0.02,
            published="0 (law)",
            where="this chapter",
        ),
        Claim(
            "Largest value after LayerNorm, 64 features, outlier of 1000 (√63 = 7.937)",
            largest,
            low=7.93,
            high=63**0.5,
            published="√(d − 1) (law)",
            where="this chapter",
        ),
    ]
