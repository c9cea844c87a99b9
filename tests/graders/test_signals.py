"""Right answers to assignment 1, written differently."""

import math

import numpy as np
import torch
from graders_helpers import Grading


def factor_by_integration(sigma_w2, act):
    z = (np.arange(1, 4001) - 0.5) / 4000  # sizes of a signal: each occurs with either sign
    signal = np.concatenate([z, -z])
    phi = {
        "linear": lambda a: a,
        "relu": lambda a: np.where(a > 0, a, 0),
        "leaky_relu": lambda a: np.where(a > 0, a, a / 10),
        "abs": np.abs,
    }[act]
    return sigma_w2 * np.mean(phi(signal) ** 2) / np.mean(signal**2)


def factor_by_cases(variance, name):
    if name in ("linear", "abs"):
        return variance
    return torch.tensor(variance, dtype=torch.float64) * (0.5 if name == "relu" else 0.505)


def factor_by_slopes(sigma_w2, act):
    left, right = {"linear": (1, 1), "relu": (0, 1), "leaky_relu": (0.1, 1), "abs": (-1, 1)}[act]
    return np.float64(sigma_w2 * (left * left + right * right) / 2)


def he_uniform(fan_in, fan_out, rng):
    return rng.uniform(-1, 1, size=(fan_out, fan_in)) * np.sqrt(6 / fan_in)


def he_signs(fan_in, fan_out, rng):
    return (2 * rng.integers(2, size=(fan_out, fan_in)) - 1) * (2 / fan_in) ** 0.5


def he_torch(fan_in, fan_out, rng):
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    return torch.randn(fan_in, fan_out, generator=generator).T * math.sqrt(2 / fan_in)


def he_by_rows(n_in, n_out, generator):
    return np.array([math.sqrt(2) * generator.standard_normal(n_in) / math.sqrt(n_in) for _ in range(n_out)])


def propagate_torch(x, Ws, act):
    a, function = torch.from_numpy(x), {"relu": torch.relu, "tanh": torch.tanh}[act]
    squares = [a.square().mean().item()]
    for W in Ws:
        a = torch.nn.functional.linear(function(a), torch.from_numpy(W))
        squares.append(a.square().mean().item())
    return squares


def propagate_einsum(x, Ws, act):
    a, out = x.T, [np.vdot(x, x) / x.size]
    for W in Ws:
        a = np.einsum("oi,in->on", W, np.where(a > 0, a, 0) if act == "relu" else np.tanh(a))
        out += [np.linalg.norm(a) ** 2 / a.size]
    return np.array(out)


def propagate_by_example(x, Ws, act):
    def squares(row, left):
        after = [left[0] @ (np.clip(row, 0, None) if act == "relu" else np.tanh(row))] if left else []
        return [np.mean(row**2), *(squares(after[0], left[1:]) if after else [])]

    return tuple(np.mean([squares(row, list(Ws)) for row in x], axis=0))


def slope_lstsq(squares):
    design = np.column_stack([np.ones(len(squares)), np.arange(len(squares))])
    return np.exp(np.linalg.lstsq(design, np.log(squares), rcond=None)[0][1])


def slope_covariance(squares):
    layers = torch.arange(len(squares), dtype=torch.float64)
    c = torch.cov(torch.stack([layers, torch.from_numpy(squares).log()]))
    return 2.0 ** (c[0, 1] / c[0, 0] / math.log(2))


def slope_base_ten(squares):
    y, n = [math.log10(each) for each in squares], len(squares)
    numerator = sum((i - (n - 1) / 2) * each for i, each in enumerate(y))
    return 10 ** (12 * numerator / (n * (n * n - 1)))


def overflow_loop(sigma_w2, largest):
    layer, size = 0, 1.0
    if sigma_w2 <= 2:
        return float("inf")
    while size <= largest:
        layer, size = layer + 1, size * math.sqrt(sigma_w2 / 2)
    return layer


def overflow_ceil(sigma_w2, largest):
    rate = np.log2(sigma_w2) - 1  # of the mean square, in doublings
    return np.ceil(2 * np.log2(largest) / rate) if rate > 0 else np.inf


