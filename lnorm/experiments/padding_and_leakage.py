"""Whose outputs does a norm change when padding is added, a later token is edited, or text is decoded token by token?

Padding: Gaussian token vectors with a mean of their own per feature, sequences of 5 to 12, zeros appended. Leakage and
decoding: an untrained causal Pre-LN Transformer of two layers in float64; numbers are largest changes of a logit.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lnorm.experiments.claim import Claim, Measurements, over_seeds
from lnorm.nn import TokenBatchNorm, Transformer
from lnorm.reference import batch_norm, layer_norm, masked_batch_norm

LENGTHS = (12, 24, 48, 96)
SEQUENCES, TOKENS, VOCABULARY = 3, 8, 48
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer": nn.LayerNorm,
    "rms": lambda features: nn.RMSNorm(features, eps=1e-5),
    "batch": TokenBatchNorm,
}


def padding(rng: np.random.Generator, sequences: int = 32, features: int = 64) -> Measurements:
    """Pad the same tokens to each of LENGTHS; compare what each norm makes of them with the shortest padding."""
    m: Measurements = {"lengths": np.array(LENGTHS)}
    count = rng.integers(5, LENGTHS[0] + 1, size=sequences)
    means = rng.normal(size=features)
    tokens = means + rng.normal(size=(sequences, LENGTHS[0], features))
    outputs: dict[str, list[np.ndarray]] = {"batch": [], "layer": [], "masked": []}
    spread, expected = [], []
    for length in LENGTHS:
        mask = np.arange(length) < count[:, None]  # (sequences, length), True at real tokens
        x = np.zeros((sequences, length, features))
        x[mask] = tokens[mask[:, : LENGTHS[0]]]
        y, _ = batch_norm(x.reshape(-1, features), eps=0.0)
        outputs["batch"].append(y.reshape(x.shape)[mask])
        outputs["layer"].append(layer_norm(x, features)[0][mask])
        outputs["masked"].append(masked_batch_norm(x, mask)[0][mask])
        spread.append(outputs["batch"][-1].std(axis=0).mean())
        p, mu, var = mask.mean(), x[mask].mean(axis=0), x[mask].var(axis=0)
        expected.append(np.sqrt(var / (p * var + p * (1 - p) * mu**2)).mean())
    for norm, each in outputs.items():
        m[f"padding_{norm}"] = np.array([np.abs(y - each[0]).mean() for y in each])
        m[f"padding_{norm}_max"] = float(max(np.abs(y - each[0]).max() for y in each))
    m["padding_batch_96"] = float(m["padding_batch"][-1])
    m["spread"], m["spread_theory"] = np.array(spread), np.array(expected)
    m["spread_error"] = float(np.abs(m["spread"] / m["spread_theory"] - 1).max())
    return m


def language_model(seed: int, norm: Callable[[int], nn.Module]) -> Transformer:
    """Return the untrained model, in training mode."""
    generator = torch.Generator().manual_seed(seed)
    return Transformer(VOCABULARY, features=32, layers=2, context=TOKENS, norm=norm, generator=generator).double()


@torch.no_grad()
def influence(model: nn.Module, tokens: Tensor) -> np.ndarray:
    """Edit every token of the batch ``(N, T)`` in turn; return how far each position's logits move, ``(N·T, N·T)``.

    Row i is the token edited, column j the position looked at, both counted through the batch sequence by sequence; an
    entry is the largest change of a logit.
    """
    before = model(tokens)
    rows = []
    for n, t in np.ndindex(*tokens.shape):
        edited = tokens.clone()
        edited[n, t] = (edited[n, t] + VOCABULARY // 2) % VOCABULARY
        rows.append((model(edited) - before).abs().amax(dim=-1).flatten())
    return torch.stack(rows).numpy()


@torch.no_grad()
def decoding_error(model: nn.Module, tokens: Tensor) -> float:
    """Feed ever longer prefixes and keep the newest logits; return their largest distance from one full pass."""
    full = model(tokens)
    prefixes = range(1, tokens.shape[1] + 1)
    newest = torch.stack([model(tokens[:, :length])[:, -1] for length in prefixes], dim=1)
    return float((newest - full).abs().max())


def run(seed: int) -> Measurements:
    """Measure padding, influence and decoding. Under a second."""
    m = padding(np.random.default_rng(seed))
    generator = torch.Generator().manual_seed(1000 + seed)
    tokens = torch.randint(VOCABULARY, (SEQUENCES, TOKENS), generator=generator)
    sequence = np.repeat(np.arange(SEQUENCES), TOKENS)
    position = np.tile(np.arange(TOKENS), SEQUENCES)
    same = sequence[:, None] == sequence
    future = same & (position[:, None] > position)  # the edited token comes after the position looked at
    models = {norm: language_model(seed, make) for norm, make in NORMS.items()}
    for name, model in models.items():
        m[f"influence_{name}"] = moved = influence(model, tokens)
        m[f"future_{name}"] = float(moved[future].max())
        m[f"others_{name}"] = float(moved[~same].max())
        m[f"own_{name}"] = float(moved[same & ~future].mean())
        m[f"decoding_{name}"] = decoding_error(model, tokens)
    models["batch"].eval()  # with the statistics that the passes above have left behind
    moved = influence(models["batch"], tokens)
    m["unrelated_eval"] = float(moved[future | ~same].max())
    m["decoding_eval"] = decoding_error(models["batch"], tokens)
    m["future_share"] = float(m["influence_batch"][future].mean() / m["own_batch"])
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """What BatchNorm changes, LayerNorm does not."""

    def law(sentence: str, name: str, high: float = 0.0) -> Claim:
        low = -math.inf if high else 0.0
        return Claim(sentence, over_seeds(runs, name), low, high, published="0 (law)", where="derived in chapter 6")

    def effect(sentence: str, name: str, low: float) -> Claim:
        return Claim(sentence, over_seeds(runs, name), low)

    return [
        effect("BatchNorm, 12 padded to 96: mean change of real tokens' outputs", "padding_batch_96", 0.5),
        law("BatchNorm: relative error of the formula for the spread of real tokens", "spread_error", 1e-12),
        law("LayerNorm: largest change by padding", "padding_layer_max"),
        law("Masked BatchNorm: largest change by padding", "padding_masked_max"),
        effect("BatchNorm: largest change of a logit by a later token", "future_batch", 0.1),
        law("LayerNorm: largest change of a logit by a later token", "future_layer"),
        law("RMSNorm: largest change of a logit by a later token", "future_rms"),
        effect("BatchNorm: largest change of a logit by another sequence", "others_batch", 0.1),
        law("LayerNorm: largest change of a logit by another sequence", "others_layer"),
        law("BatchNorm in evaluation mode: largest change of a logit by either", "unrelated_eval"),
        effect("BatchNorm, prefix by prefix against one pass: largest difference", "decoding_batch", 0.5),
        law("LayerNorm, prefix by prefix against one pass: largest difference", "decoding_layer", 1e-12),
        law("BatchNorm in evaluation mode, prefix by prefix: largest difference", "decoding_eval", 1e-12),
    ]
