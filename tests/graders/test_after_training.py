"""Right answers to assignment 13, written differently."""

import itertools

import numpy as np
import torch
from graders_helpers import Grading
from torch import nn


def outlier_by_a_row(o, d):
    """Build the row: d even or odd, others with sum 0 and mean square 1, and normalize it."""
    others = np.cos(2 * np.pi * np.arange(d - 1) / (d - 1)) if d > 2 else np.ones(1)
    if d > 2:
        others /= np.sqrt(np.mean(others**2))
    results = []
    for each in np.ravel(o):
        row = np.append(others, each)
        if d == 2:  # one number cannot have sum 0 and mean square 1: the average over its two signs
            rows = [np.append(sign * others, each) for sign in (1, -1)]
            mean, square = np.mean([r.sum() for r in rows]) / d, np.mean(rows[0] ** 2)
        else:
            mean, square = row.mean(), np.mean(row**2)
        std = np.sqrt(square - mean**2)
        results.append((1 / std, (each - mean) / std))
    first, second = np.array(results).T
    return first.reshape(np.shape(o)), second.reshape(np.shape(o))


def outlier_torch(o, d):
    o = torch.as_tensor(o, dtype=torch.float64)
    rstd = d * torch.rsqrt(d * (d - 1) + (d - 1) * o**2)
    return rstd, o * (d - 1) / d * rstd


def outlier_expanded(o, d):
    var = (1 - 1 / d) * (1 + np.square(o) / d)
    return var**-0.5, np.multiply(o, (d - 1) / d) * var**-0.5


def trainable_by_names(model, method):
    """Collect names, then look them up."""
    kinds = {nn.LayerNorm, nn.RMSNorm, nn.BatchNorm1d}
    names = [name for name, _ in model.named_parameters()]
    norms = [n for n in names if type(model.get_submodule(n.rpartition(".")[0])) in kinds]
    lora = [n for n in names if n.rpartition(".")[2] in {"up", "down"}]
    if method == "head":
        return tuple(model.head._parameters.values())
    chosen = {"norms": norms, "lora": lora, "both": {*norms, *lora}, "all": [n for n in names if n not in lora]}
    return [model.get_parameter(name) for name in chosen[method]]


def trainable_by_walking(model, method):
    """Walk down the tree of modules."""
    found = {}

    def walk(module):
        for name, p in module._parameters.items():
            if p is not None:
                kind = "lora" if name in ("up", "down") else "rest"
                found[p] = "norms" if isinstance(module, nn.LayerNorm | nn.RMSNorm | nn.BatchNorm1d) else kind
        for child in module.children():
            walk(child)

    walk(model)
    if method == "head":
        return list(model.head.parameters())
    kinds = {"norms": ["norms"], "lora": ["lora"], "both": ["norms", "lora"], "all": ["norms", "rest"]}[method]
    return [p for p, kind in found.items() if kind in kinds]


def trainable_as_a_generator(model, method):
    lora = {id(m._parameters[name]) for m in model.modules() for name in ("up", "down") if name in m._parameters}
    norms = set()
    for m in model.modules():
        if isinstance(m, (nn.LayerNorm, nn.RMSNorm, nn.BatchNorm1d)) and m.weight is not None:
            norms |= {id(p) for p in m.parameters()}
    head = {id(p) for p in model.head.parameters()}
    every = {id(p) for p in model.parameters()} - lora
    wanted = {"head": head, "norms": norms, "lora": lora, "both": norms | lora, "all": every}[method]
    yield from (p for p in model.parameters() if id(p) in wanted)


def quantize_torch(x, axis):
    t = torch.from_numpy(x)
    step = t.abs().amax(dim=axis, keepdim=True) if axis is not None else t.abs().max().reshape([1] * t.ndim)
    step = step / 127
    step[step == 0] = 1
    return (t / step).round().to(torch.int8), step


def quantize_by_slices(x, axis):
    """Bring the axis to the end, and go through the rows."""
    rows = x.reshape(1, -1) if axis is None else np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
    q, steps = np.empty(rows.shape, np.int8), np.empty((len(rows), 1))
    for i, row in enumerate(rows):
        steps[i] = max(row.max(), -row.min()) / 127 or 1.0
        q[i] = np.rint(row / steps[i])
    if axis is None:
        return q.reshape(x.shape), steps.reshape((1,) * x.ndim)
    moved = np.moveaxis(x, axis, -1).shape
    return np.moveaxis(q.reshape(moved), -1, axis), np.moveaxis(steps.reshape(*moved[:-1], 1), -1, axis)


