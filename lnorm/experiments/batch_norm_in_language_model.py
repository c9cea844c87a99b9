"""How far apart are BatchNorm's two modes in a causal language model, as the number of tokens in a batch shrinks?

A Pre-LN Transformer of three layers, with BatchNorm or LayerNorm in every norm's place, on the Markov corpus: sequences
of 4 tokens (one token of context says all there is to say), Adam at 3e-3, 300 steps. Both modes are evaluated on the
same batches, of the size trained with. The corpus is no natural language, and that is the point.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lnorm.data import markov_corpus
from lnorm.experiments.claim import Claim, Measurements, over_seeds
from lnorm.nn import Transformer

CONTEXT = 4
TOKENS = (4, 8, 32, 128)  # in a batch
TRAINED, HELD_OUT = 80_000, 20_000  # tokens of the corpus


class FusedTokenBatchNorm(nn.BatchNorm1d):
    """:class:`lnorm.nn.TokenBatchNorm` by torch's fused kernel: every token of ``(N, T, D)`` is an example."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, -2)).view(x.shape)


def loss(model: nn.Module, batch: Tensor) -> Tensor:
    """Return the mean cross-entropy, in nats, of the next token."""
    return F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())


@torch.no_grad()
def validate(model: nn.Module, batches: Sequence[Tensor], training: bool) -> float:
    """Return the mean loss in one mode; running statistics are left as they are."""
    model.train(training)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    mean = float(np.mean([loss(model, batch).item() for batch in batches]))
    for norm, value in zip(norms, momentum, strict=True):
        norm.momentum = value
    return mean


def train(seed: int, norm: type[nn.Module], tokens: int, steps: int) -> tuple[float, float, float]:
    """Train one model; return its validation loss in evaluation mode, in training mode, and in training mode at 1024.

    The last one normalizes with the statistics of batches of 1024 tokens, whatever size was trained with; its batches
    hold the same sequences.
    """
    corpus = torch.from_numpy(markov_corpus(TRAINED + HELD_OUT).tokens)
    windows, held_out = (part.unfold(0, CONTEXT + 1, 1) for part in (corpus[:TRAINED], corpus[TRAINED:]))
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(48, features=48, layers=3, context=CONTEXT, norm=norm, generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        chosen = torch.randint(len(windows), (tokens // CONTEXT,), generator=generator)
        optimizer.zero_grad()
        loss(model, windows[chosen]).backward()
        optimizer.step()
    sequences = held_out[:: len(held_out) // 1024][:1024]
    batches, large = sequences.split(tokens // CONTEXT), sequences.split(1024 // CONTEXT)
    return validate(model, batches, False), validate(model, batches, True), validate(model, large, True)


def run(seed: int, steps: int = 300) -> Measurements:
    """Train four sizes of batch with either norm. About 15 s on one core."""
    m: Measurements = {"tokens": np.array(TOKENS)}
    for name, norm in (("batch", FusedTokenBatchNorm), ("layer", nn.LayerNorm)):
        losses = np.array([train(seed, norm, tokens, steps) for tokens in TOKENS])
        m[f"evaluation_{name}"], m[f"training_{name}"], m[f"large_{name}"] = losses.T
        m[f"gap_{name}"] = m[f"evaluation_{name}"] - m[f"training_{name}"]
    m["gap_layer_max"] = float(np.abs(m["gap_layer"]).max())
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """The gap between the modes falls with the tokens in a batch and is gone at 32."""

    def at(name: str, tokens: int) -> tuple[float, ...]:
        return tuple(float(run[name][TOKENS.index(tokens)]) for run in runs)

    def difference(first: str, second: str, tokens: int) -> tuple[float, ...]:
        return tuple(a - b for a, b in zip(at(first, tokens), at(second, tokens), strict=True))

    return [
        Claim(
            "BatchNorm, 4 tokens a batch: loss in evaluation minus in training mode, nats",
            at("gap_batch", 4),
            low=0.15,
            published="this inconsistency is “the leading cause” of failure",
            source="wang2022understanding",
            where="abstract",
        ),
        Claim("BatchNorm, 8 tokens a batch: evaluation minus training mode", at("gap_batch", 8), low=0.0),
        Claim(
            "BatchNorm, 32 tokens a batch: evaluation minus training mode", at("gap_batch", 32), low=-0.05, high=0.05
        ),
        Claim(
            "BatchNorm, 128 tokens a batch: evaluation minus training mode", at("gap_batch", 128), low=-0.05, high=0.05
        ),
        Claim(
            "LayerNorm: largest gap between the modes, all sizes",
            over_seeds(runs, "gap_layer_max"),
            low=0.0,
            high=0.0,
            published="0: same computation in both",
            source="ba2016layer",
            where="abstract",
        ),
        Claim(
            "4 tokens a batch: loss in evaluation mode, BatchNorm minus LayerNorm",
            difference("evaluation_batch", "evaluation_layer", 4),
            low=0.05,
        ),
        Claim(
            "128 tokens a batch: loss in evaluation mode, BatchNorm minus LayerNorm",
            difference("evaluation_batch", "evaluation_layer", 128),
            low=-0.1,
            high=0.1,
        ),
        Claim(
            "Trained with 4: loss with the statistics of 1024 tokens minus that with 4",
            difference("large_batch", "training_batch", 4),
            low=0.15,
        ),
    ]
