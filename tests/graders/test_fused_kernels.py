"""Right answers to assignment 11, written differently; and the arrays that count."""

import math
import tracemalloc
from fractions import Fraction
from itertools import islice

import numba
import numpy as np
import pytest
import torch
from graders_helpers import Grading
from torch.utils.checkpoint import checkpoint

from lnorm.checks.exercise import UnusableError
from lnorm.checks.fused_kernels.memory import Memory, peak_memory


def traffic_by_last_use(kernels, sizes, outputs):
    """Note for every array where it is made and where it is read."""
    made_in, read_in = {}, {}
    for k, kernel in enumerate(kernels):
        for names, result in kernel:
            for name in names:
                if made_in.get(name) != k:
                    read_in.setdefault(name, set()).add(k)
            made_in[result] = k
    reads = sum(sizes[name] * len(places) for name, places in read_in.items())
    return reads + sum(sizes[name] for name in made_in if name in read_in or name in outputs)


def traffic_backwards(kernels, sizes, outputs):
    """From the end to the start, with the set of arrays that are still needed."""
    needed, total = set(outputs), 0
    for kernel in reversed(kernels):
        made = [result for _, result in kernel]
        total += sum(sizes[name] for name in made if name in needed)
        read = {name for names, _ in kernel for name in names}.difference(made)
        total += sum(map(sizes.get, read))
        needed |= read
    return total


def traffic_numpy(kernels, sizes, outputs):
    names = list(sizes)
    size = np.array([sizes[name] for name in names])
    made, read = np.zeros((2, len(kernels), len(names)), dtype=bool)
    for k, kernel in enumerate(kernels):
        for reads, result in kernel:
            for name in reads:
                read[k, names.index(name)] |= not made[k, names.index(name)]
            made[k, names.index(result)] = True
    later = np.cumsum(read[::-1], axis=0)[::-1] - read > 0
    written = made & (later | np.isin(names, list(outputs)))
    return np.float64(((read.astype(int) + written) @ size).sum())


def moments_welford(numbers):
    n, mean, m2 = 0, 0.0, 0.0
    for n, number in enumerate(numbers, start=1):
        delta = number - mean
        mean += delta / n
        m2 += delta * (number - mean)
    return mean, m2 / n


def moments_exact(numbers):
    n, first, second = 0, Fraction(0), Fraction(0)
    for number in map(Fraction, numbers):
        n, first, second = n + 1, first + number, second + number * number
    return float(first / n), float(second / n - (first / n) ** 2)


def moments_merged(numbers):
    """In blocks of a hundred, merged as Chan, Golub and LeVeque do."""
    n, mean, m2 = 0, 0.0, 0.0
    while block := list(islice(numbers, 100)):
        t = torch.tensor(block, dtype=torch.float64)
        gap = float(t.mean()) - mean
        m2 += float((t - t.mean()).square().sum()) + gap**2 * n * len(block) / (n + len(block))
        mean += gap * len(block) / (n + len(block))
        n += len(block)
    return mean, m2 / n


def kernel_by_rows(x, gamma, beta, eps, y):
    for i, row in enumerate(x):
        wide = row.astype(np.float64)
        y[i] = (wide - wide.mean()) / math.sqrt(wide.var() + eps) * gamma + beta


def kernel_torch(x, gamma, beta, eps, y):
    for i in reversed(range(len(x))):
        row = torch.as_tensor(x[i, :])
        var, mean = torch.var_mean(row.double(), correction=0)
        normal = (row - mean) * torch.rsqrt(var + eps)
        y[i, :] = torch.addcmul(torch.as_tensor(beta), torch.as_tensor(gamma), normal).numpy()


@numba.njit
def kernel_compiled(x, gamma, beta, eps, y):
    """With shifted moments; handed in as compiled."""
    for i in range(x.shape[0]):
        shift, first, second = x[i, 0], 0.0, 0.0
        for j in range(x.shape[1]):
            d = x[i, j] - shift
            first += d
            second += d * d
        rest = first / x.shape[1]
        rstd = 1 / np.sqrt(second / x.shape[1] - rest * rest + eps)
        for j in range(x.shape[1]):
            y[i, j] = ((x[i, j] - shift) - rest) * rstd * gamma[j] + beta[j]


def add_by_rows(x, residual, gamma, beta, eps, y, total):
    for i in range(x.shape[0]):
        r = residual[i] + x[i]
        total[i] = r
        y[i] = np.multiply((r - r.mean()) / (r.var() + eps) ** 0.5, gamma) + beta


