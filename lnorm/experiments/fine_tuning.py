"""Who learns a second language best, and who forgets the first: the head, the norms, LoRA, or all parameters?

A Pre-LN Transformer of two layers learns one Markov chain. Eighteen copies then learn another chain over the same
tokens: six choices of trainable parameters at three learning rates each, on the same batches. One more copy trains all
parameters on batches of which half are from the first chain. Losses are nats above the entropy of the chain that is
asked about, so that 0 is a perfect model.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lnorm.data import markov_corpus
from lnorm.experiments.claim import Claim, Measurements, over_seeds
from lnorm.nn import Stack, Transformer, add_lora, lora_parameters, norm_parameters
from lnorm.training import Adam, token_batches, token_losses, train_language_models

METHODS = ("head", "norms", "lora_1", "lora", "both", "all")
RATES = (5e-4, 4e-3, 3e-2)
CONTEXT, FEATURES, LAYERS = 8, 32, 2
TRAINED, HELD_OUT = 60_000, 10_000  # tokens of each chain


def chosen(model: Transformer, method: str) -> list[nn.Parameter]:
    """Return the parameters that a method trains, in a model with LoRA of rank 4 on queries and values."""
    lora = lora_parameters(model)
    if method == "head":
        return list(model.head.parameters())
    if method == "norms":
        return norm_parameters(model)
    if method in ("lora", "lora_1"):
        return lora
    if method == "both":
        return lora + norm_parameters(model)
    return [p for p in model.parameters() if all(p is not factor for factor in lora)]


def mask(model: Transformer, method: str) -> Tensor:
    """Return 1 for every number that a method trains and 0 for the others, in the order of a Stack, ``(P,)``.

    "lora_1" trains the first row of each ``down`` and the first column of each ``up``. The rest of ``up`` stays 0, so
    that this is LoRA of rank 1.
    """
    trained = {id(p) for p in chosen(model, method)}
    parts = {name: torch.full(p.shape, float(id(p) in trained)) for name, p in model.named_parameters()}
    for name, part in parts.items() if method == "lora_1" else ():
        if name.endswith(".down"):
            part[1:] = 0.0
        if name.endswith(".up"):
            part[:, 1:] = 0.0
    return torch.cat([part.flatten() for part in parts.values()])


@torch.no_grad()
def losses(stack: Stack, sequences: Tensor) -> np.ndarray:
    """Return every model's mean loss on held-out sequences, ``(copies,)``."""
    return token_losses(stack(sequences[:, :-1]), sequences[:, 1:]).numpy()


