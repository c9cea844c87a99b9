"""Right answers to assignment 10, written differently."""

import math
from fractions import Fraction

import numpy as np
import torch
from graders_helpers import Grading


def gain_hypot(sigma, eps):
    return np.asarray(sigma) / np.hypot(sigma, math.sqrt(eps))


def gain_torch(sigma, eps):
    var = torch.as_tensor(sigma, dtype=torch.float64) ** 2
    return torch.sqrt(var / (var + eps))


def gain_of_real_rows(sigma, eps):
    rows = np.asarray(sigma)[..., None] * np.array([1.0, -1.0, 1.0, -1.0])
    return (rows / np.sqrt(rows.var(-1, keepdims=True) + eps)).std(-1)


def eps_by_halving(exponent_bits, fraction_bits):
    """Halve the smallest normal number as often as the fraction has bits."""
    eps = Fraction(1)
    for _ in range(2 ** (exponent_bits - 1) - 2 + fraction_bits):
        eps /= 2
    return float(eps)


def eps_by_ldexp(exponent_bits, fraction_bits):
    bias = (1 << (exponent_bits - 1)) - 1
    return math.ldexp(1.0, 1 - bias - fraction_bits)


def eps_torch(exponent_bits, fraction_bits):
    smallest_normal = torch.tensor(2.0, dtype=torch.float64) ** (2 - 2 ** (exponent_bits - 1))
    return smallest_normal / 2**fraction_bits


def threshold_by_fractions(exponent_bits, fraction_bits, terms):
    limit = 2 ** (2 ** (exponent_bits - 1)) - Fraction(2) ** (2 ** (exponent_bits - 1) - 2 - fraction_bits)
    return math.sqrt(limit / terms)


def threshold_by_bisection(exponent_bits, fraction_bits, terms):
    top = 2.0 ** (2 ** (exponent_bits - 1) - 1)
    limit = top * (1 + (2**fraction_bits - 1) / 2**fraction_bits + 0.5 / 2**fraction_bits)
    low, high = 0.0, 2.0 ** (2 ** (exponent_bits - 2) + 1)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if terms * middle * middle < limit else (low, middle)
    return np.float64(high)


def threshold_torch(exponent_bits, fraction_bits, terms):
    limit = torch.tensor(2 - 2.0 ** -(fraction_bits + 1), dtype=torch.float64)
    return torch.sqrt(limit.ldexp(torch.tensor(2 ** (exponent_bits - 1) - 1)) / terms)


def safe_float64(x, gamma, beta, eps):
    x, gamma, beta = (each.astype(np.float64) for each in (x, gamma, beta))
    return (gamma * (x - x.mean(1)[:, None]) / np.sqrt(x.var(1) + eps)[:, None] + beta).astype(np.float16)


def safe_torch(x, gamma, beta, eps):
    t = torch.from_numpy(x).float()
    var, mean = torch.var_mean(t, -1, correction=0, keepdim=True)
    y = (t - mean) * torch.rsqrt(var + eps)
    return (y * torch.from_numpy(gamma).float() + torch.from_numpy(beta).float()).half()


def safe_einsum(x, gamma, beta, eps):
    d = x.shape[1]
    wide = x.astype(np.longdouble)
    centred = wide - np.einsum("nd->n", wide)[:, None] / d
    rstd = (np.einsum("nd,nd->n", centred, centred) / d + eps) ** -0.5
    return np.float16(np.einsum("nd,n,d->nd", centred, rstd, gamma.astype(np.longdouble)) + beta)


def scale_by_casting(gradient, share):
    alive = gradient[gradient != 0]
    for power in range(60):
        with np.errstate(over="ignore", under="ignore"):
            stored = (alive * 2.0**power).astype(np.float16)
        if alive.size == 0 or np.mean(stored == 0) <= share:
            return 0.0 if np.isinf(stored).any() else 2.0**power
    return 0.0


def scale_by_sorting(gradient, share):
    size = np.sort(np.abs(gradient), axis=None)
    size = size[size > 0]
    if len(size) == 0:
        return 1
    first_kept = size[math.floor(share * len(size) + 1e-12)] if share * len(size) < len(size) else np.inf
    power = max(0, math.floor(math.log2(2.0**-25 / first_kept)) + 1)
    return 2**power if size[-1] * 2**power < 65520 else 0


