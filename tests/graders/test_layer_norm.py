"""Right answers to assignment 3, written differently."""

import numpy as np
import torch
from graders_helpers import Grading

from lnorm.checks import exercise


def forward_einsum(x, normalized_shape, gamma, beta, eps):
    rows = x.reshape(-1, int(np.prod(normalized_shape)))
    d = rows.shape[1]
    centred = rows - np.einsum("nd->n", rows)[:, None] / d
    rstd = (np.einsum("nd,nd->n", centred, centred) / d + eps) ** -0.5
    return np.einsum("nd,n->nd", centred, rstd).reshape(x.shape) * gamma + beta


def forward_torch(x, normalized_shape, gamma, beta, eps):
    t = torch.from_numpy(x)
    dims = tuple(range(-len(normalized_shape), 0))
    var, mean = torch.var_mean(t, dims, correction=0, keepdim=True)
    return torch.addcmul(torch.from_numpy(beta), torch.from_numpy(gamma), (t - mean) * torch.rsqrt(var + eps))


def forward_welford(x, normalized_shape, gamma, beta, eps):
    y = np.empty_like(x)
    for index in np.ndindex(x.shape[: x.ndim - len(normalized_shape)]):
        mean = m2 = 0.0
        for n, value in enumerate(x[index].ravel().astype(float), start=1):
            delta = value - mean
            mean += delta / n
            m2 += delta * (value - mean)
        y[index] = (x[index] - mean) / np.sqrt(m2 / x[index].size + eps) * gamma + beta
    return y


def forward_float64(values, shape, gain, bias, epsilon):  # arguments renamed: only their order counts
    wide = np.array(values, dtype=np.float64, order="C")
    flat = wide.reshape(*wide.shape[: wide.ndim - len(shape)], -1)
    mean, std = flat.mean(-1), np.sqrt(flat.var(-1) + epsilon)
    return (((flat - mean[..., None]) / std[..., None]).reshape(wide.shape) * gain + bias).astype(values.dtype)


def backward_torch(dy, x, normalized_shape, gamma, eps):
    t, g = torch.tensor(x, requires_grad=True), torch.tensor(gamma, requires_grad=True)
    b = torch.zeros(normalized_shape, dtype=t.dtype, requires_grad=True)
    dims = tuple(range(-len(normalized_shape), 0))
    centred = t - t.mean(dims, keepdim=True)
    (centred / torch.sqrt((centred**2).mean(dims, keepdim=True) + eps) * g + b).backward(torch.tensor(dy))
    return t.grad, g.grad, b.grad


def backward_jacobian(dy, x, normalized_shape, gamma, eps):
    d = int(np.prod(normalized_shape))
    rows, g = x.reshape(-1, d), (dy * gamma).reshape(-1, d)
    dx = np.empty_like(rows)
    x_hat = np.empty_like(rows)
    for i, row in enumerate(rows):
        s = np.sqrt(row.var() + eps)
        x_hat[i] = (row - row.mean()) / s
        jacobian = (np.eye(d) - 1 / d - np.outer(x_hat[i], x_hat[i]) / d) / s
        dx[i] = jacobian @ g[i]
    flat = dy.reshape(-1, d)
    return dx.reshape(x.shape), (flat * x_hat).sum(0).reshape(normalized_shape), flat.sum(0).reshape(normalized_shape)


def backward_through_moments(dy, x, normalized_shape, gamma, eps):
    axes = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    d = np.prod(normalized_shape)
    mu = x.mean(axes, keepdims=True)
    var = x.var(axes, keepdims=True)
    dxhat = dy * gamma
    dvar = np.sum(dxhat * (x - mu) * -0.5 * (var + eps) ** -1.5, axes, keepdims=True)
    dmu = -np.sum(dxhat / np.sqrt(var + eps), axes, keepdims=True)
    dx = dxhat / np.sqrt(var + eps) + dvar * 2 * (x - mu) / d + dmu / d
    batch = tuple(range(axes[0]))
    return dx, np.sum(dy * (x - mu) / np.sqrt(var + eps), batch), np.sum(dy, batch)