def quantize_by_floor(x, axis):
    step = np.linalg.norm(np.atleast_1d(x.ravel()), np.inf) / 127 if axis is None else np.abs(x).max(axis) / 127
    step = np.reshape(step, (1,) * x.ndim) if axis is None else np.expand_dims(step, axis)
    step = step + (step == 0)
    return np.floor(x / step + 0.5).astype("b"), step


def fold_by_diagonal(gamma, beta, readers):
    return [[W @ np.diag(gamma), (0 if b is None else b) + np.einsum("oi,i->o", W, beta)] for W, b in readers]


def fold_torch(gamma, beta, readers):
    gamma, beta = torch.from_numpy(gamma), torch.from_numpy(beta)
    out = []
    for W, b in readers:
        W = torch.from_numpy(W)
        out.append((torch.einsum("oi,i->oi", W, gamma), W @ beta + (0 if b is None else torch.from_numpy(b))))
    return tuple(out)


def fold_by_probing(gamma, beta, readers):
    """The new layer is what the old one does to 0 and to the unit vectors."""

    def old(W, b, x_hat):
        return W @ (gamma * x_hat + beta) + (np.zeros(len(W)) if b is None else b)

    out = []
    for W, b in readers:
        at_zero = old(W, b, np.zeros_like(gamma))
        out.append((np.stack([old(W, b, unit) - at_zero for unit in np.eye(len(gamma))], axis=1), at_zero))
    return out


def front_by_loops(target, source):
    n = len(target)
    mask = [not (np.isnan(target[i]) or np.isnan(source[i])) for i in range(n)]
    for i, j in itertools.permutations(range(n), 2):
        one, other = (target[i], source[i]), (target[j], source[j])
        if other != one and other[0] <= one[0] and other[1] <= one[1]:
            mask[i] = False
    return mask


def front_by_sorting(target, source):
    lost = np.isnan(target) | np.isnan(source)
    mask, best, best_target = np.zeros(len(target), bool), np.inf, np.nan
    for i in np.lexsort((source, target)):
        if lost[i]:
            continue
        if source[i] < best or (source[i] == best and target[i] == best_target):
            mask[i], best, best_target = True, source[i], target[i]
    return mask


def front_torch(target, source):
    losses = torch.stack([torch.from_numpy(target), torch.from_numpy(source)])
    alive = losses.isfinite().all(dim=0)
    gap = losses[:, :, None] - losses[:, None, :]  # [loss, i, j]: positive where j is better
    beaten = (gap >= 0).all(dim=0) & (gap > 0).any(dim=0)
    return ~beaten.any(dim=1) & alive


class LoRAKeepsTwo:
    """Keeps the frozen matrix and shows a merged one."""

    def __init__(self, W, b, rank, alpha, rng):
        self.frozen, self.b, self.scale, self.extra = W, b, alpha / rank, None
        self.down = rng.standard_normal((W.shape[1], rank)).T / np.sqrt(W.shape[1])
        self.up = np.zeros((len(W), rank))

    @property
    def W(self):  # noqa: N802
        return self.frozen if self.extra is None else self.frozen + self.extra

    def __call__(self, x):
        update = self.scale * self.up @ self.down if self.extra is None else self.extra
        return np.einsum("oi,...i->...o", self.frozen + update, x) + self.b

    def merge(self):
        if self.extra is None:
            self.extra = self.scale * self.up @ self.down


class LoRASetsUpToZero:
    """After merging, the factors are 0: a second merge adds nothing."""

    def __init__(self, W, b, rank, alpha, rng):
        self.W, self.b, self.scale = np.array(W), np.array(b), alpha / rank
        bound = np.sqrt(3 / W.shape[1])
        self.down, self.up = rng.uniform(-bound, bound, size=(rank, W.shape[1])), np.zeros((W.shape[0], rank))

    def __call__(self, x):
        return x @ self.W.T + ((x @ self.down.T) * self.scale) @ self.up.T + self.b

    def merge(self):
        self.W = self.W + self.up @ self.down * self.scale
        self.up = np.zeros_like(self.up)


