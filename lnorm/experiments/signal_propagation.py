"""By which factor does each layer change the size of signals and gradients, with and without normalization?

A layer computes ``a ← norm(W φ(a))`` with W drawn from N(0, sigma_w²/n). The forward factor is the slope of log mean a²
over depth, the backward factor the slope of log mean (dL/da)² for a random cotangent at the top.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lnorm import reference
from lnorm.experiments.claim import Claim, Measurements, over_seeds

BN_FACTOR = math.pi / (math.pi - 1)


def propagate(
    rng: np.random.Generator,
    sigma_w2: float,
    act: str = "relu",
    norm: str = "none",
    width: int = 512,
    batch: int = 64,
    depth: int = 50,
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean a² and mean (dL/da)² at each of ``depth + 1`` layers, input first."""
    normalize = {
        "none": lambda z: (z, None),
        "layer": lambda z: reference.layer_norm(z, width, eps=0.0),
        "batch": lambda z: reference.batch_norm(z, eps=0.0),
    }[norm]
    a = rng.standard_normal((batch, width), np.float32)
    tape = []
    forward = [np.mean(a**2)]
    for _ in range(depth):
        W = rng.standard_normal((width, width), np.float32) * np.float32(math.sqrt(sigma_w2 / width))
        phi = np.maximum(a, 0) if act == "relu" else np.tanh(a)
        slope = a > 0 if act == "relu" else 1 - phi**2
        a, cache = normalize(phi @ W)
        tape.append((W, slope, cache))
        forward.append(np.mean(a**2))

    da = rng.standard_normal((batch, width), np.float32)
    backward = [np.mean(da**2)]
    for W, slope, cache in reversed(tape):
        if norm == "layer":
            da, _, _ = reference.layer_norm_backward(da, cache)
        elif norm == "batch":
            da, _, _ = reference.batch_norm_backward(da, cache)
        da = (da @ W.T) * slope
        backward.append(np.mean(da**2))
    return np.array(forward, float), np.array(backward[::-1], float)


def typical(rng: np.random.Generator, networks: int, sigma_w2: float, **settings: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the geometric mean of :func:`propagate` over that many random networks."""
    logs = [np.log(propagate(rng, sigma_w2, **settings)) for _ in range(networks)]
    forward, backward = np.exp(np.mean(logs, axis=0))
    return forward, backward


def factor_per_layer(squares: np.ndarray) -> float:
    """Fit a straight line to log ``squares`` over depth, without the first and last five layers; return exp(slope)."""
    middle = np.log(squares[5:-5])
    return float(np.exp(np.polyfit(np.arange(len(middle)), middle, 1)[0]))


def run(seed: int, depth: int = 50, networks: int = 6, bn_batches: Sequence[int] = (16, 64, 256)) -> Measurements:
    """Measure plain and LayerNorm ReLU networks (means of ``networks`` draws), BatchNorm ones and plain tanh ones."""
    rng = np.random.default_rng(seed)
    m: Measurements = {}
    for sigma_w2 in (1.0, 2.0, 4.0):
        forward, backward = typical(rng, networks, sigma_w2, depth=depth)
        m[f"forward_{sigma_w2:g}"], m[f"backward_{sigma_w2:g}"] = forward, backward
        m[f"forward_factor_{sigma_w2:g}"] = factor_per_layer(forward)
        m[f"backward_factor_{sigma_w2:g}"] = factor_per_layer(backward[::-1])
    for sigma_w2 in (1.0, 4.0):
        _, m[f"ln_backward_{sigma_w2:g}"] = typical(rng, networks, sigma_w2, norm="layer", depth=depth)
        m[f"ln_factor_{sigma_w2:g}"] = factor_per_layer(m[f"ln_backward_{sigma_w2:g}"][::-1])
    _, m["bn_backward"] = propagate(rng, 2.0, norm="batch", width=1024, batch=256, depth=30)
    m["bn_factor"] = factor_per_layer(m["bn_backward"][::-1])
    m["bn_batches"] = np.array(bn_batches)
    m["bn_factor_by_batch"] = np.array(
        [factor_per_layer(propagate(rng, 2.0, norm="batch", batch=b, depth=30)[1][::-1]) for b in bn_batches]
    )
    for sigma_w in (0.8, 1.0, 1.3, 2.0):
        forward, backward = propagate(rng, sigma_w**2, act="tanh", depth=depth)
        m[f"tanh_forward_{sigma_w:g}"] = forward
        m[f"tanh_gradient_ratio_{sigma_w:g}"] = backward[0] / backward[-1]
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """He's factor sigma_w²/2 forwards and backwards, LayerNorm's 1, and BatchNorm's pi/(pi - 1)."""
    out = []
    for sigma_w2, meaning in ((1.0, "Xavier"), (2.0, "He"), (4.0, "twice He's")):
        expected = sigma_w2 / 2
        for direction in ("forward", "backward"):
            out.append(
                Claim(
                    f"{direction.capitalize()} factor per ReLU layer at σ_w² = {sigma_w2:g} ({meaning})",
                    over_seeds(runs, f"{direction}_factor_{sigma_w2:g}"),
                    low=0.94 * expected,
                    high=1.06 * expected,
                    published=f"{expected:g} (law)",
                    source="he2015delving",
                    where="section 2.2",
                )
            )
    for sigma_w2 in (1.0, 4.0):
        out.append(
            Claim(
                f"Backward factor per layer with LayerNorm at σ_w² = {sigma_w2:g}",
                over_seeds(runs, f"ln_factor_{sigma_w2:g}"),
                low=0.97,
                high=1.03,
                published="1 (law)",
                where="derived in chapter 1",
            )
        )
    out.append(
        Claim(
            "Backward factor per layer with BatchNorm: gradients explode at initialization",
            over_seeds(runs, "bn_factor"),
            low=1.44,
            high=1.50,
            published=f"π/(π−1) = {BN_FACTOR:.3f} (law)",
            source="yang2019mean",
        )
    )
    return out