def run(seed: int, before: int = 400, after: int = 150) -> Measurements:
    """Train on the first chain, adapt 19 copies to the second. About 11 s on one core."""
    generator = torch.Generator().manual_seed(seed)
    chains = [markov_corpus(TRAINED + HELD_OUT, seed=each) for each in (0, seed + 1)]
    tokens = [torch.from_numpy(chain.tokens) for chain in chains]
    trained = [each[:TRAINED] for each in tokens]
    held_out = [each[TRAINED:].unfold(0, CONTEXT + 1, CONTEXT)[:400] for each in tokens]
    source, target = (chain.conditional_entropy for chain in chains)

    model = Transformer(48, FEATURES, LAYERS, context=CONTEXT, norm=nn.LayerNorm, generator=generator)
    stack = Stack([model])
    drawn = token_batches(trained[0], CONTEXT, 32, before, generator)
    train_language_models(stack, drawn, lambda step: 3e-3, Adam())
    stack.write_back()
    add_lora(model, generator=generator)

    masks = torch.stack([mask(model, method) for method in METHODS for _ in RATES])
    rates = torch.tensor(RATES * len(METHODS))
    adapted = Stack([model] * len(masks))
    m: Measurements = {
        "parameters": masks[:: len(RATES)].sum(dim=1).numpy().astype(int),
        "source_before": float(losses(adapted, held_out[0])[0] - source),
        "target_before": float(losses(adapted, held_out[1])[0] - target),
        "source_frequencies": chains[0].unigram_entropy - source,  # of a model that knows frequencies alone
        "target_frequencies": chains[1].unigram_entropy - target,
    }
    adam = Adam()
    drawn = token_batches(trained[1], CONTEXT, 32, after, generator)
    train_language_models(adapted, drawn, lambda step: rates, lambda gradient: masks * adam(gradient))
    shape = (len(METHODS), len(RATES))
    m["source"] = losses(adapted, held_out[0]).reshape(shape) - source
    m["target"] = losses(adapted, held_out[1]).reshape(shape) - target

    rehearsing, everything, another = Stack([model]), mask(model, "all"), Adam()
    halves = (token_batches(each, CONTEXT, 16, after, generator) for each in trained)
    mixed = (torch.cat(pair) for pair in zip(*halves, strict=True))
    train_language_models(rehearsing, mixed, lambda step: RATES[1], lambda gradient: everything * another(gradient))
    m["source_rehearsed"] = float(losses(rehearsing, held_out[0])[0] - source)
    m["target_rehearsed"] = float(losses(rehearsing, held_out[1])[0] - target)
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """Norms learn more than as many numbers of LoRA; whoever learns forgets; rehearsal is what helps."""

    def at(name: str, method: str, rate: float) -> tuple[float, ...]:
        return tuple(float(run[name][METHODS.index(method), RATES.index(rate)]) for run in runs)

    def best(method: str) -> tuple[float, ...]:
        return tuple(float(run["target"][METHODS.index(method)].min()) for run in runs)

    def difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, ...]:
        return tuple(a - b for a, b in zip(first, second, strict=True))

    def least_forgotten(run: Measurements) -> float:
        rows = np.arange(len(METHODS))
        return float((run["source"][rows, run["target"].argmin(axis=1)] - run["source_before"]).min())

    gains = zip(over_seeds(runs, "target_before"), best("norms"), best("all"), strict=True)
    return [
        Claim("All parameters: loss on the second chain, nats above its entropy", best("all"), high=0.35),
        Claim(
            "Norms alone, 1.1 % of the parameters: share of that gain",
            tuple((start - norms) / (start - everything) for start, norms, everything in gains),
            low=0.4,
            high=0.8,
        ),
        Claim(
            "LoRA of rank 1, 0.8 times as many numbers as the norms: loss minus that of the norms",
            difference(best("lora_1"), best("norms")),
            low=0.0,
            published="norms > LoRA by 20 % (multi-modal)",
            source="zhao2024tuning",
            where="abstract",
        ),
        Claim(
            "LoRA of rank 4, 3.2 times as many numbers: loss minus that of the norms",
            difference(best("lora"), best("norms")),
            low=-0.4,
            high=0.2,
        ),
        Claim("LoRA of rank 4 and norms: loss minus that of LoRA", difference(best("both"), best("lora")), high=0.1),
        Claim(
            "Norms minus LoRA of rank 4, both at 4e-3: loss on the first chain",
            difference(at("source", "norms", 4e-3), at("source", "lora", 4e-3)),
            high=0.1,
        ),
        Claim(
            "Every method at its best rate: rise of the loss on the first chain, the least of six",
            tuple(least_forgotten(run) for run in runs),
            low=1.0,
        ),
        Claim(
            "All parameters at 5e-4 minus norms at 3e-2: loss on the second chain",
            difference(at("target", "all", 5e-4), at("target", "norms", 3e-2)),
            high=-0.1,
        ),
        Claim(
            "All parameters at 5e-4 minus norms at 3e-2: loss on the first chain",
            difference(at("source", "all", 5e-4), at("source", "norms", 3e-2)),
            high=-0.1,
        ),
        Claim(
            "All parameters, half of each batch from the first chain: its loss minus that without",
            difference(over_seeds(runs, "source_rehearsed"), at("source", "all", 4e-3)),
            high=-1.0,
        ),
    ]