class LoRATorch:
    def __init__(self, W, b, rank, alpha, rng):
        self.W, self.b, self.scale = torch.tensor(W), torch.tensor(b), alpha / rank
        self.down = torch.from_numpy(rng.normal(size=(rank, W.shape[1])) * W.shape[1] ** -0.5)
        self.up = torch.zeros(W.shape[0], rank, dtype=torch.float64)
        self.merge = self.merge_once

    def update(self):
        return self.scale * torch.as_tensor(self.up) @ torch.as_tensor(self.down)

    def __call__(self, x):
        W = self.W if self.merge == self.nothing else self.W + self.update()
        return nn.functional.linear(torch.as_tensor(x), W, self.b)

    def merge_once(self):
        self.W = self.W + self.update()
        self.merge = self.nothing

    def nothing(self):
        pass


def adapt_torch(layers, x, eps):
    h, adapted = torch.from_numpy(x), []
    for layer in layers:
        p = {name: torch.from_numpy(value) for name, value in layer.items()}
        a = nn.functional.linear(h, p["W"], p["b"])
        var, mean = torch.var_mean(a, dim=0, correction=0)
        adapted.append({**p, "running_mean": mean, "running_var": var})
        h = torch.relu(p["gamma"] * (a - mean) * torch.rsqrt(var + eps) + p["beta"])
    return adapted


def adapt_by_running_again(layers, x, eps):
    """Adapt one layer after the other; before each, run the data through those in front from the start."""
    adapted = [dict(layer) for layer in layers]
    for i in range(len(layers)):
        h = x.T
        for layer in adapted[:i]:
            a = layer["W"] @ h + layer["b"][:, None]
            a = (a - layer["running_mean"][:, None]) / (layer["running_var"][:, None] + eps) ** 0.5
            h = (layer["gamma"][:, None] * a + layer["beta"][:, None]).clip(min=0)
        a = layers[i]["W"] @ h + layers[i]["b"][:, None]
        adapted[i]["running_mean"] = a.sum(axis=1) / len(x)
        adapted[i]["running_var"] = np.mean((a - a.mean(axis=1, keepdims=True)) ** 2, axis=1)
    return tuple(adapted)


def adapt_by_recursion(layers, x, eps):
    if not layers:
        return []
    first, *rest = layers
    a = np.einsum("ni,oi->no", x, first["W"]) + first["b"]
    mean = a.mean(axis=0)
    covariance = np.cov(a, rowvar=False, bias=True)
    var = np.diag(np.atleast_2d(covariance))
    y = first["gamma"] / np.sqrt(var + eps) * (a - mean) + first["beta"]
    return [first | {"running_mean": mean, "running_var": var}, *adapt_by_recursion(rest, y * (y > 0), eps)]


class TestAfterTraining(Grading):
    assignment = "13-after-training"
    correct = {  # noqa: RUF012
        "outlier_shrink": (outlier_by_a_row, outlier_torch, outlier_expanded),
        "trainable_parameters": (trainable_by_names, trainable_by_walking, trainable_as_a_generator),
        "quantize_int8": (quantize_torch, quantize_by_slices, quantize_by_floor),
        "fold_gamma": (fold_by_diagonal, fold_torch, fold_by_probing),
        "not_dominated": (front_by_loops, front_by_sorting, front_torch),
        "LoRALinear": (LoRAKeepsTwo, LoRASetsUpToZero, LoRATorch),
        "adapt_bn": (adapt_torch, adapt_by_running_again, adapt_by_recursion),
    }
    wrong = (
        ("trainable_parameters", lambda model, method: ["head.weight"], "a list with str in it"),
        ("trainable_parameters", lambda model, method: list(model.parameters())[:1], "are missing from the list"),
        ("quantize_int8", lambda x, axis: ((x / 9).astype(np.uint8), 9.0), "expected integers with a sign, got uint8"),
        ("fold_gamma", lambda gamma, beta, readers: readers[:1], "one for each reader; got 1 of them"),
        ("not_dominated", lambda target, source: np.flatnonzero(target), "expected an array of True and False"),
        ("LoRALinear", lambda W, b, rank, alpha, rng: None, "expected an object of your class, got None"),
        ("adapt_bn", lambda layers, x, eps: [{"W": x} for _ in layers], "expected a dict with the keys W, b, gamma"),
        (
            "adapt_bn",
            lambda layers, x, eps: nn.BatchNorm1d(3),
            "calls torch.nn.BatchNorm1d, which this exercise asks you to write",
        ),
    )