def add_through_y(x, residual, gamma, beta, eps, y, total):
    """y's row, in the cache, holds what is computed on the way."""
    n, d = x.shape
    for i in range(n):
        mean = 0.0
        for j in range(d):
            y[i, j] = x[i, j] + residual[i, j]
            mean += y[i, j] / d
        var = 0.0
        for j in range(d):
            total[i, j] = y[i, j]
            y[i, j] -= mean
            var += y[i, j] ** 2 / d
        for j in range(d):
            y[i, j] = gamma[j] * y[i, j] / math.sqrt(var + eps) + beta[j]


def add_torch(x, residual, gamma, beta, eps, y, total):
    for i, (a, r) in enumerate(zip(x, residual, strict=True)):
        both = torch.from_numpy(a) + torch.from_numpy(r)
        total[i] = both
        centred = both - both.mean()
        normal = centred / (centred.dot(centred) / len(centred) + eps).sqrt()
        y[i] = normal * torch.from_numpy(gamma) + torch.from_numpy(beta)


def gradients_in_chunks(dy, x_hat, run):
    """Chunks of whole rows, as many as fit into 64, the last one incomplete."""
    n, d = dy.shape
    chunk = max(1, math.ceil(n / 60))
    dgamma, dbeta = np.zeros((2, math.ceil(n / chunk), d), np.float64)

    def task(k):
        rows = slice(k * chunk, (k + 1) * chunk)
        dgamma[k] = np.einsum("nd,nd->d", dy[rows].astype(float), x_hat[rows].astype(float))
        dbeta[k] = dy[rows].sum(axis=0, dtype=float)

    run(task, len(dgamma))
    return dgamma.sum(axis=0), dbeta.sum(axis=0)


def gradients_in_a_dict(dy, x_hat, run):
    """Two runs, every third row a piece, partial sums in a dict that is sorted at the end."""

    def summed(values):
        found = {}

        def task(k):
            found[k] = sum(values(k), np.zeros(dy.shape[1]))

        run(task, 3)
        return sum(found[k] for k in sorted(found))

    wide = dy.astype(np.float64)
    return summed(lambda k: wide[k::3] * x_hat[k::3]), summed(lambda k: wide[k::3])


def gradients_torch(dy, x_hat, run):
    wide = torch.promote_types(torch.from_numpy(dy).dtype, torch.float32)
    parts = list(zip(*(torch.from_numpy(each).to(wide).tensor_split(64) for each in (dy, x_hat)), strict=True))
    partial = [None] * len(parts)

    def task(k):
        g, h = parts[k]
        partial[k] = torch.stack([(g * h).sum(0), g.sum(0)])

    run(task, len(parts))
    return list(torch.stack(partial).sum(0))