def overflow_int(sigma_w2, largest):
    if not sigma_w2 > 2:
        return torch.tensor(torch.inf)
    return 1 + int(torch.tensor(largest, dtype=torch.float64).log() / (0.5 * math.log(sigma_w2 / 2)))


def gain_antithetic(act, n_mc):
    z = np.random.default_rng(3).normal(size=n_mc)
    return ((np.square(act(z)).sum() + np.square(act(-z)).sum()) / (2 * n_mc)) ** -0.5


def gain_torch(act, n_mc):
    z = torch.randn(n_mc, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return torch.from_numpy(act(z.numpy())).square().mean().rsqrt()


def gain_of_a_layer(act, n_mc):  # in pieces
    rng = np.random.default_rng(8)
    parts = [act(rng.standard_normal(len(part))) for part in np.array_split(np.arange(n_mc), 10)]
    return 1 / math.sqrt(np.concatenate(parts).var() + np.concatenate(parts).mean() ** 2)


def gradients_autograd(x, Ws, da):
    a = torch.tensor(x, requires_grad=True)
    signals = [a]
    for W in Ws:
        a = torch.relu(a) @ torch.tensor(W).T
        a.retain_grad()
        signals.append(a)
    a.backward(torch.tensor(da))
    return [each.grad.square().mean() for each in signals]


def gradients_by_jacobian(x, Ws, da):
    total = np.zeros(len(Ws) + 1)
    for row, top in zip(x, da, strict=True):
        a, jacobians = row, []
        for W in Ws:
            jacobians.append(W * (a > 0))
            a = W @ np.maximum(a, 0)
        total[-1] += np.mean(top**2)
        for i in range(len(Ws)):
            J = np.linalg.multi_dot([np.eye(len(top)), *jacobians[i:][::-1]])
            total[i] += np.mean((J.T @ top) ** 2)
    return total / len(x)


def gradients_recursive(x, Ws, da):
    if not len(Ws):
        return [np.mean(da * da)]

    def back(a, left):
        if not left:
            return da, [np.mean(da**2)]
        above, squares = back(np.einsum("ni,oi->no", np.clip(a, 0, None), left[0]), left[1:])
        here = np.where(a > 0, np.einsum("no,oi->ni", above, left[0]), 0.0)
        return here, [np.mean(here**2), *squares]

    return back(x, list(Ws))[1]


class TestSignals(Grading):
    assignment = "01-signals"
    correct = {  # noqa: RUF012
        "variance_factor": (factor_by_integration, factor_by_cases, factor_by_slopes),
        "he_init": (he_uniform, he_signs, he_torch, he_by_rows),
        "propagate": (propagate_torch, propagate_einsum, propagate_by_example),
        "factor_per_layer": (slope_lstsq, slope_covariance, slope_base_ten),
        "overflow_layer": (overflow_loop, overflow_ceil, overflow_int),
        "critical_gain": (gain_antithetic, gain_torch, gain_of_a_layer),
        "gradient_squares": (gradients_autograd, gradients_by_jacobian, gradients_recursive),
    }
    wrong = (
        ("variance_factor", lambda sigma_w2, act: sigma_w2 / 2 if act == "relu" else 7.0, "leaky_relu: factor is off"),
        ("he_init", lambda n, m, rng: rng.normal(size=(m, n)) / n, "multiplies the mean square by"),
        ("he_init", lambda n, m, rng: rng.normal(size=m), "expected (fan_out, fan_in)"),
        ("he_init", lambda n, m, rng: np.zeros((m, n)), "times their size"),
        ("propagate", lambda x, Ws, act: [0.0], "mean squares has shape"),
        ("overflow_layer", lambda sigma_w2, largest: 3, "such a signal never overflows: math.inf"),
        ("critical_gain", lambda act, n_mc: -1.0, "multiplies the mean square by"),
        ("critical_gain", lambda act, n_mc: act(np.ones(n_mc)), "expected a number"),
        ("gradient_squares", lambda x, Ws, da: [np.mean((da @ Ws[-1]) ** 2)] * 9, "expected (5,)"),
    )
