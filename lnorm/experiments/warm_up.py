"""What happens to a Transformer without warm-up if its norms stand on the residual stream, and what if they do not?

Six layers on the Markov corpus, Xavier's initial weights, 180 steps of Adam(0.9, 0.98); with warm-up the rate rises
linearly and then stays. Post-LN over three rates and three lengths of warm-up, beside it Pre-LN and Peri-LN. Copies of
one placement train side by side, from the same weights and on the same batches.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lnorm.data import markov_corpus
from lnorm.experiments.claim import Claim, Measurements, over_seeds
from lnorm.nn import Transformer
from lnorm.nn.residual import Placement
from lnorm.nn.stack import Stack
from lnorm.training import Adam, token_batches, token_losses, train_language_models

CONTEXT, BATCH, STEPS = 32, 8, 180
LAST = 20  # the final loss is the mean over so many steps
RATES = (0.002, 0.006, 0.02)
WARM_UPS = (0, 25, 100)  # steps
RATE, WARM = 0.006, 100  # the setting that the placements are compared in
SETTINGS: dict[Placement, list[tuple[float, int]]] = {
    "post": [(rate, steps) for rate in RATES for steps in WARM_UPS],
    "pre": [(RATE, 0), (RATE, WARM), (0.02, 0)],
    "peri": [(RATE, 0)],
}


def network(placement: Placement, generator: torch.Generator) -> Transformer:
    """Return six layers of 32 features, with torch's fused LayerNorm."""
    return Transformer(48, 32, 6, 2, CONTEXT, norm=nn.LayerNorm, placement=placement, generator=generator)


@torch.no_grad()
def shares(model: Transformer, tokens: Tensor) -> np.ndarray:
    """Return which share of the stream's mean square differs between tokens: before the first block, after each.

    0 means that all tokens, whatever they are and wherever they stand, have become the same vector.
    """
    streams = [model.embed(tokens)]
    for block in model.blocks:
        streams.append(block(streams[-1]))
    rows = [stream.flatten(0, 1) for stream in streams]
    return np.array([float((x - x.mean(0)).square().mean() / x.square().mean()) for x in rows])


def block_gradients(model: Transformer, batch: Tensor) -> np.ndarray:
    """Return the norm of the gradient with respect to the parameters of each of the 12 blocks."""
    model.zero_grad()
    token_losses(model(batch[:, :-1])[None], batch[:, 1:]).sum().backward()
    blocks = [[p.grad.norm() for p in block.parameters() if p.grad is not None] for block in model.blocks]
    return torch.stack([torch.stack(norms).norm() for norms in blocks]).numpy()


def train(seed: int, placement: Placement, steps: int) -> dict[str, np.ndarray]:
    """Train one copy for each of the placement's settings; axis 0 of what is returned is that of the settings."""
    rates, warm_ups = torch.tensor(SETTINGS[placement]).T
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.from_numpy(markov_corpus(100_000).tokens)
    state = generator.get_state()
    models = []
    for _ in rates:
        models.append(network(placement, generator.set_state(state)))
    stack = Stack(models)
    history = train_language_models(
        stack,
        token_batches(tokens, CONTEXT, BATCH, steps, generator),
        lambda step: rates * (step / warm_ups.clamp(min=1)).clamp(max=1),  # lnorm.training.warm_up, one a copy
        Adam(),
    )
    stack.write_back()
    (batch,) = token_batches(tokens, CONTEXT, 64, 1, generator)
    return {
        "curve": history.losses.T,
        "loss": history.losses[-LAST:].mean(axis=0),
        "largest": history.losses.max(axis=0) - history.losses[0],
        "share": np.stack([shares(model, batch[:, :-1]) for model in models]),
        "gradient": np.stack([block_gradients(model, batch) for model in models]),
    }


def run(seed: int, steps: int = STEPS) -> Measurements:
    """Train 13 networks. About 15 s on one core."""
    corpus = markov_corpus(1)
    m: Measurements = {"unigram": corpus.unigram_entropy, "conditional": corpus.conditional_entropy}
    for placement in SETTINGS:
        for name, value in train(seed, placement, steps).items():
            m[f"{name}_{placement}"] = value
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """Without warm-up Post-LN ends as a unigram model whose tokens have become one; the others train."""

    def at(name: str, placement: Placement, rate: float = RATE, warm: int = 0) -> list[np.ndarray]:
        return [run[f"{name}_{placement}"][SETTINGS[placement].index((rate, warm))] for run in runs]

    def loss(placement: Placement, rate: float = RATE, warm: int = 0) -> tuple[float, ...]:
        return tuple(map(float, at("loss", placement, rate, warm)))

    def difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, ...]:
        return tuple(a - b for a, b in zip(first, second, strict=True))

    post, post_warm, pre, pre_warm = loss("post"), loss("post", warm=WARM), loss("pre"), loss("pre", warm=WARM)
    unigram = over_seeds(runs, "unigram")
    powers = [float(np.log10(g[0] / g[-1])) for g in at("gradient", "post")]
    return [
        Claim(
            "Post-LN, no warm-up: final loss minus the unigram entropy, nats",
            difference(post, unigram),
            low=-0.12,
            high=0.12,
            published="warm-up is “essential”",
            source="xiong2020layer",
            where="abstract",
        ),
        Claim(
            "Post-LN, no warm-up: largest loss minus the first one", tuple(map(float, at("largest", "post"))), high=0.3
        ),
        Claim(
            "Post-LN, no warm-up: share of the last stream that differs between tokens",
            tuple(float(share[-1]) for share in at("share", "post")),
            high=0.01,
        ),
        Claim(
            "Post-LN, no warm-up: gradient of the first block over the last’s, power of ten", tuple(powers), high=-1.5
        ),
        Claim("Post-LN: final loss with warm-up minus without", difference(post_warm, post), high=-0.4),
        Claim(
            "Post-LN, a third of the rate, no warm-up: minus unigram entropy",
            difference(loss("post", RATES[0]), unigram),
            high=-0.3,
        ),
        Claim(
            "Post-LN, three times the rate, warm-up 100: minus unigram entropy",
            difference(loss("post", RATES[2], WARM), unigram),
            low=-0.12,
            high=0.12,
        ),
        Claim(
            "Pre-LN, no warm-up: final loss minus the floor (conditional entropy)",
            difference(pre, over_seeds(runs, "conditional")),
            high=0.45,
            published="comparable to baselines with warm-up",
            source="xiong2020layer",
            where="abstract",
        ),
        Claim("Pre-LN: final loss with warm-up minus without", difference(pre_warm, pre), low=-0.15, high=0.15),
        Claim("Pre-LN, no warm-up, minus Post-LN with warm-up", difference(pre, post_warm), high=0.0),
        Claim("Peri-LN minus Pre-LN, both without warm-up", difference(loss("peri"), pre), low=-0.15, high=0.15),
    ]
