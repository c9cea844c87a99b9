"""How does the residual stream grow with depth, at initialization and after training, and what do late layers still do?

First 32 layers of 64 features at initialization: the variance of the stream over four networks, and what a recursion
without any fitted number predicts, for Pre-LN and with LayerNorm Scaling (Sun et al. 2025). Then 8 layers of 48
features, trained for 100 steps on the Markov corpus with Adam at 2e-3: Pre-LN, the same with LayerNorm Scaling,
Peri-LN, and Post-LN, which gets 150 steps, 100 of them warm-up. On held-out text: variance, the cosine between a
layer's input and output, and how much the loss rises if the layer is skipped. A layer is two residual blocks,
attention and feed-forward.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lnorm.data import markov_corpus
from lnorm.experiments.claim import Claim, Measurements, over_seeds
from lnorm.nn import Transformer
from lnorm.nn.residual import Placement
from lnorm.nn.stack import Stack
from lnorm.training import Adam, token_batches, train_language_models, warm_up

DEEP, LAYERS = 32, 8
NETWORKS = 4  # at initialization, whose variances are averaged
CONTEXT, BATCH = 32, 8
RATE, WARM_UP = 2e-3, 100
TRAINED, HELD_OUT = 80_000, 20_000  # tokens of the corpus
FEED_FORWARD = 8 / 25  # what Xavier's feed-forward layer of width 4d adds to the variance: 4d · 2/5d · ½ · 2/5
LATER = 50  # steps that Post-LN trains longer, for its warm-up


class ScaledNorm(nn.Module):
    """A norm whose output is multiplied by a number that is not trained."""

    def __init__(self, norm: nn.Module, scale: float) -> None:
        super().__init__()
        self.norm = norm
        self.scale = nn.Parameter(torch.tensor(scale))  # a parameter, so that models of different scales can be stacked

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x) * self.scale.detach()


def network(placement: Placement, layers: int, features: int, seed: int, scaling: bool | None = None) -> Transformer:
    """Return a Transformer; ``scaling=True`` multiplies the norms of layer l = 1, 2, … by 1/√l, False by 1."""
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(
        48, features, layers, context=CONTEXT, norm=nn.LayerNorm, placement=placement, generator=generator
    )
    if scaling is not None:
        for i, block in enumerate(model.blocks):
            block.norm_input = ScaledNorm(block.norm_input, (i // 2 + 1) ** -0.5 if scaling else 1.0)
    return model


@torch.no_grad()
def streams(model: Transformer, tokens: Tensor) -> list[Tensor]:
    """Return the residual stream before the first layer and after every layer, ``(N, T, features)`` each."""
    x = model.embed(tokens)
    found = [x]
    for i in range(0, len(model.blocks), 2):
        x = model.blocks[i : i + 2](x)
        found.append(x)
    return found


def variances(stream: Sequence[Tensor]) -> np.ndarray:
    """Return the variance over features, averaged over tokens: one number a layer."""
    return np.array([x.var(dim=-1, unbiased=False).mean().item() for x in stream])


def cosines(stream: Sequence[Tensor]) -> np.ndarray:
    """Return every layer's cosine between input and output, averaged over tokens."""
    return np.array([F.cosine_similarity(x, y, dim=-1).mean().item() for x, y in pairwise(stream)])


@torch.no_grad()
def loss_without(model: Transformer, windows: Tensor, skipped: int | None = None) -> float:
    """Return the mean loss on ``(N, T + 1)`` tokens when layer ``skipped`` (0, 1, …) hands on what it was given."""
    x = model.embed(windows[:, :-1])
    for i in range(0, len(model.blocks), 2):
        if i // 2 != skipped:
            x = model.blocks[i : i + 2](x)
    logits = model.head(model.norm_final(x))
    return F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()).item()


def correlation(covariance: Tensor) -> Tensor:
    """Return the correlations that belong to covariances ``(…, T, T)``."""
    deviation = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    return (covariance / (deviation.unsqueeze(-1) * deviation.unsqueeze(-2))).clamp(-1, 1)


