"""What does a language model lose without LayerNorm's mean, its gain and bias, its statistics, or their gradient?

Transformers of four layers and 32 features on the Markov corpus: 200 steps of 16 sequences of 8 tokens, Adam at 0.001,
0.01 and 0.03, Xavier's initial values, no warm-up for Pre-LN and 50 steps of it for Post-LN. Variants share initial
weights and batches. Then: how much of the trained residual stream lies along (1, …, 1), all that centring takes away?
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from lnorm.data import markov_corpus
from lnorm.experiments.claim import Claim, Measurements, over_seeds
from lnorm.nn import DetachedLayerNorm, Placement, RMSNorm, Stack, Transformer
from lnorm.training import Adam, token_batches, train_language_models, warm_up

CONTEXT, FEATURES = 8, 32
RATES = (1e-3, 1e-2, 3e-2)
LAST = 50  # the final loss is the mean over so many steps
VARIANTS: dict[str, tuple[Callable[[int], nn.Module], Placement]] = {
    "layer": (nn.LayerNorm, "pre"),
    "no_affine": (partial(nn.LayerNorm, elementwise_affine=False), "pre"),
    "rms": (RMSNorm, "pre"),
    "detached": (DetachedLayerNorm, "pre"),
    "post": (nn.LayerNorm, "post"),
    "post_detached": (DetachedLayerNorm, "post"),
}


def train(
    seed: int, norm: Callable[[int], nn.Module], placement: Placement, tokens: Tensor, steps: int
) -> tuple[list[Transformer], np.ndarray]:
    """Train one model a learning rate, side by side; return the models and their losses ``(steps, rates)``."""

    def model() -> Transformer:
        generator = torch.Generator().manual_seed(seed)
        return Transformer(48, FEATURES, context=CONTEXT, norm=norm, placement=placement, generator=generator)

    stack = Stack([model() for _ in RATES])
    schedule = warm_up(1.0, 50 if placement == "post" else 0)
    batches = token_batches(tokens, CONTEXT, 16, steps, torch.Generator().manual_seed(seed))
    history = train_language_models(stack, batches, lambda step: schedule(step) * torch.tensor(RATES), Adam())
    stack.write_back()
    return stack.models, history.losses


@torch.no_grad()
def stream(model: Transformer, tokens: Tensor) -> Tensor:
    """Return the residual stream before the first block and after each, ``(blocks + 1, N · T, D)``."""
    x = model.embed(tokens)
    states = [x] + [x := block(x) for block in model.blocks]
    return torch.stack(states).flatten(1, 2)


def energy_of_the_mean(x: Tensor) -> Tensor:
    """Return the share of squared length that lies along (1, …, 1), averaged over rows: ``(…, N, D)`` to ``(…)``.

    The component of x along the unit vector 1/√D is √D · mean(x).
    """
    return (x.shape[-1] * x.mean(-1).square() / x.square().sum(-1)).mean(-1)


def run(seed: int, steps: int = 200) -> Measurements:
    """Train six variants at three learning rates. About 14 s on one core."""
    tokens = torch.from_numpy(markov_corpus(100_000).tokens)
    held_out = tokens[-64 * CONTEXT :].view(64, CONTEXT)
    m: Measurements = {"rates": np.array(RATES)}
    for name, (norm, placement) in VARIANTS.items():
        models, losses = train(seed, norm, placement, tokens[: -64 * CONTEXT], steps)
        m[f"curve_{name}"] = losses[:, 1].reshape(-1, 10).mean(1)  # at 0.01, in tens of steps
        m[f"loss_{name}"] = losses[-LAST:].mean(0)
        if name in ("layer", "rms"):
            m[f"energy_{name}"] = energy_of_the_mean(stream(models[1], held_out)).numpy()
            m[f"energy_{name}_largest"] = float(m[f"energy_{name}"].max())
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """The mean and the affine part hardly matter; what the statistics' gradient is worth depends on the rate."""

    def minus(first: str, second: str, rate: int) -> tuple[float, ...]:
        return tuple(float(run[f"loss_{first}"][rate] - run[f"loss_{second}"][rate]) for run in runs)

    return [
        Claim(
            "RMSNorm minus LayerNorm, rate 0.01: final loss, nats",
            minus("rms", "layer", 1),
            low=-0.03,
            high=0.03,
            published="“comparable performance”",
            source="zhang2019root",
            where="abstract",
        ),
        Claim("RMSNorm minus LayerNorm, rate 0.001: final loss, nats", minus("rms", "layer", 0), low=-0.05, high=0.05),
        Claim(
            "LayerNorm without gain and bias minus LayerNorm, rate 0.01", minus("no_affine", "layer", 1), -0.04, 0.04
        ),
        Claim(
            "Statistics without gradient minus LayerNorm, rate 0.001",
            minus("detached", "layer", 0),
            low=0.0,
            published="derivatives of mean and variance matter more than the forward pass",
            source="xu2019understanding",
            where="abstract",
        ),
        Claim("Statistics without gradient minus LayerNorm, rate 0.01", minus("detached", "layer", 1), low=0.0),
        Claim(
            "Statistics without gradient minus LayerNorm, rate 0.03: the sign turns",
            minus("detached", "layer", 2),
            high=0.0,
        ),
        Claim(
            "LayerNorm: energy of the stream along (1, …, 1), largest of all depths",
            over_seeds(runs, "energy_layer_largest"),
            high=0.06,
        ),
        Claim(
            "RMSNorm: energy of the stream along (1, …, 1); a random vector has 1/32 = 0.031",
            over_seeds(runs, "energy_rms_largest"),
            high=0.06,
        ),
    ]
