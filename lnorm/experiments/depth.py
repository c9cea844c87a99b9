"""Which residual schemes still train when a Transformer gets deeper, without warm-up?

Causal Transformers of 2, 6 and 12 layers on the Markov corpus, Adam at 3e-3 from the first step, 40 steps of 8 × 32
tokens: Pre-LN, Post-LN, DeepNorm (Wang et al. 2022), and no norm with Xavier's initialization. Beside it Post-LN with
6 layers for 120 steps, also at 1e-3; a simple form of Admin (Liu et al. 2020) with 6 layers; and how far one small step
moves the last layer's output, for depths from 2 to 32.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lnorm.data import markov_corpus
from lnorm.experiments.claim import Claim, Measurements, over_seeds
from lnorm.nn import Transformer
from lnorm.nn.initializers import xavier_
from lnorm.nn.residual import Placement
from lnorm.nn.stack import Stack
from lnorm.training import Adam, token_batches, train_language_models

SCHEMES: tuple[Placement, ...] = ("pre", "post", "deepnorm", "none")
LAYERS = (2, 6, 12)
DEPTHS = (2, 4, 8, 16, 32)  # at which a single step is measured
RATE, LOW_RATE = 3e-3, 1e-3
CONTEXT, BATCH = 32, 8
LAST = 10  # the loss of a run is the mean over so many steps


def network(placement: Placement, layers: int, seed: int, init: Callable[..., None] | None = None) -> Transformer:
    """Return a Transformer of 48 features with torch's fused LayerNorm."""
    generator = torch.Generator().manual_seed(seed)
    norm = nn.LayerNorm
    return Transformer(48, 48, layers, context=CONTEXT, norm=norm, placement=placement, init=init, generator=generator)


@torch.no_grad()
def admin_network(layers: int, seed: int, tokens: Tensor) -> Transformer:
    """Return a Post-LN Transformer whose shortcuts are multiplied as in Admin, profiled on ``tokens``.

    Block i gets ω with ω² = 1 plus the variances of all branches before it. Liu et al. (2020) train a vector ω; here it
    is one number and stays as it is.
    """
    model = network("deepnorm", layers, seed, init=xavier_)
    x, total = model.embed(tokens), 1.0
    for block in model.blocks:
        block.alpha = total**0.5
        total += block.sublayer(x).var().item()
        x = block(x)
    return model


def train(models: Sequence[nn.Module], rates: Sequence[float], tokens: Tensor, seed: int, steps: int) -> np.ndarray:
    """Train models of one architecture on the same batches, one rate each; return their losses, ``(copies, steps)``."""
    batches = token_batches(tokens, CONTEXT, BATCH, steps, torch.Generator().manual_seed(seed))
    rate = torch.tensor(rates)
    return train_language_models(Stack(models), batches, lambda step: rate, Adam()).losses.T


def update_of_output(model: Transformer, batch: Tensor, step: float = 1e-5) -> dict[str, float]:
    """Return how far a small step moves the last layer's output (root mean square), divided by the step's size.

    The step goes along the gradient ("sgd") or along its signs ("adam", as Adam's first step does), and moves the
    matrices through which the signal passes: values, outputs and feed-forward, not queries and keys.
    """

    def output() -> Tensor:
        return model.norm_final(model.blocks(model.embed(batch[:, :-1])))

    named = model.blocks.named_parameters()
    weights = [p for name, p in named if p.ndim == 2 and "query" not in name and "key" not in name]
    before = output()
    loss = F.cross_entropy(model.head(before).flatten(0, 1), batch[:, 1:].flatten())
    gradients = torch.autograd.grad(loss, weights)
    moved = {}
    with torch.no_grad():
        for name in ("sgd", "adam"):
            directions = gradients if name == "sgd" else [gradient.sign() for gradient in gradients]
            torch._foreach_add_(weights, directions, alpha=-step)
            moved[name] = (output() - before).square().mean().sqrt().item() / step
            torch._foreach_add_(weights, directions, alpha=step)
    return moved


def slope(values: np.ndarray) -> float:
    """Return the exponent p of values ∝ depth^p over ``DEPTHS``."""
    return float(np.polyfit(np.log(DEPTHS), np.log(values), 1)[0])


