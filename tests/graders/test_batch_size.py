"""Right answers to assignment 5, written differently."""

import math

import numpy as np
import torch
from graders_helpers import Grading


def merge_from_the_first_mean(n1, m1, v1, n2, m2, v2):
    """Sums of distances from m1, which is near all values."""
    if n1 * n2 == 0:
        return (n1, m1, v1) if n2 == 0 else (n2, m2, v2)
    n, gap = n1 + n2, m2 - m1
    first, second = n2 * gap / n, (n1 * v1 + n2 * (v2 + gap * gap)) / n
    return n, m1 + first, second - first * first


def merge_torch(n1, m1, v1, n2, m2, v2):
    n = torch.tensor([n1, n2], dtype=torch.float64)
    counts = n.reshape(2, *[1] * np.ndim(m1))
    m, v = (torch.nan_to_num(torch.as_tensor(np.array(each))) for each in ((m1, m2), (v1, v2)))
    mean = (counts * m).sum(0) / n.sum()
    return n.sum(), mean, (counts * (v + torch.where(counts > 0, m - mean, 0.0) ** 2)).sum(0) / n.sum()


def merge_with_weights(n1, m1, v1, n2, m2, v2):
    w1, w2 = n1 / (n1 + n2), n2 / (n1 + n2)
    if not w1 or not w2:
        return [n1 + n2, m1 if w1 else m2, v1 if w1 else v2]
    mean = w1 * m1 + w2 * m2
    return [n1 + n2, mean, w1 * (v1 + (m1 - mean) ** 2) + w2 * (v2 + (m2 - mean) ** 2)]


def ghost_torch(x, group, eps):
    pieces = []
    for rows in torch.from_numpy(x).split(group):
        var, mean = torch.var_mean(rows, 0, correction=0)
        pieces.append((rows - mean) * torch.rsqrt(var + eps))
    return torch.cat(pieces)


def ghost_by_matrix(x, group, eps):
    """A matrix that averages over groups."""
    index = np.arange(len(x)) // group
    same = (index[:, None] == index).astype(float)
    average = same / same.sum(axis=1, keepdims=True)
    centred = x - average @ x
    return centred / np.sqrt(average @ centred**2 + eps)


def ghost_reshaped(x, group, eps):
    def normalize(rows):
        centred = rows - rows.mean(axis=1, keepdims=True)
        return centred / np.sqrt(np.einsum("gnc,gnc->gc", centred, centred)[:, None] / rows.shape[1] + eps)

    full = len(x) - len(x) % group
    y = normalize(x[:full].reshape(-1, group, x.shape[1])).reshape(full, -1) if full else x[:0]
    return np.vstack([y, normalize(x[None, full:])[0]]) if full < len(x) else y


def sync_by_merging(shards, gamma, beta, eps):
    n, mean, var = 0, 0.0, 0.0
    for x in shards:
        if len(x):
            n, mean, var = merge_from_the_first_mean(n, mean, var, len(x), x.mean(0), x.var(0))
    return [(x - mean) * (gamma / np.sqrt(var + eps)) + beta for x in shards]


def sync_by_concatenating(shards, gamma, beta, eps):
    x = np.concatenate(shards)
    y = gamma * (x - x.mean(0)) / np.sqrt(x.var(0) + eps) + beta
    return np.split(y, np.cumsum([len(each) for each in shards])[:-1])


def sync_by_two_sums(shards, gamma, beta, eps):
    """Two sums a feature in one exchange, taken around a row that all know, so that nothing cancels."""
    pivot = torch.from_numpy(shards[0][0])
    ts = [torch.from_numpy(x) - pivot for x in shards]
    n, first, second = (sum(each) for each in zip(*((len(t), t.sum(0), (t * t).sum(0)) for t in ts), strict=True))
    mean = first / n
    rstd = torch.rsqrt(second / n - mean**2 + eps)
    return tuple((t - mean) * rstd * torch.from_numpy(gamma) + torch.from_numpy(beta) for t in ts)


def sync_backward_torch(dys, shards, gamma, eps):
    xs = [torch.tensor(x, requires_grad=True) for x in shards]
    g, b = torch.tensor(gamma, requires_grad=True), torch.zeros(len(gamma), dtype=torch.float64, requires_grad=True)
    whole = torch.cat(xs)
    y = g * (whole - whole.mean(0)) / torch.sqrt(whole.var(0, correction=0) + eps) + b
    y.backward(torch.from_numpy(np.concatenate(dys)))
    return [x.grad for x in xs], g.grad, b.grad


def sync_backward_through_moments(dys, shards, gamma, eps):
    n = sum(map(len, shards))
    mean = sum(x.sum(0) for x in shards) / n
    rstd = (sum(((x - mean) ** 2).sum(0) for x in shards) / n + eps) ** -0.5
    dvar = sum(np.sum(dy * gamma * (x - mean), axis=0) for dy, x in zip(dys, shards, strict=True)) * -0.5 * rstd**3
    dmean = -sum(np.sum(dy * gamma, axis=0) for dy in dys) * rstd
    dxs = [dy * gamma * rstd + dvar * 2 * (x - mean) / n + dmean / n for dy, x in zip(dys, shards, strict=True)]
    dgamma = sum(np.einsum("nc,nc,c->c", dy, x - mean, rstd) for dy, x in zip(dys, shards, strict=True))
    return tuple(dxs), dgamma, sum(np.ones(len(dy)) @ dy for dy in dys)


