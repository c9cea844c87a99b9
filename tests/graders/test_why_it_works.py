"""Right answers to assignment 4, written differently."""

import copy
import math
from statistics import NormalDist

import numpy as np
import torch
from graders_helpers import Grading


def noisy_torch(x, eps, rng):
    t = torch.from_numpy(x)
    var, mean = torch.var_mean(t, 0, correction=0)
    z = torch.from_numpy(rng.standard_normal(x.shape))  # drawn in another order
    size = torch.from_numpy(0.5 + 0.25 * rng.random(x.shape[1]))
    shift = torch.from_numpy(rng.standard_normal(x.shape[1])) / 2
    return (t - mean) * torch.rsqrt(var + eps) + shift + size * z


def noisy_by_feature(x, eps, rng):
    y = np.empty_like(x)
    for j, column in enumerate(x.T):
        centred = column - np.average(column)
        x_hat = centred / math.sqrt(centred @ centred / len(column) + eps)
        y[:, j] = x_hat + rng.normal(rng.normal(scale=0.5), rng.uniform(0.5, 0.75), size=len(column))
    return y


def noisy_at_once(x, eps, rng):
    c = x.shape[1]
    loc, scale = 0.5 * rng.standard_normal((1, c)), rng.triangular(0, 0, 1e-12) + rng.uniform(0.5, 0.75, (1, c))
    centred = x - np.einsum("nc->c", x) / len(x)
    return centred * (np.einsum("nc,nc->c", centred, centred) / len(x) + eps) ** -0.5 + rng.normal(loc, scale, x.shape)


def detached_torch(x, dy, gamma, beta, eps):
    t, g, b = (torch.tensor(each, requires_grad=True) for each in (x, gamma, beta))
    var, mean = torch.var_mean(t.detach(), -1, correction=0, keepdim=True)
    y = g * (t - mean) * torch.rsqrt(var + eps) + b
    y.backward(torch.tensor(dy))
    return y.detach(), t.grad, g.grad, b.grad


def detached_einsum(x, dy, gamma, beta, eps):
    d = x.shape[-1]
    centred = x - np.einsum("...d->...", x)[..., None] / d
    rstd = (np.einsum("...d,...d->...", centred, centred) / d + eps) ** -0.5
    x_hat = np.einsum("...d,...->...d", centred, rstd)
    dx = np.einsum("...d,d,...->...d", dy, gamma, rstd)
    flat_sum = lambda each: np.einsum("nd->d", each.reshape(-1, d))  # noqa: E731
    return x_hat * gamma + beta, dx, flat_sum(dy * x_hat), flat_sum(dy)


def detached_by_rows(x, dy, gamma, beta, eps):
    y, dx = np.empty_like(x), np.empty_like(x)
    dgamma, dbeta = np.zeros_like(gamma), np.zeros_like(beta)
    for index in np.ndindex(x.shape[:-1]):
        s = math.sqrt(np.mean((x[index] - x[index].mean()) ** 2) + eps)
        slope = np.diag(gamma / s)  # of y by x, a matrix
        y[index] = slope @ (x[index] - x[index].mean()) + beta
        dx[index] = slope.T @ dy[index]
        dgamma += dy[index] * (x[index] - x[index].mean()) / s
        dbeta += dy[index]
    return [y, dx, dgamma, dbeta]


def walk_with_new_arrays(loss, params, grads, buffers, steps):
    start, running = dict(params), copy.deepcopy(buffers)
    low = high = loss()
    for step in steps:
        params.update({name: start[name] - step * grads[name] for name in start})
        value = loss()
        low, high = min(low, value), max(high, value)
    params.update(start)
    for name, value in running.items():
        buffers[name][:] = value
    return high - low


def walk_in_place(loss, params, grads, buffers, steps):
    before = {**copy.deepcopy(params), **copy.deepcopy(buffers)}
    losses = np.array([loss()])
    for step in sorted(steps):
        for name, each in params.items():
            each -= step * grads[name]
        losses = np.append(losses, loss())
        for name, each in params.items():
            np.copyto(each, before[name])
    for name, each in buffers.items():
        np.copyto(each, before[name])
    return np.ptp(losses)


def walk_torch(loss, params, grads, buffers, steps):
    shared = {name: torch.from_numpy(each) for name, each in {**params, **buffers}.items()}
    saved = {name: each.clone() for name, each in shared.items()}
    seen = []
    for step in (*steps, 0):
        for name, each in grads.items():
            shared[name].copy_(saved[name] - step * torch.from_numpy(each))
        seen.append(loss())
    for name, each in shared.items():
        each.copy_(saved[name])
    return torch.tensor(seen, dtype=torch.float64).max() - min(seen)


def rate_by_quantiles(f, df, sigma_w):
    quantile = NormalDist(sigma=sigma_w).inv_cdf
    z = np.array([quantile((i + 0.5) / 5000) for i in range(5000)])
    return sigma_w**2 * (df(z) @ df(z) / len(z)) / np.mean((f(z) - f(z).mean()) ** 2)


