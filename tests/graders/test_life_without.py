"""Right answers to assignment 12, written differently."""

import math

import numpy as np
import torch
from graders_helpers import Grading

# --- DyT ---


def dyt_torch(x, alpha, gamma, beta):
    return torch.addcmul(torch.from_numpy(beta), torch.from_numpy(gamma), torch.tanh(torch.from_numpy(x) * alpha))


def dyt_sigmoid(x, alpha, gamma, beta):
    """tanh(z) = 2 σ(2z) − 1; the exponential of a negative number only, so that nothing overflows."""
    e = np.exp(-2 * np.abs(alpha * x))
    return np.sign(alpha * x) * (1 - e) / (1 + e) * gamma + beta


def dyt_loop(x, alpha, gamma, beta):
    y = np.empty_like(x)
    for *row, j in np.ndindex(x.shape):
        y[(*row, j)] = gamma[j] * math.tanh(alpha * x[(*row, j)]) + beta[j]
    return y


def dyt_backward_torch(dy, x, alpha, gamma):
    t, a, g = torch.tensor(x), torch.tensor([alpha], dtype=torch.float64), torch.tensor(gamma)
    b = torch.zeros_like(g)
    leaves = [each.requires_grad_() for each in (t, a, g, b)]
    (torch.tanh(a * t) * g + b).backward(torch.tensor(dy))
    return [each.grad for each in leaves]


def dyt_backward_cosh(dy, x, alpha, gamma):
    z = np.clip(alpha * x, -300, 300)
    slope = np.cosh(z) ** -2.0
    rows, d = dy.reshape(-1, dy.shape[-1]), x.shape[-1]
    dx = np.einsum("...d,d,...d->...d", dy, gamma, slope) * alpha
    dalpha = np.einsum("nd,d,nd,nd->", rows, gamma, slope.reshape(-1, d), x.reshape(-1, d))
    return dx, dalpha, np.einsum("nd,nd->d", rows, np.tanh(z).reshape(-1, d)), rows.sum(0)


def dyt_backward_loop(dy, x, alpha, gamma):
    dx, dalpha, dgamma, dbeta = np.zeros(x.shape), 0.0, np.zeros_like(gamma), np.zeros_like(gamma)
    for index in np.ndindex(x.shape):
        j, t = index[-1], math.tanh(alpha * x[index])
        through = dy[index] * gamma[j] * (1 + t) * (1 - t)
        dx[index] = through * alpha
        dalpha += through * x[index]
        dgamma[j] += dy[index] * t
        dbeta[j] += dy[index]
    return dx, dalpha, dgamma, dbeta


# --- weights ---


def standardize_flat(w, eps):
    flat = w.reshape(len(w), -1)
    centred = flat - np.average(flat, axis=1)[:, None]
    return (centred * (np.einsum("oi,oi->o", centred, centred)[:, None] / flat.shape[1] + eps) ** -0.5).reshape(w.shape)


def standardize_torch(w, eps):
    t = torch.tensor(w)
    dims = tuple(range(1, t.ndim))
    var, mean = torch.var_mean(t, dims, correction=0, keepdim=True)
    return (t - mean) * torch.rsqrt(var + eps)


def standardize_loop(w, eps):
    return np.stack([(each - each.mean()) / np.hypot(each.std(), np.sqrt(eps)) for each in w])


def weight_norm_torch(v, g, dw):
    t, s = torch.tensor(v, requires_grad=True), torch.tensor(g, requires_grad=True)
    w = (s / t.flatten(1).norm(dim=1)).reshape(-1, *[1] * (t.ndim - 1)) * t
    w.backward(torch.tensor(dw))
    return w.detach(), t.grad, s.grad


def weight_norm_jacobian(v, g, dw):
    flat, arrived = v.reshape(len(v), -1), dw.reshape(len(v), -1)
    length = np.linalg.norm(flat, axis=1)
    u = flat / length[:, None]
    take = (np.eye(flat.shape[1]) - np.einsum("oi,oj->oij", u, u)) * (g / length)[:, None, None]
    dv = np.einsum("oij,oj->oi", take, arrived)
    return (u * g[:, None]).reshape(v.shape), dv.reshape(v.shape), np.einsum("oi,oi->o", u, arrived)


def weight_norm_of_the_paper(v, g, dw):
    """Equation 3 of Salimans & Kingma: dv from dg."""
    w, dv, dg = np.empty_like(v), np.empty_like(v), np.empty_like(g)
    for o in range(len(v)):
        length = np.sqrt(np.sum(v[o] ** 2))
        w[o] = g[o] / length * v[o]
        dg[o] = np.sum(dw[o] * v[o]) / length
        dv[o] = g[o] / length * dw[o] - g[o] * dg[o] / length**2 * v[o]
    return w, dv, dg


# --- Fixup ---


def fixup_loop(z):
    weights = []
    for i, layer in enumerate(z):
        blocks, _, fan_in = layer.shape
        std = (2 / fan_in) ** 0.5 / blocks ** (1 / (2 * len(z) - 2))
        weights.append(np.array([std * each if i < len(z) - 1 else 0 * each for each in layer]))
    return weights