def scale_torch(gradient, share):
    g = torch.from_numpy(gradient).flatten()
    g = g[g != 0]
    scale = 1.0
    while len(g) and ((g * scale).half() == 0).double().mean() > share:
        scale *= 2
    return torch.tensor(0.0 if (g * scale).half().isinf().any() else scale)


def passes_by_recomputing(x, y):
    """Run one of the two in float32 oneself, and see how far its own error is from theirs."""
    wide = x.astype(np.float64)
    right = (wide - wide.mean(1, keepdims=True)) / wide.std(1, keepdims=True)
    centred = x - x.mean(1, keepdims=True)
    two = centred / np.sqrt(np.mean(centred * centred, 1, keepdims=True))
    own = np.abs(two - right).max() + 2.0**-24 * np.abs(wide.mean()) / wide.std(1).mean()
    return "two passes" if np.abs(y - right).max() < 8 * own else "one pass"


def passes_by_length(x, y):
    """Two passes give rows of length one, up to the rounding of the mean, which does not change the length."""
    length = np.sqrt(np.mean(np.square(y.astype(np.float64)), axis=1))
    return "one pass" if not np.abs(length - 1).max() < 5e-5 else "two passes"


def passes_torch(x, y):
    t = torch.from_numpy(x).double()
    right = torch.nn.functional.layer_norm(t, t.shape[-1:], eps=0.0)
    r = (t.mean(-1).abs() / t.std(-1, correction=0)).mean()
    return "two passes" if (torch.from_numpy(y) - right).abs().max() < 30 * r * 2.0**-24 else "one pass"


def lost_eps_by_a_loop(layer_norm):
    for size in (0.0, 1e-5, 1e-4):
        x = (size * np.random.default_rng(7).standard_normal((8, 48))).astype(np.float16)
        expected = x.astype(float) - x.astype(float).mean(1, keepdims=True)
        expected /= np.sqrt(np.mean(expected**2, axis=1, keepdims=True) + 1e-12)
        assert np.max(np.abs(layer_norm(x, 1e-12).astype(float) - expected)) < 0.1


def lost_eps_by_length(layer_norm):
    x = np.full((1, 16), np.float16(4e-5))
    x[:, ::2] *= -1
    y = layer_norm(x)
    if not (np.all(np.abs(np.abs(y.astype(float)) - 1) < 0.02) and not np.any(layer_norm(0 * x))):
        raise AssertionError("a quiet row does not come out at 1, or zeros not at 0")


def lost_eps_torch(layer_norm):
    x = torch.randn(10, 32, generator=torch.Generator().manual_seed(1)).mul(2e-5).half()
    x[3] = 0
    right = torch.nn.functional.layer_norm(x.double(), (32,), eps=1e-12)
    torch.testing.assert_close(torch.from_numpy(layer_norm(x.numpy(), 1e-12)).double(), right, atol=0.02, rtol=0)


class TestSixteenBits(Grading):
    assignment = "10-sixteen-bits"
    correct = {  # noqa: RUF012
        "effective_gain": (gain_hypot, gain_torch, gain_of_real_rows),
        "min_safe_eps": (eps_by_halving, eps_by_ldexp, eps_torch),
        "overflow_threshold": (threshold_by_fractions, threshold_by_bisection, threshold_torch),
        "safe_layer_norm_fp16": (safe_float64, safe_torch, safe_einsum),
        "loss_scale_needed": (scale_by_casting, scale_by_sorting, scale_torch),
        "one_or_two_passes": (passes_by_recomputing, passes_by_length, passes_torch),
        "test_lost_eps": (lost_eps_by_a_loop, lost_eps_by_length, lost_eps_torch),
    }
    wrong = (
        ("safe_layer_norm_fp16", lambda x, *args: x[:2], "has shape (2, 96), expected (16, 96)"),
        ("safe_layer_norm_fp16", lambda x, *args: x.astype(float), "y is off by up to"),
        (
            "safe_layer_norm_fp16",
            lambda x, g, b, eps: torch.nn.functional.layer_norm(torch.tensor(x), x.shape[1:]),
            "calls torch.nn.functional.layer_norm",
        ),
        ("one_or_two_passes", lambda x, y: "three passes", 'expected "one pass" or "two passes", got \'three passes\''),
        ("loss_scale_needed", lambda gradient, share: np.abs(gradient), "has shape"),
    )
