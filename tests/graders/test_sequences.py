"""Right answers to assignment 6, written differently."""

import numpy as np
import torch
from graders_helpers import Grading

from lnorm.reference import masked_batch_norm


def spread_by_moments(share, mean, std, padding):
    first = share * mean + (1 - share) * padding
    second = share * (std**2 + mean**2) + (1 - share) * padding**2
    return std / np.sqrt(second - first**2)


def spread_by_a_batch(share, mean, std, padding):
    """Two kinds of tokens, one std above the mean and one below, and padding, weighted."""
    values, weights = np.array([mean - std, mean + std, padding]), np.array([share / 2, share / 2, 1 - share])
    scale = np.sqrt(np.sum(weights * (values - np.sum(weights * values)) ** 2))
    return np.std(values[:2] / scale)


def spread_torch(share, mean, std, padding):
    p, m, s, v = (torch.tensor(each, dtype=torch.float64) for each in (share, mean, std, padding))
    return torch.rsqrt(p + p * (1 - p) * ((m - v) / s) ** 2)


def over_time_with_where(x, mask, eps):
    keep = mask[:, :, None] & np.ones(x.shape, bool)
    keep = keep | ~mask.any(axis=1)[:, None, None]  # of an empty sequence take all, and throw it away below
    mean = np.mean(x, axis=(1, 2), where=keep, keepdims=True)
    var = np.mean((x - mean) ** 2, axis=(1, 2), where=keep, keepdims=True)
    return np.where(mask[:, :, None], (x - mean) / np.sqrt(var + eps), 0)


def over_time_torch(x, mask, eps):
    t, keep = torch.from_numpy(x), torch.from_numpy(mask)[..., None].expand(x.shape)
    out = torch.zeros_like(t)
    for n in range(len(t)):
        if keep[n].any():
            out[n][keep[n]] = torch.nn.functional.layer_norm(t[n][keep[n]], (int(keep[n].sum()),), eps=eps)
    return out


def over_time_einsum(x, mask, eps):
    clean = np.where(mask[..., None], x, 0.0)
    count = np.maximum(mask.sum(1) * x.shape[2], 1)
    mean = np.einsum("ntd->n", clean) / count
    clean = np.where(mask[..., None], clean - mean[:, None, None], 0.0)
    rstd = (np.einsum("ntd,ntd->n", clean, clean) / count + eps) ** -0.5
    return np.einsum("ntd,n->ntd", clean, rstd)


def influence_torch(f, x):
    n, t, d = x.shape
    before = torch.from_numpy(f(x, training=True))
    moved = torch.zeros(n * t, n * t, dtype=torch.bool)
    for i in range(n * t):
        edited = torch.from_numpy(x.copy()).view(n * t, d)
        edited[i] = torch.linspace(-4, 5, d) ** 2
        after = torch.from_numpy(f(edited.view(n, t, d).numpy(), training=True))
        moved[i] = ((after - before).abs() > 1e-9).any(-1).flatten()
    return moved


def influence_many_trials(f, x):
    total = 0.0
    for seed in range(3):
        rng, rows = np.random.default_rng(seed), []
        for i in range(x[..., 0].size):
            edited = x.copy()
            edited.reshape(-1, x.shape[-1])[i] += rng.normal(size=x.shape[-1])
            rows.append(np.abs(f(edited, True) - f(x, True)).sum(-1).reshape(-1))
        total = total + np.stack(rows)
    return total > 1e-8


def influence_restores(f, x):
    original, size = x.copy(), len(x) * x.shape[1]
    before = f(original, training=True)
    out = np.zeros((size, size), dtype=int)
    for n in range(x.shape[0]):
        for t in range(x.shape[1]):
            x[n, t] = original[n, t][::-1] * [2, -1, 0.5, 4, 3]
            change = np.linalg.norm(f(x, training=True) - before, axis=-1)
            out[n * x.shape[1] + t] = (change > 1e-9).ravel()
            x[n, t] = original[n, t]
    return out


