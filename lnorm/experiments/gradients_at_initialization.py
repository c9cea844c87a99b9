"""How large is the gradient of a Transformer's last layer before training, and does it depend on the depth?

Twice. In the setting of Xiong et al. (2020): attention that averages over all tokens, every weight from N(0, 1/d),
inputs from N(0, 1), and the loss of one position. Then in a causal language model with Xavier's initial weights, with
the loss of one position and with the mean over all tokens. In the first setting, too, what a small perturbation of all
weights does to the output (Liu et al. 2020).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lnorm.data import markov_corpus
from lnorm.experiments.claim import Claim, Measurements, over_seeds
from lnorm.nn import Transformer
from lnorm.nn.residual import Placement
from lnorm.training import token_batches, token_losses

DEPTHS = (2, 4, 8, 16, 32)
FEATURES, TOKENS, CLASSES = 128, 16, 64
NETWORKS = 8  # over which a seed averages, in Xiong's setting
MODELS = 4  # the same, in the language model
NOISE = 0.01  # of the perturbation, in units of the weights
PLACEMENTS: tuple[Placement, ...] = ("post", "pre", "peri")

Two = Literal["post", "pre"]


def layer_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


def streams(x: Tensor, layers: Sequence[Sequence[Tensor]], placement: Two) -> list[Tensor]:
    """Return the residual stream ``(networks, tokens, features)`` before the first layer and after each.

    A layer is uniform attention with one matrix, then ``relu(x W1) W2``.
    """
    found = [x]
    for value, up, down in layers:
        if placement == "post":
            x = layer_norm(x + (x @ value).mean(dim=1, keepdim=True))
            x = layer_norm(x + torch.relu(x @ up) @ down)
        else:
            x = x + (layer_norm(x) @ value).mean(dim=1, keepdim=True)
            x = x + torch.relu(layer_norm(x) @ up) @ down
        found.append(x)
    return found


def theory_setting(seed: int, placement: Two, depth: int) -> tuple[float, float, np.ndarray]:
    """Return norm of ∂L/∂W2 of the last layer, mean squared change of the output by noise, and E|x|²/d by layer."""
    generator = torch.Generator().manual_seed(1000 * seed + depth)

    def normal(*shape: int) -> Tensor:
        return torch.randn(NETWORKS, *shape, generator=generator)

    layers = [[normal(FEATURES, FEATURES) / FEATURES**0.5 for _ in range(3)] for _ in range(depth)]
    head = normal(FEATURES, CLASSES) / FEATURES**0.5
    x = normal(TOKENS, FEATURES)
    labels = torch.randint(CLASSES, (NETWORKS,), generator=generator)
    last = layers[-1][2].requires_grad_()

    seen = streams(x, layers, placement)
    output = layer_norm(seen[-1])  # Pre-LN's final norm; for Post-LN it changes nothing
    loss = F.cross_entropy((output @ head)[:, 0], labels, reduction="sum")  # the first position alone
    (gradient,) = torch.autograd.grad(loss, last)
    with torch.no_grad():
        moved = [[w + NOISE * normal(FEATURES, FEATURES) / FEATURES**0.5 for w in layer] for layer in layers]
        change = (layer_norm(streams(x, moved, placement)[-1]) - output).square().mean()
        squares = [float(stream.square().mean()) for stream in seen]
    return float(gradient.norm(dim=(1, 2)).mean()), float(change), np.array(squares)


def language_model(seed: int, placement: Placement, depth: int) -> tuple[np.ndarray, float]:
    """Return the norm of ∂L/∂W2 of every layer with the loss of all tokens; of the last with that of one position."""
    generator = torch.Generator().manual_seed(1000 * seed + depth)
    model = Transformer(48, 48, depth, 4, 32, norm=nn.LayerNorm, placement=placement, generator=generator)
    (batch,) = token_batches(torch.from_numpy(markov_corpus(20_000).tokens), 32, 8, 1, generator)
    weights = [block.sublayer.down.weight for block in model.blocks[1::2]]
    logits = model(batch[:, :-1])
    loss = token_losses(logits[None], batch[:, 1:]).sum()
    everywhere = torch.autograd.grad(loss, weights, retain_graph=True)
    single = F.cross_entropy(logits[:, -1], batch[:, -1], reduction="none")  # one position of each sequence
    norms = [torch.autograd.grad(each, weights[-1], retain_graph=True)[0].norm().item() for each in single]
    return np.array([g.norm().item() for g in everywhere]), float(np.mean(norms))


def slope(values: np.ndarray) -> float:
    """Return the exponent p of the power law depth^p that fits best."""
    return float(np.polyfit(np.log(DEPTHS), np.log(values), 1)[0])


def run(seed: int) -> Measurements:
    """Measure two placements in the setting of the theory and three in a language model. About 5 s on one core."""
    m: Measurements = {"depths": np.array(DEPTHS)}
    both: tuple[Two, ...] = ("post", "pre")
    for two in both:
        found = [theory_setting(seed, two, depth) for depth in DEPTHS]
        m[f"gradient_{two}"] = np.array([gradient for gradient, _, _ in found])
        m[f"change_{two}"] = np.array([change for _, change, _ in found])
        m[f"stream_{two}"] = found[-1][2]  # (33,)
        m[f"slope_{two}"] = slope(m[f"gradient_{two}"])
        m[f"change_slope_{two}"] = slope(m[f"change_{two}"])
    layer = np.arange(1, DEPTHS[-1] + 1)
    stream = m["stream_pre"][1:]
    m["in_lemma"] = float(np.mean((stream >= 1 + layer / 2) & (stream <= 1 + 3 * layer / 2)))
    m["growth"] = float((stream[-1] - 1) / layer[-1])
    m["change_ratio"] = float(m["change_post"][-1] / m["change_pre"][-1])

    for placement in PLACEMENTS:
        layers = np.full((len(DEPTHS), DEPTHS[-1]), np.nan)  # by depth of the model, by layer
        single = np.empty(len(DEPTHS))
        for i, depth in enumerate(DEPTHS):
            models = [language_model(MODELS * seed + k, placement, depth) for k in range(MODELS)]
            layers[i, :depth] = np.mean([every for every, _ in models], axis=0)
            single[i] = np.mean([one for _, one in models])
        m[f"layers_{placement}"] = layers
        m[f"lm_all_{placement}"] = np.array([row[depth - 1] for row, depth in zip(layers, DEPTHS, strict=True)])
        m[f"lm_one_{placement}"] = single
        m[f"lm_slope_all_{placement}"] = slope(m[f"lm_all_{placement}"])
        m[f"lm_slope_one_{placement}"] = slope(single)
        m[f"first_over_last_{placement}"] = float(layers[-1, 0] / layers[-1, -1])
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """Xiong's two exponents, the growth of the stream, and what changes with another loss."""
    return [
        Claim(
            "Setting of the theory, Post-LN: exponent of the last layer’s gradient over depth",
            over_seeds(runs, "slope_post"),
            low=-0.15,
            high=0.15,
            published="0 (law)",
            source="xiong2020layer",
            where="theorem 1",
        ),
        Claim(
            "Setting of the theory, Pre-LN: exponent of the last layer’s gradient over depth",
            over_seeds(runs, "slope_pre"),
            low=-0.7,
            high=-0.35,
            published="−½ (law)",
            source="xiong2020layer",
            where="theorem 1",
        ),
        Claim(
            "Pre-LN: share of 32 layers whose mean square lies between 1 + l/2 and 1 + 3l/2",
            over_seeds(runs, "in_lemma"),
            low=1,
            high=1,
            published="between the two",
            source="xiong2020layer",
        ),
        Claim("Pre-LN: growth of the mean square per layer", over_seeds(runs, "growth"), low=0.5, high=1.6),
        Claim(
            "Language model, one position, Post-LN: exponent",
            over_seeds(runs, "lm_slope_one_post"),
            low=-0.15,
            high=0.15,
        ),
        Claim(
            "Language model, one position, Pre-LN: exponent", over_seeds(runs, "lm_slope_one_pre"), low=-0.65, high=-0.3
        ),
        Claim("Language model, all tokens, Post-LN: exponent", over_seeds(runs, "lm_slope_all_post"), low=0.0),
        Claim(
            "Language model, all tokens, Pre-LN: exponent", over_seeds(runs, "lm_slope_all_pre"), low=-0.45, high=-0.15
        ),
        Claim(
            "Language model, all tokens, Peri-LN: exponent", over_seeds(runs, "lm_slope_all_peri"), low=-0.5, high=-0.15
        ),
        Claim(
            "Weights perturbed by 1 %, Post-LN: exponent of the output’s squared change",
            over_seeds(runs, "change_slope_post"),
            low=0.75,
            high=1.4,
            published="O(L)",
            source="liu2020understanding",
        ),
        Claim(
            "Weights perturbed by 1 %, Pre-LN: exponent of the output’s squared change",
            over_seeds(runs, "change_slope_pre"),
            high=0.65,
            published="O(log L)",
            source="liu2020understanding",
        ),
        Claim(
            "Weights perturbed by 1 %, 32 layers: squared change, Post-LN over Pre-LN",
            over_seeds(runs, "change_ratio"),
            low=2,
        ),
        Claim(
            "Language model of 32 layers, all tokens, Pre-LN: gradient of the first layer over that of the last",
            over_seeds(runs, "first_over_last_pre"),
            low=1.5,
        ),
        Claim(
            "Language model of 32 layers, all tokens, Post-LN: first layer over last",
            over_seeds(runs, "first_over_last_post"),
            high=1.5,
        ),
    ]