def run(seed: int, steps: int = 40, long: int = 120) -> Measurements:
    """Train twelve networks, one of them at two rates, and Admin's. About 14 s on one core."""
    corpus = markov_corpus(100_000)
    tokens = torch.from_numpy(corpus.tokens)
    m: Measurements = {
        "layers": np.array(LAYERS),
        "depths": np.array(DEPTHS),
        "unigram": corpus.unigram_entropy,
        "conditional": corpus.conditional_entropy,
    }

    m["curve_rates"] = train([network("post", 6, seed) for _ in range(2)], (RATE, LOW_RATE), tokens, seed, long)
    m["loss_post_long"], m["loss_post_low_rate"] = map(float, m["curve_rates"][:, -LAST:].mean(axis=1))
    for scheme in SCHEMES:
        curves = [
            m["curve_rates"][0, :steps]
            if (scheme, layers) == ("post", 6)
            else train([network(scheme, layers, seed)], (RATE,), tokens, seed, steps)[0]
            for layers in LAYERS
        ]
        m[f"curve_{scheme}"] = np.stack(curves)  # (depths, steps)
        m[f"loss_{scheme}"] = m[f"curve_{scheme}"][:, -LAST:].mean(axis=1)

    windows = tokens.unfold(0, CONTEXT + 1, 1)
    draw = torch.Generator().manual_seed(seed)
    batch = windows[torch.randint(len(windows), (BATCH,), generator=draw)]
    admin = train([admin_network(6, seed, batch[:, :-1])], (RATE,), tokens, seed, steps)
    m["loss_admin"] = float(admin[0, -LAST:].mean())

    for scheme in SCHEMES[:3]:
        moved = [update_of_output(network(scheme, layers, seed), batch) for layers in DEPTHS]
        for name in ("sgd", "adam"):
            m[f"{name}_{scheme}"] = np.array([each[name] for each in moved])
            m[f"{name}_{scheme}_slope"] = slope(m[f"{name}_{scheme}"])
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """With two layers all four train; with more, Post-LN stands at the unigram entropy and no norm explodes."""

    def at(scheme: str, layers: int) -> tuple[float, ...]:
        return tuple(float(run[f"loss_{scheme}"][LAYERS.index(layers)]) for run in runs)

    shallow = tuple(max(float(run[f"loss_{scheme}"][0]) for scheme in SCHEMES) for run in runs)
    exploded = tuple(float(np.nan_to_num(np.log10(loss), nan=38, posinf=38)) for loss in at("none", 12))
    bounded = "“model updates can be bounded”"
    return [
        Claim("2 layers: worst loss of the four schemes, nats", shallow, high=3.3),
        Claim(
            "6 layers, Post-LN: loss after 120 steps",
            over_seeds(runs, "loss_post_long"),
            low=3.67,
            high=3.87,
            published="3.767 (law: unigram entropy)",
            where="the corpus",
        ),
        Claim(
            "12 layers, Post-LN: loss",
            at("post", 12),
            low=3.65,
            high=3.95,
            published="training “often becomes unstable” at ten layers or more",
            source="takase2023b2t",
            where="abstract",
        ),
        Claim("12 layers, Pre-LN: loss", at("pre", 12), high=3.5),
        Claim(
            "12 layers, DeepNorm: loss",
            at("deepnorm", 12),
            high=3.1,
            published="trains 1,000 layers",
            source="wang2022deepnet",
            where="abstract",
        ),
        Claim("12 layers, no norm: loss, its power of ten", exploded, low=1.5),
        Claim(
            "6 layers, Post-LN at a rate of 1e-3: loss after 120 steps",
            over_seeds(runs, "loss_post_low_rate"),
            high=3.6,
        ),
        Claim(
            "6 layers, simple Admin: loss",
            over_seeds(runs, "loss_admin"),
            high=3.5,
            published="“more stable, converges faster”",
            source="liu2020understanding",
            where="abstract",
        ),
        Claim(
            "Post-LN: change of the output by one small gradient step, exponent of depth",
            over_seeds(runs, "sgd_post_slope"),
            low=0.5,
        ),
        Claim(
            "DeepNorm: change of the output by one small gradient step, exponent of depth",
            over_seeds(runs, "sgd_deepnorm_slope"),
            low=-0.2,
            high=0.2,
            published=f"0 (law); {bounded}",
            source="wang2022deepnet",
            where="abstract",
        ),
        Claim(
            "DeepNorm: change by one step along the signs, as Adam’s first, exponent of depth",
            over_seeds(runs, "adam_deepnorm_slope"),
            low=0.4,
            high=0.6,
            published="½ (law)",
            where="derived in chapter 8",
        ),
    ]
