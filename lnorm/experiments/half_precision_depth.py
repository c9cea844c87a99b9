"""How deep may a network be before its signals overflow in 16 bits, or its gradients vanish in them?

ReLU layers ``a ← W relu(a)`` of width 256. Sums inside a layer are taken in float32, as matrix units take them; what
leaves a layer is stored in float16 or bfloat16. With LayerNorm the layer is ``a ← LN(W relu(a))``.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lnorm.experiments.claim import Claim, Measurements

WIDTH, BATCH, DEPTH = 256, 64, 60
GAINS = (1.8, 2.0, 2.2, 2.6, 3.0, 4.0)
SCALES = 2.0 ** np.arange(0, 25, 4)
COTANGENT = 0.01
LARGEST = torch.finfo(torch.float16).max
SMALLEST = 2.0**-25  # half of float16's smallest number: at or below it, a number is rounded to zero


def stored(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Round to what ``dtype`` can hold; what it cannot hold becomes infinite or zero."""
    return x.to(dtype).float()


def overflow_layers(
    generator: torch.Generator, gains: Sequence[float], dtype: torch.dtype, norm: bool = False
) -> np.ndarray:
    """The first layer with an infinite entry, for weights of standard deviation gain/√n; ``DEPTH + 1`` if none has."""
    gain = torch.tensor(gains).view(-1, 1, 1)
    a = stored(torch.randn(BATCH, WIDTH, generator=generator), dtype).expand(len(gains), -1, -1)
    first = torch.full((len(gains),), DEPTH + 1)
    for layer in range(1, DEPTH + 1):
        weight = torch.randn(WIDTH, WIDTH, generator=generator) / math.sqrt(WIDTH)
        a = stored(torch.bmm(a.relu(), stored(gain * weight, dtype)), dtype)
        infinite = ~a.isfinite().flatten(1).all(dim=1)
        first = torch.where(infinite & (first > DEPTH), layer, first)
        if norm:
            a = stored(F.layer_norm(a, (WIDTH,)), dtype)
        a = a.nan_to_num(0.0, 0.0, 0.0)  # what has overflowed is counted; the rest of the pass needs no NaN
    return first.numpy()


def expected_overflow(gain: float | np.ndarray) -> float | np.ndarray:
    """The depth at which four standard deviations reach the largest float16 number."""
    return math.log(LARGEST / 4) / np.log(np.asarray(gain) / math.sqrt(2))


def lost_gradients(
    generator: torch.Generator,
    sigma_w2: float,
    dtype: torch.dtype,
    norm: bool = False,
    scales: Sequence[float] = (1.0,),
) -> tuple[np.ndarray, np.ndarray]:
    """Send a random gradient down 60 layers and store it in ``dtype`` after each.

    The forward pass is in float64, so that nothing but the stored gradient has 16 bits. Returns the share of entries
    that are zero although the exact gradient is not, and whether an entry is infinite: ``(len(scales), DEPTH)`` each.
    """
    a = torch.randn(BATCH, WIDTH, generator=generator, dtype=torch.float64)
    tape = []
    for _ in range(DEPTH):
        weight = torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64) * math.sqrt(sigma_w2 / WIDTH)
        z, slope = a.relu() @ weight, (a > 0).double()
        rstd = torch.rsqrt(z.var(dim=1, keepdim=True, unbiased=False) + 1e-5)
        a = (z - z.mean(dim=1, keepdim=True)) * rstd if norm else z
        tape.append((weight, slope, a, rstd))

    cotangent = COTANGENT * torch.randn(BATCH, WIDTH, generator=generator)
    scale = torch.tensor(scales, dtype=torch.float32).view(-1, 1, 1)
    exact, da = cotangent.double(), stored(scale * cotangent, dtype)  # (N, n) and (scales, N, n)
    lost, infinite = [], []
    for weight, slope, x_hat, rstd in reversed(tape):
        if norm:
            exact = layer_norm_backward(exact, x_hat, rstd)
            da = layer_norm_backward(da, x_hat.float(), rstd.float())
        exact = (exact @ weight.T) * slope
        da = stored((da @ weight.T.float()) * slope.float(), dtype)
        alive = exact != 0
        lost.append((da[:, alive] == 0).double().mean(dim=1))
        infinite.append(~da.isfinite().flatten(1).all(dim=1))
    return torch.stack(lost, dim=1).numpy(), torch.stack(infinite, dim=1).numpy()


def layer_norm_backward(dy: Tensor, x_hat: Tensor, rstd: Tensor) -> Tensor:
    """The gradient through LayerNorm without gain and bias (chapter 3)."""
    return rstd * (dy - dy.mean(-1, keepdim=True) - x_hat * (dy * x_hat).mean(-1, keepdim=True))