def sync_backward_by_jacobian(dys, shards, gamma, eps):
    x, dy = np.concatenate(shards), np.concatenate(dys)
    n = len(x)
    dx, dgamma = np.empty_like(x), np.empty_like(gamma)
    for j in range(x.shape[1]):
        s = math.sqrt(x[:, j].var() + eps)
        x_hat = (x[:, j] - x[:, j].mean()) / s
        dx[:, j] = (np.eye(n) - 1 / n - np.outer(x_hat, x_hat) / n) @ dy[:, j] * gamma[j] / s
        dgamma[j] = x_hat @ dy[:, j]
    return np.split(dx, np.cumsum([len(each) for each in shards])[:-1]), dgamma, dy.sum(0)


def accumulate_sums(gradient, weights, x, y, micro):
    """Sums first, one division at the end."""
    totals, counted = None, 0
    for i in range(-(-len(y) // micro)):
        piece = y[i * micro : (i + 1) * micro]
        if count := int((piece != -1).sum()):
            sums = [count * g for g in gradient(weights, x[i * micro : (i + 1) * micro], piece)]
            totals = sums if totals is None else [a + b for a, b in zip(totals, sums, strict=True)]
            counted += count
    return [total / counted for total in totals]


def accumulate_without_padding(gradient, weights, x, y, micro):
    """Rows that do not count go first; then pieces are weighted by their rows."""
    x, y = x[y >= 0], y[y >= 0]
    out = [0.0] * len(weights)
    for rows in np.split(np.arange(len(y)), range(micro, len(y), micro)):
        for k, g in enumerate(gradient(weights, x[rows], y[rows])):
            out[k] = out[k] + len(rows) * g / len(y)
    return out


def accumulate_row_by_row(gradient, weights, x, y, micro):
    rows = [gradient(weights, x[i : i + 1], y[i : i + 1]) for i in np.flatnonzero(y >= 0)]
    return tuple(torch.tensor(np.stack(each)).mean(0) for each in zip(*rows, strict=True))


def switch_torch(x, mean_logits, var_logits, gamma, beta, eps):
    t = torch.from_numpy(x)
    w, v = (torch.softmax(torch.from_numpy(each), 0) for each in (mean_logits, var_logits))
    (var_b, mean_b), (var_l, mean_l) = (torch.var_mean(t, axis, correction=0, keepdim=True) for axis in (0, 1))
    y = (t - torch.lerp(mean_l, mean_b, w[0])) * torch.rsqrt(v[0] * var_b + v[1] * var_l + eps)
    return y * torch.from_numpy(gamma) + torch.from_numpy(beta)


def switch_sigmoid(x, mean_logits, var_logits, gamma, beta, eps):
    """Of two shares, one is a sigmoid of the difference of the logits."""
    w, v = ((1 + np.tanh((a - b) / 2)) / 2 for a, b in (mean_logits, var_logits))
    mean = np.add.outer((1 - w) * x.mean(1), w * x.mean(0))
    var = np.add.outer((1 - v) * x.var(1), v * x.var(0))
    return (x - mean) * (var + eps) ** -0.5 * gamma + beta


def switch_by_entries(x, mean_logits, var_logits, gamma, beta, eps):
    w, v = (np.exp(each - np.logaddexp(*each)) for each in (mean_logits, var_logits))
    y = np.zeros(x.shape)
    for i, j in np.ndindex(*x.shape):
        mean = w @ [x[:, j].mean(), x[i].mean()]
        var = v @ [x[:, j].var(), x[i].var()]
        y[i, j] = (x[i, j] - mean) / math.sqrt(var + eps) * gamma[j] + beta[j]
    return y


class TestBatchSize(Grading):
    assignment = "05-batch-size"
    correct = {  # noqa: RUF012
        "merge_stats": (merge_from_the_first_mean, merge_torch, merge_with_weights),
        "ghost_batch_norm": (ghost_torch, ghost_by_matrix, ghost_reshaped),
        "sync_batch_norm": (sync_by_merging, sync_by_concatenating, sync_by_two_sums),
        "sync_batch_norm_backward": (
            sync_backward_torch,
            sync_backward_through_moments,
            sync_backward_by_jacobian,
        ),
        "accumulate_gradients": (accumulate_sums, accumulate_without_padding, accumulate_row_by_row),
        "switch_norm": (switch_torch, switch_sigmoid, switch_by_entries),
    }
    wrong = (
        ("merge_stats", lambda *args: args[:2], "expected 3 return values (n, m, v), got 2 values"),
        ("ghost_batch_norm", lambda x, group, eps: x, "the mean of a group of consecutive rows is"),
        ("ghost_batch_norm", lambda x, group, eps: x.reshape(-1, group, x.shape[1]), "in your line `"),
        ("sync_batch_norm", lambda shards, *args: np.concatenate(shards), "return values (y of device 0"),
        (
            "sync_batch_norm",
            lambda shards, gamma, beta, eps: torch.nn.functional.batch_norm(
                torch.tensor(np.concatenate(shards)), None, None, training=True
            ),
            "calls torch.nn.functional.batch_norm",
        ),
        ("sync_batch_norm_backward", lambda dys, shards, *args: dys, "a list with a dx for each device"),
        ("sync_batch_norm_backward", lambda dys, *args: (dys, dys[0][0], dys[0][0]), "Σdx over all devices"),
        (
            "accumulate_gradients",
            lambda gradient, w, x, y, micro: gradient(w, x, y)[:1],
            "more rows than fit into memory",
        ),
        ("switch_norm", lambda x, *args: x * np.nan, "not finite"),
    )
