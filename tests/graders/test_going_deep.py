"""Right answers to assignment 8, written differently."""

import functools
import itertools
import math

import numpy as np
import torch
from graders_helpers import Grading

from lnorm.checks import exercise


def constants_from_the_condition(N, kind):
    """Solve 2Bβ² = α² and 2β² = 1/α²."""
    matrices = 2 * N * (3 if kind.startswith("encoder-") else 2)
    beta_squared = 1 / math.sqrt(2 * matrices)
    return math.sqrt(matrices * beta_squared), math.sqrt(beta_squared)


def constants_as_published(N, kind):
    two = kind != "encoder-decoder"
    return (
        torch.tensor([2.0 * N if two else 3.0 * N, 8.0 * N if two else 12.0 * N], dtype=torch.float64)
        .pow(torch.tensor([0.25, -0.25], dtype=torch.float64))
        .tolist()
    )


def constants_by_logarithms(layers, which):
    log = math.log(layers) + math.log({"encoder": 2, "decoder": 2, "encoder-decoder": 3}[which])
    return np.exp(log / 4), np.exp(-(log + math.log(4)) / 4)


def init_by_words(weights, beta):
    new = {}
    for name, value in weights.items():
        words = name.split(".")
        factor = np.ones((len(value), 1)) if value.ndim == 2 else 1.0
        if words[0] == "layers" and words[-1] == "weight" and words[2] in ("attention", "feed_forward"):
            if words[3] == "query_key_value":
                factor[-len(value) // 3 :] = beta
            elif words[3] not in ("query", "key"):
                factor = beta
        new[name] = value * factor
    return new


def init_by_torch(weights, beta):
    new = {name: torch.tensor(value) for name, value in weights.items()}
    for name, value in new.items():
        if "query_key_value.w" in name:
            value.chunk(3)[2].mul_(beta)
        if any(f".{each}.weight" in name for each in ("value", "attention.output", "up", "down")):
            value.mul_(beta)
    return new


def init_by_copy(weights, beta):
    new = {name: np.array(value) for name, value in weights.items()}
    for layer in itertools.takewhile(lambda i: f"layers.{i}.feed_forward.up.weight" in new, itertools.count()):
        at = f"layers.{layer}."
        for name in ("attention.output", "feed_forward.up", "feed_forward.down", "attention.value"):
            if f"{at}{name}.weight" in new:
                new[f"{at}{name}.weight"] *= beta
        if (name := f"{at}attention.query_key_value.weight") in new:
            q, k, v = np.split(new[name], 3)
            new[name] = np.vstack([q, k, beta * v])
    return new


def variance_by_loop(v_0, v_attn, v_ffn, scales):
    found = [v_0]
    for a, f, s in zip(v_attn, v_ffn, scales, strict=True):
        attention = found[-1] + s**2 * a
        found.append(attention + s**2 * f)
    return found


def variance_by_matrix(v_0, v_attn, v_ffn, scales):
    lower = np.tri(len(scales) + 1, len(scales), -1)
    return v_0 + lower @ (scales * scales * np.add(v_attn, v_ffn))


def variance_by_torch(v_0, v_attn, v_ffn, scales):
    a, f, s = (torch.from_numpy(each) for each in (v_attn, v_ffn, scales))
    return torch.cat([torch.tensor([v_0], dtype=torch.float64), s.square() * (a + f)]).cumsum(0)


def scaling_by_pairs(x, branches, norm):
    pairs = zip(branches[::2], branches[1::2], strict=True)
    for layer, (attention, feed_forward) in enumerate(pairs, start=1):
        middle = x + attention(layer**-0.5 * norm(x))
        x = middle + feed_forward(layer**-0.5 * norm(middle))
    return x


def scaling_by_recursion(x, branches, norm, layer=1):
    if len(branches) == 0:
        return x
    for f in branches[:2]:
        x = np.add(x, f(np.divide(norm(x), math.sqrt(layer))))
    return scaling_by_recursion(x, branches[2:], norm, layer + 1)


def scaling_in_torch(x, branches, norm):
    t = torch.tensor(x)
    factors = torch.arange(1, len(branches) // 2 + 1, dtype=torch.float64).rsqrt().repeat_interleave(2)
    for f, factor in zip(branches, factors, strict=True):
        t = t + torch.from_numpy(f(factor * torch.from_numpy(norm(t))))
    return t


def cosines_einsum(x, layers):
    streams = list(itertools.accumulate(layers, lambda stream, layer: layer(stream), initial=x))
    unit = [s / np.sqrt(np.einsum("...d,...d->...", s, s))[..., None] for s in streams]
    return [np.einsum("...d,...d->...", a, b).mean() for a, b in itertools.pairwise(unit)]


def cosines_torch(x, layers):
    found, stream = [], torch.from_numpy(x)
    for layer in layers:
        after = torch.from_numpy(layer(stream.numpy()))
        found.append(torch.nn.functional.cosine_similarity(stream, after, dim=-1).mean())
        stream = after
    return torch.stack(found)


def cosines_token_by_token(x, layers):
    found = np.zeros(len(layers))
    for number, layer in enumerate(layers):
        y = layer(x)
        rows = list(zip(x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1]), strict=True))
        for a, b in rows:
            found[number] += a @ b / math.sqrt((a @ a) * (b @ b)) / len(rows)
        x = y
    return found