def fixup_torch(z):
    *others, last = map(torch.from_numpy, z)
    shrink = math.exp(-math.log(len(last)) / (2 * len(others)))
    return [*(t * math.sqrt(2 / t.shape[-1]) * shrink for t in others), torch.zeros_like(last)]


def fixup_by_variance(z):
    m, depth = len(z), len(z[0])
    variances = [2 / each.shape[2] / depth ** (1 / (m - 1)) for each in z[:-1]] + [0.0]
    return tuple(each * np.sqrt(variance) for each, variance in zip(z, variances, strict=True))


# --- freezing ---


def freeze_by_probing(norms, activations):
    """A linear map is known by what it makes of zero and of the unit vectors."""
    pairs = []
    for (gamma, beta, eps), x in zip(norms, activations, strict=True):
        sigma = np.mean([np.sqrt(row.var() + eps) for row in x.reshape(-1, len(gamma))])

        def frozen(row, gamma=gamma, beta=beta, sigma=sigma):
            return (row - row.mean()) / sigma * gamma + beta

        c = frozen(np.zeros(len(gamma)))
        pairs.append((np.column_stack([frozen(unit) - c for unit in np.eye(len(gamma))]), c))
    return pairs


def freeze_torch(norms, activations):
    out = []
    for (gamma, beta, eps), x in zip(norms, activations, strict=True):
        sigma = torch.sqrt(torch.var(torch.from_numpy(x), -1, correction=0) + eps).mean()
        centring = torch.eye(len(gamma), dtype=torch.float64) - 1 / len(gamma)
        out.append([torch.diag(torch.from_numpy(gamma)) @ centring / sigma, torch.from_numpy(beta)])
    return out


def freeze_elementwise(norms, activations):
    def pair(gamma, beta, eps, x):
        d = len(gamma)
        rows = (x - x.sum(-1, keepdims=True) / d).reshape(-1, d)
        gain = gamma / np.average(np.sqrt(np.einsum("nd,nd->n", rows, rows) / d + eps))
        A = np.tile(-gain[:, None] / d, (1, d))
        A[np.diag_indices(d)] += gain
        return A, beta

    return tuple(pair(*norm, x) for norm, x in zip(norms, activations, strict=True))


def not_quite(dy, x, alpha, gamma):
    dx, dalpha, dgamma, dbeta = dyt_backward_torch(dy, x, alpha, gamma)
    return dx, dalpha * 3, dgamma, dbeta


class TestLifeWithout(Grading):
    assignment = "12-life-without"
    correct = {  # noqa: RUF012
        "dyt": (dyt_torch, dyt_sigmoid, dyt_loop),
        "dyt_backward": (dyt_backward_torch, dyt_backward_cosh, dyt_backward_loop),
        "standardize_weight": (standardize_flat, standardize_torch, standardize_loop),
        "weight_norm": (weight_norm_torch, weight_norm_jacobian, weight_norm_of_the_paper),
        "fixup_init": (fixup_loop, fixup_torch, fixup_by_variance),
        "freeze_layer_norm": (freeze_by_probing, freeze_torch, freeze_elementwise),
        "huge_eps_trick": (
            lambda gamma, sigma: (1e8 / sigma * gamma, 1e16),
            lambda gamma, sigma: (torch.from_numpy(gamma) * 1e6, 1e12 * sigma**2),
            lambda gamma, sigma: (gamma * np.sqrt(1e10) / sigma, np.array([1e10])),
            lambda gamma, sigma: [(gamma * 2.0**30 / sigma).astype(np.float32), 2**60],
        ),
    }
    wrong = (
        ("dyt", lambda x, alpha, gamma, beta: gamma, "has shape"),
        ("dyt_backward", not_quite, "dalpha is off by"),
        ("dyt_backward", lambda dy, x, alpha, gamma: (dy, alpha), "expected 4 return values"),
        (
            "standardize_weight",
            lambda w, eps: torch.nn.functional.layer_norm(torch.tensor(w), w.shape[1:]),
            "calls tor",
        ),
        ("weight_norm", lambda v, g, dw: (v, dw + v, g), "Σ dv·v over an output"),
        ("weight_norm", lambda v, g, dw: (v, dw), "expected 3 return values (w, dv, dg)"),
        ("fixup_init", lambda z: z[0], "one array a layer of the branch"),
        ("fixup_init", lambda z: [each[0] for each in z], "has shape"),
        ("freeze_layer_norm", lambda norms, activations: [], "one pair (A, c) a norm"),
        ("freeze_layer_norm", lambda norms, activations: [beta for _, beta, _ in norms], "expected 2 return values"),
        ("huge_eps_trick", lambda gamma, sigma: gamma, "expected 2 return values (gamma, eps)"),
        ("huge_eps_trick", lambda gamma, sigma: (gamma[:1], 1e12), "gamma: expected shape"),
        ("huge_eps_trick", lambda gamma, sigma: (gamma, gamma), "eps: expected a number"),
    )
