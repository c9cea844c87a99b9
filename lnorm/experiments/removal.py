"""Can LayerNorm be taken out of a trained language model?

A Pre-LN Transformer, four layers and 32 features, 400 steps on the Markov corpus. Then every norm divides by one
constant, the mean of what it divided 1024 tokens by. Loss on held-out tokens at once, and after 100 steps of tuning,
beside the untouched model after the same 100 steps.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lnorm.data import markov_corpus
from lnorm.experiments.claim import Claim, Measurements, over_seeds
from lnorm.nn import Stack, Transformer, freeze_norms, remove_norms
from lnorm.training import Adam, token_batches, token_losses, train_language_models

CONTEXT, FEATURES, LAYERS = 8, 32, 4


def train(model: Transformer, tokens: Tensor, rate: float, steps: int, generator: torch.Generator) -> None:
    """Train one model in place."""
    stack = Stack([model])
    batches = token_batches(tokens, CONTEXT, 16, steps, generator)
    train_language_models(stack, batches, lambda step: rate, Adam())
    stack.write_back()


@torch.no_grad()
def held_out_loss(model: nn.Module, windows: Tensor) -> float:
    """Return the mean loss, in nats, on windows ``(N, T + 1)`` that were not trained on."""
    return float(token_losses(model(windows[:, :-1])[None], windows[:, 1:]))


@torch.no_grad()
def inputs_of_norms(model: nn.Module, tokens: Tensor) -> list[Tensor]:
    """Return what reaches each norm, in order, ``(N · T, D)`` each."""
    seen: list[Tensor] = []
    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    hooks = [norm.register_forward_pre_hook(lambda _, args: seen.append(args[0].flatten(0, -2))) for norm in norms]
    model(tokens)
    for hook in hooks:
        hook.remove()
    return seen


def shape_of_norm(x: Tensor) -> tuple[float, float, float]:
    """Compare LayerNorm of rows ``(N, D)`` with functions of one number: best line k x and best tanh c tanh(alpha x).

    Returns the share of the output's mean square that each explains, and the best alpha.
    """
    y = nn.functional.layer_norm(x, x.shape[-1:])

    def explained(f: Tensor) -> float:
        return float((f * y).sum().square() / (f.square().sum() * y.square().sum()))

    alphas = np.geomspace(0.01, 3, 60)
    shares = [explained(torch.tanh(float(alpha) * x)) for alpha in alphas]
    return explained(x), max(shares), float(alphas[np.argmax(shares)])


def run(seed: int, steps: int = 400, tuning: int = 100) -> Measurements:
    """Train, freeze, tune and fold. About 5 s on one core."""
    corpus = torch.from_numpy(markov_corpus(120_000).tokens)
    tokens, windows = corpus[:100_000], corpus[100_000:].unfold(0, CONTEXT + 1, CONTEXT + 1)
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(48, FEATURES, LAYERS, context=CONTEXT, norm=nn.LayerNorm, generator=generator)
    train(model, tokens, 4e-3, steps, generator)

    sample = tokens[:1024].view(-1, CONTEXT)
    frozen = freeze_norms(model, sample)
    inputs = inputs_of_norms(model, sample)
    sigmas = torch.stack([x.std(dim=-1, correction=0) for x in inputs])  # (norms, tokens)
    m: Measurements = {
        "loss": held_out_loss(model, windows),
        "loss_frozen": held_out_loss(frozen, windows),
        "variation": (sigmas.std(1) / sigmas.mean(1)).numpy(),  # of sigma over tokens, one a norm
        "cloud": inputs[-1][::32].numpy().round(3),  # (32, D), what reaches the last norm: for the chapter's figure
    }

    shapes = [shape_of_norm(x) for x in inputs]
    m["line_r2"], m["tanh_r2"], m["tanh_alpha"] = (np.array(column) for column in zip(*shapes, strict=True))

    control = copy.deepcopy(model)
    for each in (frozen, control):  # the same batches for both
        train(each, tokens, 5e-4, tuning, torch.Generator().manual_seed(1000 + seed))
    m["loss_frozen_tuned"], m["loss_tuned"] = held_out_loss(frozen, windows), held_out_loss(control, windows)

    bare = remove_norms(frozen)
    with torch.no_grad():
        m["folding_error"] = float((bare(sample) - frozen(sample)).abs().max())
    m["at_once"] = m["loss_frozen"] - m["loss"]
    m["after_tuning"] = m["loss_frozen_tuned"] - m["loss_tuned"]
    m["variation_largest"] = float(m["variation"].max())
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """Taking LayerNorm out costs a little at once and less after tuning, because sigma hardly varies."""
    saved = tuple(run["at_once"] - run["after_tuning"] for run in runs)
    return [
        Claim("Constant sigma, at once: increase of the held-out loss, nats", over_seeds(runs, "at_once"), high=0.15),
        Claim(
            "After 100 steps of tuning, minus the model with LayerNorm tuned as long",
            over_seeds(runs, "after_tuning"),
            low=0.0,
            high=0.1,
            published="+0.03 (GPT-2 XL)",
            source="baroni2025transformers",
            where="abstract",
        ),
        Claim("What tuning repairs: the first minus the second", saved, low=0.0),
        Claim(
            "Largest coefficient of variation of sigma over tokens, all norms",
            over_seeds(runs, "variation_largest"),
            high=0.5,
        ),
        Claim(
            "Share of the last norm's output that one straight line of its input explains",
            tuple(float(run["line_r2"][-1]) for run in runs),
            low=0.9,
        ),
        Claim(
            "Best tanh minus best line: share of the last norm's output explained",
            tuple(float(run["tanh_r2"][-1] - run["line_r2"][-1]) for run in runs),
            high=0.01,
            published="“tanh-like, S-shaped” (large models)",
            source="zhu2025transformers",
            where="abstract",
        ),
        Claim(
            "No norms left, their linear maps folded into the weights: largest change of a logit",
            over_seeds(runs, "folding_error"),
            high=1e-3,
            published="0 (law)",
            where="up to float32 rounding",
        ),
    ]