def r2_lstsq(z, x):
    residual = 0.0
    for j in range(x.shape[1]):
        design = np.column_stack([z[:, j], np.ones(len(z))])
        residual += np.sum((x[:, j] - design @ np.linalg.lstsq(design, x[:, j], rcond=None)[0]) ** 2)
    return 1 - residual / np.sum((x - x.mean(0)) ** 2)


def r2_correlation(z, x):
    share = np.zeros(x.shape[1])
    for j in range(x.shape[1]):
        if z[:, j].std() > 0:
            share[j] = np.corrcoef(z[:, j], x[:, j])[0, 1] ** 2
    return np.array(np.sum(share * x.var(0)) / np.sum(x.var(0)))


def r2_torch(z, x):
    z, x = torch.from_numpy(z - z.mean(0)), torch.from_numpy(x - x.mean(0))
    slope = torch.nan_to_num((z * x).sum(0) / (z * z).sum(0))
    return 1 - ((x - slope * z) ** 2).sum() / (x**2).sum()


def invariances_torch(norm):
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 2

    def unchanged(change, kept=slice(None)):
        y = x.clone()
        change(y)
        return bool((torch.as_tensor(norm(x.numpy())) - torch.as_tensor(norm(y.numpy())))[kept].abs().max() < 1e-8)

    return {
        "shift of a row": unchanged(lambda y: y[0].add_(1)),
        "scale of a row": unchanged(lambda y: y[0].mul_(4)),
        "shift of a feature": unchanged(lambda y: y[:, 1].sub_(5)),
        "scale of a feature": unchanged(lambda y: y[:, 1].mul_(0.5)),
        "other rows": unchanged(lambda y: y[0].copy_(torch.arange(5) ** 2), slice(1, None)),
    }


def invariances_many_trials(norm):
    rng = np.random.default_rng(9)
    found = dict.fromkeys(("shift of a row", "scale of a row", "shift of a feature", "scale of a feature"), True)
    found["other rows"] = True
    for _ in range(5):
        x = rng.normal(size=(5, 4)) + rng.normal(size=(5, 1))
        y = norm(x)
        i, j, c = rng.integers(5), rng.integers(4), rng.uniform(1.5, 3)
        for key, where, a, b in (
            ("shift of a row", (i,), 1, c),
            ("scale of a row", (i,), c, 0),
            ("shift of a feature", (slice(None), j), 1, c),
            ("scale of a feature", (slice(None), j), c, 0),
        ):
            changed = x.copy()
            changed[where] = a * changed[where] + b
            found[key] &= bool(np.max(np.abs(norm(changed) - y)) < 1e-8)
        changed = x.copy()
        changed[i] = rng.normal(size=4) * 3
        others = np.arange(5) != i
        found["other rows"] &= bool(np.max(np.abs(norm(changed) - y)[others]) < 1e-8)
    return found


def invariances_by_outer_products(norm):
    x = np.random.default_rng(1).normal(3.0, 1.0, size=(4, 7))
    first_row, first_feature = np.eye(4)[0][:, None] * np.ones(7), np.ones((4, 1)) * np.eye(7)[0]
    other = np.where(first_row > 0, np.sin(5 * x) * 9, x)
    close = lambda a, b: all(abs(p - q) < 1e-8 for p, q in zip(a.ravel(), b.ravel(), strict=True))  # noqa: E731
    return {
        "other rows": close(norm(other)[1:], norm(x)[1:]),
        "shift of a row": close(norm(x - first_row), norm(x)),
        "scale of a row": close(norm(x * 2.0**first_row), norm(x)),
        "shift of a feature": close(norm(x - first_feature), norm(x)),
        "scale of a feature": close(norm(x * 2.0**first_feature), norm(x)),
    }


def catches_by_shift(layer_norm):
    """Shifting a row by a power of two that float32 holds exactly must change next to nothing."""
    x = np.round(np.random.default_rng(4).normal(size=(50, 32)) * 64).astype(np.float32) / 64
    assert np.abs(layer_norm(x + np.float32(8192)) - layer_norm(x)).max() < 0.02