def predicted(tokens: Tensor, layers: int, scaling: bool = False, draws: int = 8, seed: int = 0) -> tuple:
    """Predict the stream's variance layer by layer, and the mean correlation of two tokens that a layer is given.

    The state is the covariance of the tokens ``(N, T, T)``, as it would be in an infinitely wide Pre-LN network with
    Xavier's initialization. It starts from embeddings of variance 1, one for the token and one for the position.
    """
    generator = torch.Generator().manual_seed(seed)
    n, length = tokens.shape
    causal = torch.ones(length, length).tril().bool()
    state = torch.eye(length) + (tokens[:, :, None] == tokens[:, None, :])
    variance, alike = [2.0], []
    for layer in range(1, layers + 1):
        scale = 1 / layer if scaling else 1.0
        rho = correlation(state)
        alike.append(((rho.sum(dim=(1, 2)) - length) / (length * (length - 1))).mean().item())
        # Attention: logits of random queries and keys are normal, with the correlations of their tokens.
        values, vectors = torch.linalg.eigh(rho)
        root = ((vectors * values.clamp(min=0).sqrt()[:, None, :]) @ vectors.mT).unsqueeze(1)
        logits = scale * root @ torch.randn(n, draws, length, length, generator=generator) @ root
        weights = logits.masked_fill(~causal, -math.inf).softmax(dim=-1)
        state = state + scale * (weights @ rho.unsqueeze(1) @ weights.mT).mean(dim=1)
        # Feed-forward: the covariance of two ReLUs of correlated normals (Cho & Saul 2009), 1 where they are equal.
        rho = correlation(state)
        relu = ((1 - rho**2).clamp(min=0).sqrt() + rho * (math.pi - torch.arccos(rho))) / math.pi
        state = state + scale * FEED_FORWARD * relu
        variance.append(state.diagonal(dim1=-2, dim2=-1).mean().item())
    return np.array(variance), np.array(alike)


def slope(variance: np.ndarray, first: int = 8) -> float:
    """Return the exponent p of variance ∝ layer^p, fitted from layer ``first`` on."""
    layers = np.arange(first, len(variance))
    return float(np.polyfit(np.log(layers), np.log(variance[first:]), 1)[0])


def train(
    seed: int, placement: Placement, scalings: Sequence[bool | None], tokens: Tensor, steps: int
) -> list[Transformer]:
    """Train one model for each of ``scalings`` on the same batches."""
    models = [network(placement, LAYERS, 48, seed, scaling) for scaling in scalings]
    stack = Stack(models)
    batches = token_batches(tokens, CONTEXT, BATCH, steps, torch.Generator().manual_seed(seed))
    schedule = warm_up(RATE, WARM_UP if placement == "post" else 0)
    train_language_models(stack, batches, schedule, Adam())
    stack.write_back()
    return models


