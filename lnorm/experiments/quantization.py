"""What do eight bits cost behind a LayerNorm whose gain has outliers, and does folding the gain away repair it?

Rows of 256 features whose mean and size vary, a LayerNorm with four large gains, a random linear layer. What the linear
layer reads is rounded to int8 with one scale for the whole tensor; its weights stay in float32 or are rounded too, with
one scale an output. Then BatchNorm and LayerNorm are folded into a linear layer in front of them, as far as that goes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lnorm.experiments.claim import Claim, Measurements, over_seeds
from lnorm.nn import fold_batch_norm, fold_gain, freeze_norms

FEATURES, ROWS, OUTLIERS = 256, 512, 4
GAINS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)


def int8(x: Tensor, dim: int | None = None) -> Tensor:
    """Round to the 255 values k · step, with k from -127 to 127, and return the rounded values as floats.

    The largest absolute value sets the step: that of the tensor, or with ``dim`` one along that axis.
    """
    largest = x.abs().max() if dim is None else x.abs().amax(dim, keepdim=True)
    step = largest / 127
    return torch.round(x / step) * step


def relative_error(result: Tensor, exact: Tensor) -> float:
    """Root mean square of the error over that of the exact values."""
    return ((result - exact).norm() / exact.norm()).item()


def rows(generator: torch.Generator, n: int = ROWS) -> Tensor:
    """Draw rows that differ in mean and in size, as tokens do."""
    size = torch.exp(0.5 * torch.randn(n, 1, generator=generator))
    mean = torch.randn(n, 1, generator=generator)
    return size * torch.randn(n, FEATURES, generator=generator) + mean


def measure_gain(gain: float, x: Tensor, linear: nn.Linear) -> Measurements:
    """Round behind a LayerNorm with four gains of this size, and again with the gain folded into ``linear``."""
    norm = nn.LayerNorm(FEATURES)
    norm.weight.data[:OUTLIERS] = gain
    bare, folded = fold_gain(norm, linear)
    y, x_hat = norm(x), bare(x)
    exact = linear(y)
    bias = linear.bias
    step = y.abs().max() / 127
    return {
        "int8": relative_error(linear(int8(y)), exact),
        "int8_folded": relative_error(folded(int8(x_hat)), exact),
        "both": relative_error(int8(y) @ int8(linear.weight, 1).T + bias, exact),
        "both_folded": relative_error(int8(x_hat) @ int8(folded.weight, 1).T + folded.bias, exact),
        # Rounding to the nearest of many steps is off by step / √12 (root mean square).
        "law": (step / 12**0.5 / y.square().mean().sqrt()).item(),
        "zeros": (int8(y)[:, OUTLIERS:] == 0).float().mean().item(),
        "folding": relative_error(folded(x_hat), exact),
    }


@torch.no_grad()
def run(seed: int) -> Measurements:
    """Measure six sizes of the gain, and what folding a whole norm does. Well under a second."""
    generator = torch.Generator().manual_seed(seed)
    x = rows(generator)
    linear = nn.Linear(FEATURES, FEATURES)
    linear.weight.copy_(torch.randn(FEATURES, FEATURES, generator=generator) / FEATURES**0.5)
    linear.bias.zero_()
    of_gains = [measure_gain(gain, x, linear) for gain in GAINS]
    m: Measurements = {name: np.array([each[name] for each in of_gains]) for name in of_gains[0]}
    m["gains"] = np.array(GAINS)
    m["folding_max"] = float(m.pop("folding").max())
    m["law_error"] = float(np.abs(m["int8"] / m["law"] - 1)[:5].max())

    batch_norm = nn.BatchNorm1d(FEATURES)
    batch_norm.weight.uniform_(0.5, 2.0, generator=generator)
    batch_norm(linear(x))  # one pass in training mode: running statistics that are not 0 and 1
    batch_norm.eval()
    fresh = rows(generator)
    m["batch_folded"] = relative_error(fold_batch_norm(linear, batch_norm)(fresh), batch_norm(linear(fresh)))

    layer_norm = nn.Sequential(nn.LayerNorm(FEATURES))
    m["layer_frozen"] = relative_error(freeze_norms(layer_norm, x)(fresh), layer_norm(fresh))
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """Outliers cost precision, folding is exact and gives it back to the activations, and the weights may pay."""

    def at(name: str, gain: float) -> tuple[float, ...]:
        return tuple(float(run[name][GAINS.index(gain)]) for run in runs)

    def ratio(first: Sequence[float], second: Sequence[float]) -> tuple[float, ...]:
        return tuple(a / b for a, b in zip(first, second, strict=True))

    return [
        Claim(
            "int8 behind four gains of 20: error over the error with gains of 1",
            ratio(at("int8", 20), at("int8", 1)),
            low=4.0,
            published="γ is an “amplifier for the outliers”",
            source="wei2022outlier",
            where="abstract",
        ),
        Claim(
            "Gain of 20 folded into the next weights: error over the error with gains of 1",
            ratio(at("int8_folded", 20), at("int8", 1)),
            low=0.9,
            high=1.1,
            published="“without any extra burden”",
            source="wei2022outlier",
            where="abstract",
        ),
        Claim("Folding itself, without rounding: relative difference", over_seeds(runs, "folding_max"), high=1e-5),
        Claim(
            "Gains up to 20: error relative to step / √12, largest deviation",
            over_seeds(runs, "law_error"),
            high=0.1,
            published="0 (law)",
            where="uniform rounding error",
        ),
        Claim(
            "Weights in int8 too, gain of 20: error folded over error not folded",
            ratio(at("both_folded", 20), at("both", 20)),
            low=0.2,
            high=0.8,
        ),
        Claim(
            "Weights in int8 too, folded: error with gains of 20 over error with gains of 1",
            ratio(at("both_folded", 20), at("both_folded", 1)),
            low=1.5,
        ),
        Claim(
            "BatchNorm folded into the layer before it: relative difference",
            over_seeds(runs, "batch_folded"),
            high=1e-5,
            published="0: “simply a linear transform” at inference",
            source="ioffe2015batch",
            where="section 3.1",
        ),
        Claim(
            "LayerNorm with frozen statistics, ready to fold: relative error", over_seeds(runs, "layer_frozen"), low=0.2
        ),
    ]