def catches_by_moments(layer_norm):
    y = layer_norm((np.random.default_rng(2).normal(size=(100, 48)) * 0.5 + 2e4).astype(np.float32)).astype(float)
    if not (np.isfinite(y).all() and np.all(np.abs(y.std(-1) - 1) < 0.05)):
        raise AssertionError("the rows do not have variance 1")


def catches_by_torch(layer_norm):
    x = torch.randn(16, 128, generator=torch.Generator().manual_seed(3)) + 1e4
    right = torch.nn.functional.layer_norm(x.double(), (128,))
    torch.testing.assert_close(torch.from_numpy(layer_norm(x.numpy())).double(), right, atol=0.05, rtol=0)


def two_mistakes(*args):
    wrong = exercise("layer_norm_backward").mistakes
    dx, _, _ = wrong["dx lacks the mean term: the mean of g is not subtracted"](*args)
    _, dgamma, dbeta = wrong["dgamma and dbeta swapped"](*args)
    return dx, dgamma, dbeta


def forward_without_keepdims(x, normalized_shape, gamma, beta, eps):
    """Right shapes on square inputs only."""
    axes = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    return gamma * (x - x.mean(axes)) / np.sqrt(x.var(axes) + eps) + beta


class TestLayerNorm(Grading):
    assignment = "03-layer-norm"
    correct = {  # noqa: RUF012
        "layer_norm": (forward_einsum, forward_torch, forward_welford, forward_float64),
        "layer_norm_backward": (backward_torch, backward_jacobian, backward_through_moments),
        "best_affine_r2": (r2_lstsq, r2_correlation, r2_torch),
        "collide": (
            lambda x: 3 * x + 100,
            lambda x: torch.from_numpy(x) * 0.5 + 7,
            lambda x: (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True) * 50 - 9,
        ),
        "rms_from_ln": (
            lambda W, b: ((np.eye(len(b)) - 1 / len(b)) @ W, (np.eye(len(b)) - 1 / len(b)) @ b),
            lambda W, b: [torch.from_numpy(W) - torch.from_numpy(W).mean(0, keepdim=True), b - np.average(b)],
            lambda W, b: (W - np.einsum("oi->i", W) / W.shape[0], b - b.sum() / b.size),
        ),
        "invariances": (invariances_torch, invariances_many_trials, invariances_by_outer_products),
        "largest_value": (
            lambda d: ([0.0] * (d - 1) + [7.0], (d - 1) ** 0.5),
            lambda d: (torch.eye(d)[0] * 3 - 5, torch.tensor(d - 1.0, dtype=torch.float64).sqrt()),
            lambda d: (np.where(np.arange(d) == d // 2, 1e3, -2.0), np.sqrt(d) * np.sqrt(1 - 1 / d)),
        ),
        "test_one_pass": (catches_by_shift, catches_by_moments, catches_by_torch),
    }
    wrong = (
        ("layer_norm_backward", two_mistakes, "dx lacks the mean term"),
        ("layer_norm_backward", two_mistakes, "dgamma and dbeta swapped"),
        ("layer_norm_backward", two_mistakes, "Σdx over a row"),
        ("layer_norm_backward", lambda *args: (1.0, 2.0), "expected 3 return values (dx, dgamma, dbeta), got 2 values"),
        ("layer_norm", lambda x, *args: x * np.nan, "not finite"),
        ("layer_norm", lambda x, *args: x[..., :2], "has shape"),
        ("layer_norm", forward_without_keepdims, "could not be broadcast"),
        ("layer_norm", lambda x, *args: np.array([None, {}], dtype=object), "expected an array of numbers"),
        ("layer_norm", lambda x, *args: x @ np.ones(1000), "in your line `"),
        ("layer_norm", lambda x, s, *args: torch.nn.functional.layer_norm(torch.tensor(x), s), "calls torch.nn.fun"),
        ("invariances", lambda norm: {"shift of a row": True}, "expected a dict with the keys"),
        ("collide", lambda x: x[:1], "expected that of x"),
    )