def drop_by_slices(layers, i, x, loss):
    def through(some):
        return functools.reduce(lambda stream, layer: layer(stream), some, x)

    return loss(through(layers[:i] + layers[i + 1 :])) - loss(through(layers))


def drop_by_copy(layers, i, x, loss):
    fewer = list(layers)
    fewer.pop(i)
    losses = []
    for some in (layers, fewer):
        stream = x.copy()
        for layer in some:
            stream = layer(stream)
        losses.append(loss(stream))
    return np.diff(losses)[0]


def drop_and_put_back(layers, i, x, loss):
    """Change the model for a moment; what counts is how it is left."""

    def run():
        stream = x
        for layer in layers:
            stream = layer(stream)
        return torch.tensor(loss(torch.from_numpy(stream)), dtype=torch.float64)

    whole = run()
    kept, layers[i] = layers[i], lambda stream: stream
    try:
        return run() - whole
    finally:
        layers[i] = kept


def omega_by_list(x, branches, norm):
    variances, omega = [], []
    for f in branches:
        omega.append((1 + sum(variances)) ** 0.5)
        variances.append(np.mean((f(x) - np.mean(f(x))) ** 2))
        x = norm(omega[-1] * x + f(x))
    return omega


def omega_by_recurrence(x, branches, norm):
    """ω grows by ω² ← ω² + Var f."""
    omega = np.ones(len(branches))
    for i, f in enumerate(branches[:-1]):
        added = f(x)
        omega[i + 1] = np.hypot(omega[i], np.std(added))
        x = norm(added + omega[i] * x)
    return omega


def omega_in_torch(x, branches, norm):
    stream, total, found = torch.tensor(x), torch.ones((), dtype=torch.float64), []
    for f in branches:
        added = torch.from_numpy(f(stream))
        found.append(total.sqrt())
        total = total + added.var(correction=0)
        stream = torch.from_numpy(norm(torch.add(added, stream, alpha=found[-1].item())))
    return torch.stack(found)


def init_with_two_mistakes(weights, beta):
    wrong = exercise("apply_deepnorm_init").mistakes
    queries = wrong["queries and keys are scaled too"](weights, beta)
    embeddings = wrong["the embeddings are scaled too"](weights, beta)
    return {name: embeddings[name] if name.startswith("tokens") else queries[name] for name in weights}


class TestGoingDeep(Grading):
    assignment = "08-going-deep"
    correct = {  # noqa: RUF012
        "deepnorm_constants": (constants_from_the_condition, constants_as_published, constants_by_logarithms),
        "apply_deepnorm_init": (init_by_words, init_by_torch, init_by_copy),
        "predict_prenorm_variance": (variance_by_loop, variance_by_matrix, variance_by_torch),
        "layernorm_scaling": (scaling_by_pairs, scaling_by_recursion, scaling_in_torch),
        "layer_cosines": (cosines_einsum, cosines_torch, cosines_token_by_token),
        "drop_layer_effect": (drop_by_slices, drop_by_copy, drop_and_put_back),
        "admin_omega": (omega_by_list, omega_by_recurrence, omega_in_torch),
    }
    wrong = (
        ("deepnorm_constants", lambda N, kind: (2 * N) ** 0.25, "expected 2 return values (alpha, beta)"),
        ("deepnorm_constants", lambda N, kind: (1.0, 1.0), "(number of matrices)·β²/α² is"),
        ("apply_deepnorm_init", init_with_two_mistakes, "queries and keys are scaled too"),
        ("apply_deepnorm_init", lambda weights, beta: None, "expected a dict with the"),
        ("predict_prenorm_variance", lambda v_0, a, f, s: v_0 + np.cumsum(a + f), "has shape"),
        ("layernorm_scaling", lambda x, branches, norm: x * np.nan, "not finite"),
        ("layer_cosines", lambda x, layers: [1.0], "has shape"),
        ("drop_layer_effect", lambda layers, i, x, loss: layers[i](x), "has shape"),
        ("admin_omega", lambda x, branches, norm: np.ones(len(branches)), "is off by up to"),
    )