def expected_loss(layers: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """The share of normal numbers of standard deviation 0.01 · scale · 2^(-layers/2) that float16 rounds to zero."""
    ratio = SMALLEST * 2 ** (np.asarray(layers, float) / 2) / (COTANGENT * scale)
    return np.array([math.erf(r / math.sqrt(2)) for r in np.atleast_1d(ratio)])


def run(seed: int) -> Measurements:
    """Measure thirteen forward passes and eleven backward passes of 60 layers. About 1 s."""

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    half, brain = torch.float16, torch.bfloat16
    m: Measurements = {
        "gains": np.array(GAINS),
        "layers": np.arange(1, DEPTH + 1),
        "scales": SCALES,
        "overflow": overflow_layers(seeded(), GAINS, half),
        "overflow_layer_norm": overflow_layers(seeded(), GAINS, half, norm=True),
        "overflow_bfloat16": overflow_layers(seeded(), (2.2,), brain),
    }
    for name, sigma_w2, dtype, norm in (
        ("float16", 1.0, half, False),
        ("bfloat16", 1.0, brain, False),
        ("he", 2.0, half, False),
        ("layer_norm", 1.0, half, True),
    ):
        lost, _ = lost_gradients(seeded(), sigma_w2, dtype, norm)
        m[f"lost_{name}"] = lost[0]
    lost, infinite = lost_gradients(seeded(), 1.0, half, scales=list(SCALES))
    m["lost_by_scale"], m["infinite_by_scale"] = lost[:, -1], infinite.any(axis=1)
    return m


def depth_of_half(lost: np.ndarray) -> float:
    """The number of layers after which half of the entries are lost."""
    return float(np.interp(0.5, lost, np.arange(1, len(lost) + 1)))


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """Overflow where the law says it, vanished gradients where the law says it, and three ways out."""

    def overflow(name: str, gain: float) -> tuple[float, ...]:
        return tuple(float(run[name][GAINS.index(gain)]) for run in runs)

    def after(name: str, layers: int) -> tuple[float, ...]:
        return tuple(float(run[name][layers - 1]) for run in runs)

    def scaled(name: str, scale: float) -> tuple[float, ...]:
        return tuple(float(run[name][list(SCALES).index(scale)]) for run in runs)

    ratio = tuple(float(np.mean(run["overflow"] / expected_overflow(run["gains"]))) for run in runs)
    half = 2 * math.log2(0.67449 * COTANGENT / SMALLEST)  # half of all normal numbers are below 0.674 σ
    derived = "derived in chapter 10"
    return [
        Claim(
            "Gain 2.2, float16: first layer that overflows",
            overflow("overflow", 2.2),
            low=21,
            high=24,
            published=f"{expected_overflow(2.2):.1f} (law)",
            where=derived,
        ),
        Claim(
            "First layer that overflows over the law's, mean over six gains", ratio, 0.95, 1.15, "1 (law)", "", derived
        ),
        Claim(
            "Layers of 60 that do not overflow with LayerNorm, smallest over six gains",
            tuple(float(run["overflow_layer_norm"].min() - 1) for run in runs),
            low=DEPTH,
            high=DEPTH,
        ),
        Claim(
            "Gain 2.2, bfloat16: layers of 60 that do not overflow",
            tuple(float(run["overflow_bfloat16"][0] - 1) for run in runs),
            low=DEPTH,
            high=DEPTH,
        ),
        Claim(
            "σ_w² = 1: layers after which float16 has lost half of the gradient",
            tuple(depth_of_half(run["lost_float16"]) for run in runs),
            low=34,
            high=39,
            published=f"{half:.1f} (law)",
            where=derived,
        ),
        Claim("σ_w² = 1, float16: share of the gradient lost after 20 layers", after("lost_float16", 20), high=0.01),
        Claim("σ_w² = 1, float16: share of the gradient lost after 40 layers", after("lost_float16", 40), low=0.7),
        Claim("σ_w² = 1, float16: share of the gradient lost after 60 layers", after("lost_float16", 60), low=0.999),
        Claim(
            "bfloat16: largest share lost in 60 layers",
            tuple(float(run["lost_bfloat16"].max()) for run in runs),
            high=0.0,
        ),
        Claim("LayerNorm, float16: share lost after 60 layers", after("lost_layer_norm", 60), high=0.001),
        Claim("He's initialization, no norm, float16: share lost after 60 layers", after("lost_he", 60), high=0.001),
        Claim(
            "σ_w² = 1, float16, loss times 2²⁰: share lost after 60 layers",
            scaled("lost_by_scale", 2.0**20),
            high=0.01,
            published=f"{expected_loss(np.array([60]), 2.0**20)[0]:.4f} (law)",
            where=derived,
        ),
        Claim("Loss times 2²⁴: share of runs with an infinite gradient", scaled("infinite_by_scale", 2.0**24), low=1.0),
    ]