def catches_by_counting(gain_gradient):
    for n in (131, 257, 1031):
        dy = np.ones((n, 2), np.float32)
        x_hat = np.stack([np.ones(n), np.arange(n) % 2], axis=1).astype(np.float32)
        assert gain_gradient(dy, x_hat).tolist() == [n, n // 2]


def catches_by_unit_rows(gain_gradient):
    """Put a single 1 into a row near the end: it must come out."""
    for row in (900, 950, 1003, 1008):
        dy, x_hat = np.zeros((1009, 1), np.float32), np.ones((1009, 1), np.float32)
        dy[row] = 1
        if gain_gradient(dy, x_hat)[0] != 1:
            raise AssertionError(f"row {row} is lost")


def catches_by_torch(gain_gradient):
    dy, x_hat = (torch.randn(523, 8, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    dy[-20:] *= 100
    right = (dy.double() * x_hat.double()).sum(0)
    torch.testing.assert_close(
        torch.from_numpy(gain_gradient(dy.numpy(), x_hat.numpy())).double(), right, rtol=0, atol=0.1
    )


def lean_by_checkpoint(x, weight, bias, eps):
    """torch's own way to compute a forward pass again."""

    def norm(x, weight, bias):
        centred = x - x.mean(-1, keepdim=True)
        return weight * centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() + bias

    return checkpoint(norm, x, weight, bias, use_reentrant=False)


class WithStatistics(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        rows = x.reshape(-1, x.shape[-1])
        var, mean = torch.var_mean(rows, dim=1, correction=0)
        rstd = (var + eps) ** -0.5
        ctx.save_for_backward(x, weight, mean, rstd)
        return torch.einsum("nd,n,d->nd", rows - mean[:, None], rstd, weight).view_as(x) + bias

    @staticmethod
    def backward(ctx, dy):
        x, weight, mean, rstd = ctx.saved_tensors
        rows, dys = x.reshape(-1, x.shape[-1]), dy.reshape(-1, x.shape[-1])
        x_hat = (rows - mean[:, None]) * rstd[:, None]
        g = dys * weight
        basis = torch.stack([torch.ones_like(x_hat), x_hat])  # what the norm is blind to, row by row
        dx = g - torch.einsum("knd,knc,nc->nd", basis, basis, g) / x.shape[-1]
        return (dx * rstd[:, None]).view_as(x), torch.einsum("nd,nd->d", dys, x_hat), dys.sum(0), None


class ByAutograd(torch.autograd.Function):
    """Runs the forward pass again under autograd."""

    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        ctx.save_for_backward(x, weight, bias)
        ctx.eps = eps
        return ByAutograd.compute(x, weight, bias, eps)

    @staticmethod
    def compute(x, weight, bias, eps):
        d = x - x.mean(-1, keepdim=True)
        return d * (d.pow(2).mean(-1, keepdim=True) + eps).rsqrt() * weight + bias

    @staticmethod
    def backward(ctx, dy):
        leaves = [each.detach().requires_grad_() for each in ctx.saved_tensors]
        with torch.enable_grad():
            y = ByAutograd.compute(*leaves, ctx.eps)
        return *torch.autograd.grad(y, leaves, dy), None


class TestFusedKernels(Grading):
    assignment = "11-fused-kernels"
    correct = {  # noqa: RUF012
        "fused_traffic": (traffic_by_last_use, traffic_backwards, traffic_numpy),
        "one_pass_moments": (moments_welford, moments_exact, moments_merged),
        "fused_layer_norm": (kernel_by_rows, kernel_torch, kernel_compiled),
        "fused_add_layer_norm": (add_by_rows, add_through_y, add_torch),
        "gain_gradients": (gradients_in_chunks, gradients_in_a_dict, gradients_torch),
        "test_lost_rows": (catches_by_counting, catches_by_unit_rows, catches_by_torch),
        "lean_layer_norm": (lean_by_checkpoint, WithStatistics.apply, ByAutograd.apply),
    }
    wrong = (
        ("one_pass_moments", lambda numbers: (np.mean(list(numbers)), 1.0), "keep sums, not numbers"),
        ("fused_layer_norm", lambda x, *rest: np.asarray(x), "one row or one number at a time: x[i] or x[i, j]"),
        ("fused_layer_norm", lambda x, *rest: x[:2], "one row or one number at a time"),
        ("gain_gradients", lambda dy, x_hat, run: ((dy * x_hat).sum(0), dy.sum(0)), "`run` was not called"),
        ("lean_layer_norm", lambda x, w, b, eps: x.detach() * w.detach(), "carries no gradient"),
        (
            "lean_layer_norm",
            lambda x, w, b, eps: torch.nn.functional.layer_norm(x, w.shape, w, b, eps),
            "calls torch.nn.functional.layer_norm, which this exercise asks you to write",
        ),
    )


# --- arrays that count ---


def test_rows_are_loaded_when_they_are_not_in_the_cache():
    a = Memory(np.arange(12.0).reshape(3, 4))
    assert [a[0, j] for j in range(4)] == [0, 1, 2, 3]
    assert a.moved().tolist() == [1 / 3, 0]
    a[1], a[-1], a[1, 0]
    assert a.moved().tolist() == [4 / 3, 0]


def test_rows_are_stored_when_they_leave_the_cache():
    a = Memory(np.zeros((2, 3)))
    a[0, 0] = 1
    a[0, 1] = a[0, 0] + 1
    a[1] = [5, 6, 7]
    assert a.moved().tolist() == [0, 1]
    assert a.values().tolist() == [[1, 2, 0], [5, 6, 7]]
    a[0, 2] += 1
    assert a.moved().tolist() == [0.5, 1.5]


def test_a_row_that_was_read_is_a_copy():
    a = Memory(np.zeros((2, 3)))
    a[0][1] = 7
    assert a.values().sum() == 0


@pytest.mark.parametrize("use", [np.sum, lambda a: a[0:2], lambda a: a[:, 0], lambda a: a[0, 0, 0], np.array])
def test_nothing_but_rows_and_numbers_can_be_touched(use):
    with pytest.raises(UnusableError, match="one row or one number at a time"):
        use(Memory(np.zeros((2, 3))))


def test_rows_that_do_not_exist():
    with pytest.raises(IndexError):
        Memory(np.zeros((2, 3)))[2]


def test_what_is_allocated_is_measured_also_when_somebody_else_measures():
    for outer in (False, True):
        if outer:
            tracemalloc.start()
        with peak_memory() as peak:
            np.zeros(100_000)
        assert 800_000 <= peak() < 900_000
        assert tracemalloc.is_tracing() is outer
        if outer:
            tracemalloc.stop()