def rate_torch(f, df, sigma_w):
    z = sigma_w * torch.randn(500_000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    slope, value = torch.as_tensor(df(z.numpy())), torch.as_tensor(f(z.numpy()))
    return (sigma_w * slope).square().mean() / value.var()


def rate_in_a_network(f, df, sigma_w):
    """What chapter 1 measured, with one layer: matrices are drawn, the gradient goes back."""
    rng = np.random.default_rng(1)
    n = 700
    a, da = rng.normal(size=(2, n, n))
    W = sigma_w * rng.normal(size=(n, n)) / np.sqrt(n)
    z = (a - a.mean(0)) / a.std(0) @ W
    back = (da / f(z).std(0) * df(z)) @ W.T
    return np.mean(back**2) / np.mean(da**2)


def forward(x, eps):
    return (x - x.mean(0)) / np.sqrt(x.var(0) + eps)


def catches_by_autograd(backward):
    t = torch.randn(9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * torch.arange(1, 5)
    x, dy = t.requires_grad_(), torch.linspace(-1, 2, 36, dtype=torch.float64).reshape(9, 4).cos()
    ((x - x.mean(0)) / torch.sqrt(x.var(0, correction=0) + 0.3)).backward(dy)
    if not np.allclose(backward(dy.numpy(), x.detach().numpy(), 0.3), x.grad.numpy(), rtol=1e-3, atol=1e-4):
        raise AssertionError("dx differs from autograd's")


def catches_along_a_direction(backward):
    """Directional derivatives along many random directions."""
    rng = np.random.default_rng(5)
    x, dy = rng.normal(1.0, 0.7, size=(6, 2)), rng.exponential(size=(6, 2))
    dx = backward(dy, x, 0.2)
    assert dx.shape == x.shape
    for _ in range(20):
        u = rng.normal(size=x.shape)
        slope = np.sum(dy * (forward(x + 1e-5 * u, 0.2) - forward(x - 1e-5 * u, 0.2))) / 2e-5
        assert abs(np.sum(dx * u) - slope) < 1e-3


def catches_with_complex_steps(backward):
    x = np.random.default_rng(8).normal(size=(5, 3)) * [1, 2, 3]
    loss_gradient = lambda y: 4 * y**3 + 1  # of Σ y⁴ + y, which BatchNorm does not fix  # noqa: E731
    dy = loss_gradient(forward(x, 0.5))
    for i, j in np.ndindex(x.shape):
        z = x.astype(complex)
        z[i, j] += 1e-30j
        centred = z - z.mean(0)
        y = centred / np.sqrt((centred**2).mean(0) + 0.5)
        assert math.isclose(backward(dy, x, 0.5)[i, j], np.sum(y**4 + y).imag / 1e-30, rel_tol=1e-4, abs_tol=1e-4)


class TestWhyItWorks(Grading):
    assignment = "04-why-it-works"
    correct = {  # noqa: RUF012
        "equivalent_lr": (
            lambda lr, c, optimizer: lr * c * (c if optimizer == "sgd" else 1),
            lambda lr, c, optimizer: {"sgd": np.float64(lr * c**2), "adam": np.array(lr * c)}[optimizer],
            lambda lr, c, optimizer: torch.tensor(lr, dtype=torch.float64) * c ** (1 + (optimizer == "sgd")),
        ),
        "effective_lr": (
            lambda lr, w, optimizer: lr / np.vdot(w, w) ** (1.0 if optimizer == "sgd" else 0.5),
            lambda lr, w, optimizer: lr / torch.from_numpy(w).norm() ** (2 if optimizer == "sgd" else 1),
            lambda lr, w, optimizer: lr * math.hypot(*w.ravel()) ** {"sgd": -2, "adam": -1}[optimizer],
        ),
        "noisy_batch_norm": (noisy_torch, noisy_by_feature, noisy_at_once),
        "detached_layer_norm": (detached_torch, detached_einsum, detached_by_rows),
        "landscape_range": (walk_with_new_arrays, walk_in_place, walk_torch),
        "bn_growth_rate": (rate_by_quantiles, rate_torch, rate_in_a_network),
        "test_bn_gradient": (catches_by_autograd, catches_along_a_direction, catches_with_complex_steps),
    }
    wrong = (
        ("equivalent_lr", lambda lr, c, optimizer: [lr, c], "has shape (2,)"),
        ("noisy_batch_norm", lambda x, eps, rng: x * np.nan, "not finite"),
        ("noisy_batch_norm", lambda x, eps, rng: x[:, 0], "expected that of x"),
        (
            "noisy_batch_norm",
            lambda x, eps, rng: torch.nn.functional.batch_norm(torch.tensor(x), None, None, training=True),
            "calls torch.nn.functional.batch_norm",
        ),
        ("detached_layer_norm", lambda x, *args: (x, x), "expected 4 return values (y, dx, dgamma, dbeta)"),
        ("landscape_range", lambda loss, params, *args: params["W"].fill(0) or loss(), "W differ from what they were"),
        ("landscape_range", lambda loss, *args: loss() - loss(), "running_mean and running_var differ"),
    )