def causal_by_the_matrix(f, x):
    moved = np.asarray(influence_torch(f, x))
    sequence, position = np.divmod(np.arange(len(moved)), x.shape[1])
    may = (sequence[:, None] == sequence) & (position[:, None] <= position)
    return not (moved & ~may).any()


def causal_one_position_at_a_time(f, x):
    """Keep a prefix of one sequence, draw all the rest anew, several times."""
    rng = np.random.default_rng(8)
    right = f(x, training=True)
    worst = 0.0
    for n in range(x.shape[0]):
        for length in range(1, x.shape[1] + 1):
            for scale in (1.0, 30.0):
                z = scale * rng.standard_normal(x.shape)
                z[n, :length] = x[n, :length]
                worst = max(worst, np.max(np.abs(f(z, training=True)[n, :length] - right[n, :length])))
    return bool(worst < 1e-9)


def causal_token_by_token(f, x):
    before = torch.from_numpy(f(x, training=True))
    for n, t in np.ndindex(*x.shape[:2]):
        z = x.copy()
        z[n, t] = 20 * np.cos(3 * np.arange(x.shape[2]) + n + t)
        change = (torch.from_numpy(f(z, training=True)) - before).abs().amax(-1)
        change[n, t:] = 0
        if change.max() > 1e-9:
            return np.False_
    return np.True_


def ln(z, eps):
    return torch.nn.functional.layer_norm(z, z.shape[-1:], eps=eps)


def rnn_torch(*args):
    x, h, W_x, W_h, gamma_x, gamma_h, b = (torch.from_numpy(each) for each in args[:-1])
    return torch.tanh(torch.addcmul(b, gamma_x, ln(x @ W_x.T, args[-1])) + gamma_h * ln(h @ W_h.T, args[-1]))


def rnn_einsum(x, h, W_x, W_h, gamma_x, gamma_h, b, eps):
    total = b
    for rows, weight, gain in ((x, W_x, gamma_x), (h, W_h, gamma_h)):
        z = np.einsum("ni,ui->nu", rows, weight - weight.mean(0))  # centring belongs to the weights
        total = total + gain * z * (np.einsum("nu,nu->n", z, z)[:, None] / len(b) + eps) ** -0.5
    return np.tanh(total)


def rnn_row_by_row(inputs, state, w_in, w_rec, g_in, g_rec, bias, epsilon):
    out = []
    for x, h in zip(inputs, state, strict=True):
        a, r = w_in @ x, w_rec @ h
        a, r = (a - a.mean()) / np.sqrt(a.var() + epsilon), (r - r.mean()) / np.sqrt(r.var() + epsilon)
        out.append(np.tanh(g_in * a + g_rec * r + bias))
    return np.array(out)


