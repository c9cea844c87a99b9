"""What does a Transformer without any norm reach at its best learning rate, and how much does it forgive?

Four layers, 32 features, on the Markov corpus: 200 steps of 16 sequences of 8 tokens with Adam, no warm-up, no
clipping, at six learning rates. Pre-LN starts from Xavier's values, and so does DyT in the norm's places. Without
either: from Xavier's, too, and from GPT-2's rule, smaller weights where a branch writes to the stream.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import nn

from lnorm.data import markov_corpus
from lnorm.experiments.claim import Claim, Measurements, over_seeds
from lnorm.nn import DynamicTanh, Placement, Stack, Transformer, gpt2_, xavier_
from lnorm.training import Adam, token_batches, train_language_models

CONTEXT, FEATURES = 8, 32
RATES = (2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2)
LAST = 50  # the final loss is the mean over so many steps
# GPT-2's standard deviation is 0.02 at 768 features. What counts is std · √features, which we keep.
scaled_ = partial(gpt2_, std=0.02 * (768 / FEATURES) ** 0.5)
TANH_RATES = (2e-3, 8e-3, 3.2e-2, 6.4e-2)
XAVIER_RATES = (4e-3, 1.6e-2)
WAYS: dict[str, tuple[type[nn.Module], Placement, Callable[..., None], tuple[float, ...]]] = {
    "layer": (nn.LayerNorm, "pre", xavier_, RATES),
    "tanh": (DynamicTanh, "pre", xavier_, TANH_RATES),
    "none": (nn.LayerNorm, "none", scaled_, RATES),
    "none_xavier": (nn.LayerNorm, "none", xavier_, XAVIER_RATES),
}


def final_losses(
    seed: int,
    norm: type[nn.Module],
    placement: Placement,
    init: Callable[..., None],
    rates: Sequence[float],
    steps: int,
) -> np.ndarray:
    """Train one model a learning rate, side by side, and return their final losses."""

    def model() -> Transformer:
        generator = torch.Generator().manual_seed(seed)
        return Transformer(
            48, FEATURES, context=CONTEXT, norm=norm, placement=placement, init=init, generator=generator
        )

    tokens = torch.from_numpy(markov_corpus(100_000).tokens)
    batches = token_batches(tokens, CONTEXT, 16, steps, torch.Generator().manual_seed(seed))
    stack = Stack([model() for _ in rates])
    return train_language_models(stack, batches, lambda step: torch.tensor(rates), Adam()).losses[-LAST:].mean(0)


def run(seed: int, steps: int = 200) -> Measurements:
    """Train 18 models. About 12 s on one core."""
    m: Measurements = {}
    for name, (norm, placement, init, rates) in WAYS.items():
        m[f"rates_{name}"] = np.array(rates)
        m[f"loss_{name}"] = final_losses(seed, norm, placement, init, rates, steps)
    for name in ("layer", "tanh", "none"):
        m[f"best_{name}"] = float(np.nanmin(m[f"loss_{name}"]))
    # At the largest rate: worse than knowing only how frequent the tokens are, or not a number at all.
    m["lost_none"] = float(not m["loss_none"][-1] < markov_corpus(100_000).unigram_entropy)
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """A good start replaces the norm at a good rate; at a large rate, nothing does."""

    def at(name: str, rate: float) -> tuple[float, ...]:
        return tuple(float(run[f"loss_{name}"][WAYS[name][3].index(rate)]) for run in runs)

    def minus(first: str, second: str, rate: float) -> tuple[float, ...]:
        return tuple(a - b for a, b in zip(at(first, rate), at(second, rate), strict=True))

    best, tanh = (tuple(run[f"best_{name}"] - run["best_layer"] for run in runs) for name in ("none", "tanh"))
    return [
        Claim("No norm minus Pre-LN, each at its best rate: final loss, nats", best, low=0.0, high=0.1),
        Claim("Rate 0.016: no norm minus Pre-LN", minus("none", "layer", 1.6e-2), low=0.0),
        Claim(
            "Rate 0.064: Pre-LN's loss, below the unigram entropy",
            at("layer", 6.4e-2),
            high=3.767,
        ),
        Claim(
            "Rate 0.064: share of runs without a norm that end above the unigram entropy, 3.77",
            over_seeds(runs, "lost_none"),
            low=1.0,
        ),
        Claim(
            "Rate 0.004, no norm: Xavier's initial values minus GPT-2's rule",
            minus("none_xavier", "none", 4e-3),
            low=0.0,
        ),
        Claim(
            "DyT minus Pre-LN, each at its best rate",
            tanh,
            low=-0.1,
            high=0.0,
            published="“match or exceed”",
            source="zhu2025transformers",
            where="abstract",
        ),
        Claim("DyT minus Pre-LN, rate 0.002", minus("tanh", "layer", 2e-3), low=-0.06, high=0.06),
        Claim("DyT minus Pre-LN, rate 0.032", minus("tanh", "layer", 3.2e-2), high=0.0),
    ]
