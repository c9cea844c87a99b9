"""Does a norm replace gradient clipping?

A causal language model of six layers on the Markov corpus, Xavier's initial weights, 120 steps of gradient descent
(rate 0.05, momentum 0.9), with and without clipping the gradient's norm to 1; without norms, Post-LN and Pre-LN.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from lnorm.data import markov_corpus
from lnorm.experiments.claim import Claim, Measurements
from lnorm.nn import Transformer
from lnorm.nn.residual import Placement
from lnorm.nn.stack import Stack
from lnorm.training import History, Momentum, token_batches, train_language_models

CONTEXT, BATCH, STEPS = 32, 8, 120
LAST = 20  # the final loss is the mean over so many steps
RATE = 0.05
CLIPS = (math.inf, 1.0)
PLACEMENTS: tuple[Placement, ...] = ("none", "post", "pre")


def train(seed: int, placement: Placement, steps: int) -> History:
    """Train two copies with the same weights and batches, the second one clipped."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.from_numpy(markov_corpus(100_000).tokens)
    state = generator.get_state()
    models = []
    for _ in CLIPS:
        generator.set_state(state)
        models.append(Transformer(48, 32, 6, 2, CONTEXT, norm=nn.LayerNorm, placement=placement, generator=generator))
    drawn = token_batches(tokens, CONTEXT, BATCH, steps, generator)
    return train_language_models(Stack(models), drawn, lambda step: RATE, Momentum(), torch.tensor(CLIPS))


def run(seed: int, steps: int = STEPS) -> Measurements:
    """Train six networks. About 7 s on one core."""
    corpus = markov_corpus(1)
    m: Measurements = {"unigram": corpus.unigram_entropy, "conditional": corpus.conditional_entropy}
    for placement in PLACEMENTS:
        history = train(seed, placement, steps)
        m[f"curve_{placement}"] = history.losses.T
        m[f"norm_{placement}"] = history.gradient_norms.T
        m[f"loss_{placement}"], m[f"loss_{placement}_clip"] = map(float, history.losses[-LAST:].mean(axis=0))
        finite = np.isfinite(history.losses[:, 0])
        m[f"finite_steps_{placement}"] = int(steps if finite.all() else np.argmin(finite))
        peaks = history.gradient_norms.max(axis=0) / np.median(history.gradient_norms, axis=0)
        m[f"peak_{placement}"], m[f"peak_{placement}_clip"] = map(float, peaks)
        m[f"clipped_{placement}"] = float(np.mean(history.gradient_norms[:, 1] > CLIPS[1]))
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """Without a norm, clipping decides between a bad loss and none; with Pre-LN it decides nothing."""

    def of(name: str) -> tuple[float, ...]:
        return tuple(float(run[name]) for run in runs)

    def difference(first: str, second: str) -> tuple[float, ...]:
        return tuple(a - b for a, b in zip(of(first), of(second), strict=True))

    return [
        Claim("No norm, no clipping: steps until the loss is no longer a number", of("finite_steps_none"), high=6),
        Claim(
            "No norm, clipped: final loss minus the unigram entropy, power of ten",
            tuple(math.log10(excess) for excess in difference("loss_none_clip", "unigram")),
            low=0.3,
        ),
        Claim("No norm, clipped: share of steps that are clipped", of("clipped_none"), low=0.95),
        Claim(
            "Pre-LN, not clipped: final loss minus the unigram entropy", difference("loss_pre", "unigram"), high=-0.4
        ),
        Claim(
            "Pre-LN: final loss with clipping minus without",
            difference("loss_pre_clip", "loss_pre"),
            low=-0.1,
            high=0.1,
        ),
        Claim("Pre-LN, not clipped: largest gradient over the median one", of("peak_pre"), high=5),
        Claim("Post-LN, not clipped: largest gradient over the median one", of("peak_post"), high=15),
        Claim(
            "Post-LN: final loss with clipping minus without",
            difference("loss_post_clip", "loss_post"),
            low=-0.6,
            high=0.3,
        ),
        Claim("Pre-LN minus Post-LN, neither clipped", difference("loss_pre", "loss_post"), high=-0.2),
    ]