def lstm_torch(*args):
    x, h, c, W_x, W_h, gamma_x, gamma_h, b, gamma_c, beta_c = (torch.from_numpy(each) for each in args[:-1])
    gates = gamma_x * ln(x @ W_x.T, args[-1]) + gamma_h * ln(h @ W_h.T, args[-1]) + b
    i, f, g, o = gates.chunk(4, dim=-1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * torch.tanh(gamma_c * ln(c, args[-1]) + beta_c), c


def lstm_row_by_row(x, h, c, W_x, W_h, gamma_x, gamma_h, b, gamma_c, beta_c, eps):
    def norm(z):
        z = z - z.mean()
        return z / np.sqrt(z @ z / len(z) + eps)

    new_h, new_c = np.empty_like(h), np.empty_like(c)
    for n in range(len(x)):
        z = (gamma_x * norm(W_x @ x[n]) + gamma_h * norm(W_h @ h[n]) + b).reshape(4, -1)
        i, f, o = (0.5 + 0.5 * np.tanh(z[k] / 2) for k in (0, 1, 3))
        new_c[n] = f * c[n] + i * np.tanh(z[2])
        new_h[n] = o * np.tanh(gamma_c * norm(new_c[n]) + beta_c)
    return new_h, new_c


def lstm_einsum(x, h, c, W_x, W_h, gamma_x, gamma_h, b, gamma_c, beta_c, eps):
    def norm(z):
        centred = z - np.einsum("...u->...", z)[..., None] / z.shape[-1]
        return centred / np.sqrt(np.mean(np.square(centred), axis=-1)[..., None] + eps)

    units = h.shape[1]
    z = gamma_x * norm(np.einsum("ni,gi->ng", x, W_x)) + gamma_h * norm(np.einsum("nu,gu->ng", h, W_h)) + b
    gate = lambda k: z[:, k * units : (k + 1) * units]  # noqa: E731
    cell = c / (1 + np.exp(-gate(1))) + np.tanh(gate(2)) / (1 + np.exp(-gate(0)))
    return [np.tanh(gamma_c * norm(cell) + beta_c) / (1 + np.exp(-gate(3))), cell]


def in_pieces(model, x, lengths):
    cache, out, start = None, [], 0
    for length in lengths:
        y, cache = model(x[start : start + length], cache)
        out.append(y)
        start += length
    return np.concatenate(out)


def decoding_of_many_lengths(model):
    for n in (5, 33, 64):
        x = np.random.default_rng(n).normal(size=(n, 6))
        right = model(x)[0]
        for lengths in ([1] * n, [2, n - 2], [n - 1, 1]):
            np.testing.assert_allclose(in_pieces(model, x, lengths), right, atol=1e-3)


def decoding_against_itself(model):
    """Any two ways to cut a sequence must agree, the uncut one among them."""
    x = 2 * np.random.default_rng(1).normal(size=(60, 6))
    ways = [in_pieces(model, x, lengths) for lengths in ([60], [1] * 60, [20, 20, 20], [1, 29, 30])]
    for one in ways[1:]:
        if not np.allclose(one, ways[0], atol=1e-3):
            raise AssertionError("a cut shows")


def decoding_torch(model):
    x = torch.randn(48, 6, generator=torch.Generator().manual_seed(0)).double().numpy()
    for lengths in ([1] * 48, [6] * 8):
        torch.testing.assert_close(
            torch.from_numpy(in_pieces(model, x, lengths)), torch.from_numpy(model(x)[0]), atol=1e-3, rtol=1e-3
        )


class TestSequences(Grading):
    assignment = "06-sequences"
    correct = {  # noqa: RUF012
        "spread_behind_batch_norm": (spread_by_moments, spread_by_a_batch, spread_torch),
        "masked_layer_norm_over_time": (over_time_with_where, over_time_torch, over_time_einsum),
        "influence_matrix": (influence_torch, influence_many_trials, influence_restores),
        "is_causal": (causal_by_the_matrix, causal_one_position_at_a_time, causal_token_by_token),
        "ln_rnn_cell": (rnn_torch, rnn_einsum, rnn_row_by_row),
        "ln_lstm_cell": (lstm_torch, lstm_row_by_row, lstm_einsum),
        "test_incremental_decoding": (decoding_of_many_lengths, decoding_against_itself, decoding_torch),
    }
    wrong = (
        ("masked_layer_norm_over_time", lambda x, mask, eps: masked_batch_norm(x, mask)[0], "calls lnorm.reference"),
        ("influence_matrix", lambda f, x: np.zeros((2, 2), bool), "has shape"),
        ("influence_matrix", lambda f, x: np.eye(15, dtype=bool), "should be True"),
        ("is_causal", lambda f, x: "yes", "expected True or False, got str"),
        ("is_causal", lambda f, x: [True], "expected True or False, got list"),
        ("ln_lstm_cell", lambda *args: args[1], "expected 2 return values (h, c), got ndarray"),
    )
