"""Right answers to assignment 7, written differently."""

import functools
import math
from collections import Counter

import numpy as np
import torch
from graders_helpers import Grading

from lnorm.checks import exercise


def block_by_identity(x, f, norm, place):
    """Three places for a norm, the identity where there is none."""

    def identity(z):
        return z

    on_input = norm if place in ("pre", "peri") else identity
    on_output = norm if place == "peri" else identity
    on_stream = norm if place == "post" else identity
    return on_stream(x + on_output(f(on_input(x))))


def block_with_match(x, f, norm, place):
    match place:
        case "post":
            y = norm(np.add(f(x), x))
        case "pre":
            y = np.add(f(norm(x)), x)
        case "peri":
            y = np.add(norm(f(norm(x))), x)
        case _:
            y = np.add(f(x), x)
    return y


def block_in_torch(x, f, norm, place):
    t = torch.as_tensor(x).clone()
    read = torch.from_numpy(norm(t)) if place.startswith("p") and place != "post" else t
    added = f(read)
    if place == "peri":
        added = norm(added)
    t += torch.from_numpy(added)
    return norm(t) if place == "post" else t


def head_by_blocks(block):
    def head_input(x, branches, norm, place):
        y = functools.reduce(lambda stream, f: block(stream, f, norm, place), branches, x)
        return norm(y) if place[-1] in "ei" and place != "none" else y

    return head_input


def head_by_recursion(x, branches, norm, place):
    if not branches:
        return {"pre": norm, "peri": norm}.get(place, np.array)(x)
    return head_by_recursion(block_with_match(x, branches[0], norm, place), branches[1:], norm, place)


def entropy_by_counter(tokens):
    counts = Counter(tokens.ravel().tolist())
    return -sum(n / tokens.size * math.log(n / tokens.size) for n in counts.values())


def entropy_over_tokens(tokens):
    """The mean of −log p over the tokens of the text themselves."""
    _, where, counts = np.unique(tokens, return_inverse=True, return_counts=True)
    return np.mean(np.log(tokens.size) - np.log(counts[where.ravel()]))


def entropy_by_torch(tokens):
    p = torch.bincount(torch.tensor(tokens).flatten()).double() / tokens.size
    return -torch.xlogy(p, p).sum()


def slope_by_moments(depths, values):
    x, y = np.log(depths) - np.log(depths).mean(), np.log(values)
    return np.mean(y @ x) / (x @ x)


def slope_by_lstsq(depths, values):
    rows = [(math.log(d), 1.0, math.log(v)) for row in values for d, v in zip(depths, row, strict=True)]
    a, b, y = np.array(rows).T
    return np.linalg.lstsq(np.stack([a, b], axis=1), y, rcond=None)[0][0]


def slope_by_torch(depths, values):
    x = torch.from_numpy(depths).double().log10()
    y = torch.from_numpy(values).log10().mean(0)
    return torch.cov(torch.stack([x, y]))[0, 1] / x.var()


def rate_by_pieces(step, warm, rate, d_model=None):
    if d_model is not None:
        peak = rate / math.sqrt(d_model * warm)
        return peak * step / warm if step < warm else peak * math.sqrt(warm / step)
    return rate if step >= warm else step * rate / warm


def rate_by_clipping(step, warm, rate, d_model=None):
    share = np.clip(step / max(warm, 1), 0, 1)
    return rate * share if d_model is None else rate * share / np.sqrt(d_model * max(step, warm))


def rate_by_torch(step, warm, rate, features=None):
    step, warm = torch.tensor(float(step), dtype=torch.float64), torch.tensor(float(warm), dtype=torch.float64)
    if features is None:
        return rate * (step / warm).clamp(max=1)  # a step over 0 is infinite, which is clamped, too
    return rate * torch.minimum(step.rsqrt(), step * warm.pow(-1.5)) / features**0.5