def run(seed: int, steps: int = 100) -> Measurements:
    """Measure eight networks at initialization and train four. About 13 s on one core."""
    corpus = torch.from_numpy(markov_corpus(TRAINED + HELD_OUT).tokens)
    held_out = corpus[TRAINED:].unfold(0, CONTEXT + 1, CONTEXT)[:128]
    m: Measurements = {"layers": np.arange(DEEP + 1)}

    drawn = torch.randint(len(held_out), (BATCH,), generator=torch.Generator().manual_seed(seed))
    tokens = held_out[drawn, :-1]
    for name, scaling in (("pre", False), ("scaled", True)):
        networks = [network("pre", DEEP, 64, NETWORKS * seed + i, scaling) for i in range(NETWORKS)]
        variance = np.mean([variances(streams(each, tokens)) for each in networks], axis=0)
        theory, alike = predicted(tokens, DEEP, scaling)
        m[f"start_{name}"], m[f"start_{name}_predicted"], m[f"start_{name}_alike"] = variance, theory, alike
        m[f"start_{name}_growth"] = float(variance[-1] / variance[0])
        m[f"start_{name}_error"] = float(np.mean(variance[1:] / theory[1:]) - 1)
        m[f"start_{name}_slope"] = slope(variance)

    placements: tuple[tuple[tuple[str, ...], Placement, tuple[bool | None, ...]], ...] = (
        (("pre", "scaled"), "pre", (False, True)),
        (("post",), "post", (None,)),
        (("peri",), "peri", (None,)),
    )
    for names, placement, scalings in placements:
        longer = LATER if placement == "post" else 0
        models = train(seed, placement, scalings, corpus[:TRAINED], steps + longer)
        for name, model in zip(names, models, strict=True):
            stream = streams(model, held_out[:, :-1])
            whole = loss_without(model, held_out)
            skip = np.array([loss_without(model, held_out, layer) - whole for layer in range(LAYERS)])
            m[f"variance_{name}"], m[f"cosine_{name}"], m[f"skip_{name}"] = variances(stream), cosines(stream), skip
            m[f"growth_{name}"] = float(m[f"variance_{name}"][-1] / m[f"variance_{name}"][0])
            m[f"loss_{name}"] = whole
            m[f"early_{name}"], m[f"late_{name}"] = float(skip[:2].sum()), float(skip[-2:].sum())
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """Pre-LN's stream grows in a line at first and faster with training; its last layers change little."""

    def last_cosine(name: str) -> tuple[float, ...]:
        return tuple(float(run[f"cosine_{name}"][-1]) for run in runs)

    def difference(first: str, second: str) -> tuple[float, ...]:
        return tuple(a - b for a, b in zip(over_seeds(runs, first), over_seeds(runs, second), strict=True))

    def last_variance(name: str) -> tuple[float, ...]:
        return tuple(float(run[f"variance_{name}"][-1]) for run in runs)

    def ratio(first: Sequence[float], second: Sequence[float]) -> tuple[float, ...]:
        return tuple(a / b for a, b in zip(first, second, strict=True))

    return [
        Claim(
            "Initialization, Pre-LN: exponent of the variance, layers 8 to 32",
            over_seeds(runs, "start_pre_slope"),
            low=0.7,
            high=1.3,
            published="1 (law: linear)",
            source="xiong2020layer",
            where="lemma 2",
        ),
        Claim(
            "Initialization, Pre-LN: variance over the predicted one, minus 1, mean over 32 layers",
            over_seeds(runs, "start_pre_error"),
            low=-0.3,
            high=0.3,
            published="0 (law)",
            where="derived in chapter 8",
        ),
        Claim(
            "Initialization, LayerNorm Scaling: variance over the predicted one, minus 1",
            over_seeds(runs, "start_scaled_error"),
            low=-0.3,
            high=0.3,
            published="0 (law)",
            where="derived in chapter 8",
        ),
        Claim(
            "Initialization: variance after 32 layers, LayerNorm Scaling over Pre-LN",
            ratio(over_seeds(runs, "start_scaled_growth"), over_seeds(runs, "start_pre_growth")),
            high=0.3,
        ),
        Claim(
            "Trained, 8 layers of Pre-LN: variance of the stream at the end over that at the start",
            over_seeds(runs, "growth_pre"),
            low=5,
        ),
        Claim("Trained, Post-LN: variance of the stream at the end", last_variance("post"), low=0.7, high=1.3),
        Claim(
            "Trained: variance at the end, LayerNorm Scaling over Pre-LN",
            ratio(last_variance("scaled"), last_variance("pre")),
            high=0.7,
            published="LNS “mitigates the output variance explosion”",
            source="sun2025curse",
            where="abstract",
        ),
        Claim(
            "Trained: variance at the end, Peri-LN over Pre-LN",
            ratio(last_variance("peri"), last_variance("pre")),
            low=0.7,
            published="“more balanced variance growth”",
            source="kim2025periln",
            where="abstract",
        ),
        Claim("Pre-LN: cosine between input and output of the last layer", last_cosine("pre"), low=0.95),
        Claim("Post-LN: cosine between input and output of the last layer", last_cosine("post"), high=0.85),
        Claim(
            "Pre-LN: loss without the first layer plus without the second, minus the same for the last two",
            difference("early_pre", "late_pre"),
            low=0.0,
            published="deep layers are “less effective than expected”",
            source="sun2025curse",
            where="abstract",
        ),
        Claim(
            "What the last two layers are worth, LayerNorm Scaling minus Pre-LN, nats",
            difference("late_scaled", "late_pre"),
            high=0.0,
            published="more with LNS",
            source="sun2025curse",
            where="abstract",
        ),
        Claim(
            "Held-out loss, LayerNorm Scaling minus Pre-LN, nats",
            difference("loss_scaled", "loss_pre"),
            high=0.0,
            published="lower with LNS",
            source="sun2025curse",
            where="abstract",
        ),
    ]