def word_by_exclusion(curve, unigram):
    last = max(len(curve) // 5, 1)
    final = np.mean(curve[len(curve) - last :])
    if np.isfinite(curve).all() and final - unigram < -0.1:
        return "fine"
    if np.isfinite(curve).all() and abs(final - unigram) <= 0.1:
        return "plateau"
    return "diverged"


def word_by_sorting(curve, unigram):
    if np.isnan(curve).any() or np.isinf(curve).any():
        return "diverged"
    final = sum(list(curve)[::-1][: max(1, len(curve) // 5)]) / max(1, len(curve) // 5)
    return ("fine", "plateau", "diverged")[int(np.searchsorted([unigram - 0.1, unigram + 0.1], final))]


def word_by_torch(curve, unigram):
    t = torch.tensor(curve)
    final = t[-(len(t) // 5 or 1) :].mean() if t.isfinite().all() else torch.tensor(torch.inf)
    over = final.item() - unigram
    return "diverged" if over > 0.1 else "fine" if over < -0.1 else "plateau"


def norms_by_backward(model, x, labels, position):
    model.zero_grad()
    log_p = torch.log_softmax(model(x)[:, position], dim=-1)
    (-log_p.gather(1, labels[:, position, None]).mean()).backward()
    return [block.weight.grad.square().sum().sqrt() for block in model.blocks]


def norms_one_by_one(model, x, labels, position):
    """Every layer with a pass of its own."""
    norms = []
    for block in model.blocks:
        logits = model(x)[:, position]
        losses = torch.logsumexp(logits, dim=1) - logits[torch.arange(len(x)), labels[:, position]]
        (gradient,) = torch.autograd.grad(losses.sum() / len(x), block.weight)
        norms.append(np.linalg.norm(gradient.numpy()))
    return np.array(norms)


def norms_functional(model, x, labels, position):
    def loss(parameters):
        logits = torch.func.functional_call(model, parameters, (x,))
        return torch.nn.functional.cross_entropy(logits[:, position], labels[:, position])

    gradients = torch.func.grad(loss)({name: p.detach() for name, p in model.named_parameters()})
    return torch.stack([gradients[f"blocks.{i}.weight"].norm() for i in range(len(model.blocks))])


def pre_and_peri_wrong(*args):
    wrong = exercise("block").mistakes
    name = "in 'pre' the norm stands after the addition"
    return wrong[name if args[3] == "pre" else "in 'peri' the norm on the branch's output is missing"](*args)


class TestPlacement(Grading):
    assignment = "07-placement"
    correct = {  # noqa: RUF012
        "block": (block_by_identity, block_with_match, block_in_torch),
        "head_input": (head_by_blocks(block_by_identity), head_by_blocks(block_in_torch), head_by_recursion),
        "unigram_entropy": (entropy_by_counter, entropy_over_tokens, entropy_by_torch),
        "loglog_slope": (slope_by_moments, slope_by_lstsq, slope_by_torch),
        "warm_up": (rate_by_pieces, rate_by_clipping, rate_by_torch),
        "diagnose_curve": (word_by_exclusion, word_by_sorting, word_by_torch),
        "grad_norms": (norms_by_backward, norms_one_by_one, norms_functional),
    }
    wrong = (
        ("block", pre_and_peri_wrong, "in 'pre' the norm stands after the addition"),
        ("block", pre_and_peri_wrong, "in 'peri' the norm on the branch's output is missing"),
        ("head_input", lambda x, branches, norm, place: x * np.nan, "not finite"),
        ("unigram_entropy", lambda tokens: np.bincount(tokens.ravel()) / tokens.size, "has shape"),
        ("loglog_slope", lambda depths, values: np.polyfit(np.log(depths), np.log(values).T, 1), "has shape"),
        ("warm_up", lambda step, warm, rate, d_model=None: rate * step / warm, "ZeroDivisionError"),
        ("diagnose_curve", lambda curve, unigram: "ok", "expected one of 'fine', 'plateau', 'diverged'; got 'ok'"),
        ("diagnose_curve", lambda curve, unigram: True, "expected one of 'fine', 'plateau', 'diverged'; got bool"),
        ("diagnose_curve", lambda curve, unigram: "plateau", "says 'plateau' of a curve that is 'fine'"),
        ("grad_norms", lambda model, x, labels, position: model(x)[:, position], "has shape"),
    )
