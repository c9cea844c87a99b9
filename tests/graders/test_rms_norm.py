"""Right answers to assignment 9, written differently."""

import math

import numpy as np
import torch
from graders_helpers import Grading

# --- forward ---


def forward_einsum(x, gamma, eps):
    return np.einsum("...d,...,d->...d", x, (np.einsum("...d,...d->...", x, x) / x.shape[-1] + eps) ** -0.5, gamma)


def forward_torch(x, gamma, eps):
    t = torch.from_numpy(x)
    return t * torch.rsqrt(t.square().mean(-1, keepdim=True) + eps) * torch.from_numpy(gamma)


def forward_loop(values, gain, epsilon):
    y = np.empty_like(values)
    for index in np.ndindex(values.shape[:-1]):
        square = math.fsum(v * v for v in values[index]) / values.shape[-1]
        y[index] = [g * v / math.sqrt(square + epsilon) for g, v in zip(gain, values[index], strict=True)]
    return y


def forward_by_the_length(x, gamma, eps):
    d = x.shape[-1]
    return np.sqrt(d) * gamma * x / np.hypot(np.linalg.norm(x, axis=-1, keepdims=True), np.sqrt(d * eps))


# --- backward ---


def backward_torch(dy, x, gamma, eps):
    t, g = torch.tensor(x, requires_grad=True), torch.tensor(gamma, requires_grad=True)
    (t / torch.sqrt(t.square().mean(-1, keepdim=True) + eps) * g).backward(torch.tensor(dy))
    return t.grad, g.grad


def backward_jacobian(dy, x, gamma, eps):
    d = x.shape[-1]
    rows, arrived = x.reshape(-1, d), dy.reshape(-1, d)
    r = np.sqrt(np.mean(rows**2, axis=1) + eps)
    jacobian = np.eye(d) / r[:, None, None] - np.einsum("ni,nj,n->nij", rows, rows, r**-3.0) / d
    dx = np.einsum("nij,ni->nj", jacobian, arrived * gamma)
    return dx.reshape(x.shape), np.einsum("nd,nd,n->d", arrived, rows, 1 / r)


def backward_through_the_scale(dy, x, gamma, eps):
    d = x.shape[-1]
    rrms = (np.mean(x * x, -1, keepdims=True) + eps) ** -0.5
    dx = dy * gamma * rrms - x * rrms**3 * np.sum(dy * gamma * x, -1, keepdims=True) / d
    dgamma = np.zeros(d)
    for index in np.ndindex(x.shape[:-1]):
        dgamma += dy[index] * x[index] * rrms[index]
    return [dx, dgamma]


# --- partial ---


def partial_mask(x, p, gamma, eps):
    d = x.shape[-1]
    used = np.arange(d) < p * d  # the first ceil(p·d) indices
    return gamma * x / np.sqrt(np.sum(used * x**2, -1, keepdims=True) / used.sum() + eps)


def partial_torch(x, p, gamma, eps):
    part = torch.from_numpy(x)[..., : -int(-p * x.shape[-1] // 1)]
    return torch.from_numpy(gamma * x) * torch.rsqrt(part.pow(2).mean(-1, keepdim=True) + eps)


def partial_matmul(x, p, gamma, eps):
    k = math.ceil(p * x.shape[-1])
    weights = np.r_[np.full(k, 1 / k), np.zeros(x.shape[-1] - k)]
    return x * gamma / np.sqrt((x * x) @ weights + eps)[..., None]


# --- folding ---


def fold_by_projection(embedding, blocks):
    d = embedding.shape[1]
    take = np.eye(d) - np.ones((d, d)) / d
    return embedding @ take, [(g, W, b + W @ beta, take @ V, take @ c) for g, beta, W, b, V, c in blocks]


def fold_the_gain_too(embedding, blocks):
    new = []
    for gamma, beta, W_in, b_in, W_out, b_out in blocks:
        new.append(
            [np.ones_like(gamma), W_in * gamma, b_in + W_in.dot(beta), W_out - W_out.mean(0), b_out - b_out.mean()]
        )
    return embedding - embedding.mean(axis=1, keepdims=True), tuple(new)


def fold_torch(embedding, blocks):
    def off(t, axis):
        return t - t.mean(axis, keepdim=True)

    new = []
    for block in blocks:
        gamma, beta, W_in, b_in, W_out, b_out = map(torch.from_numpy, block)
        new.append((gamma, W_in, torch.addmv(b_in, W_in, beta), off(W_out, 0), off(b_out, 0)))
    return off(torch.from_numpy(embedding), 1), new


def fold_what_is_read_as_well(embedding, blocks):
    """A mean taken off the rows of W_in · gamma changes nothing, since what they read has mean zero."""
    embedding, new = fold_the_gain_too(embedding, blocks)
    return embedding, [(g, W - W.mean(axis=1, keepdims=True), b, V, c) for g, W, b, V, c in new]


# --- traffic ---


def count_with_sets(operations, arrays, results, fused):
    def size(name):
        shape, itemsize = arrays[name]
        return math.prod(shape) * itemsize

    if not fused:
        return sum(sum(map(size, set(reads))) + sum(map(size, set(writes))) for reads, writes in operations)
    known, inputs = set(), set()
    for reads, writes in operations:
        inputs |= set(reads) - known
        known |= set(writes)
    return sum(map(size, inputs)) + sum(map(size, results))


def count_with_numpy(operations, arrays, results, fused):
    names = list(arrays)
    sizes = np.array([np.prod(arrays[name][0]) * arrays[name][1] for name in names])
    reads = np.array([[name in r for name in names] for r, _ in operations])
    writes = np.array([[name in w for name in names] for _, w in operations])
    if not fused:
        return np.sum((reads.astype(int) + writes) * sizes)
    never = len(operations)
    first_read = np.where(reads.any(0), reads.argmax(0), never)
    first_write = np.where(writes.any(0), writes.argmax(0), never)
    return float(
        np.sum(sizes * (first_read <= first_write) * reads.any(0)) + sum(sizes[names.index(n)] for n in results)
    )


def count_backwards(operations, arrays, results, fused):
    """Fused: go from the last operation to the first; what is needed before the first one has to be loaded."""
    size = {name: np.empty(shape, f"V{itemsize}").nbytes for name, (shape, itemsize) in arrays.items()}
    needed, moved = set(), list(results) if fused else []
    for reads, writes in reversed(operations):
        needed = (needed - {*writes}) | {*reads}
        moved += [] if fused else [*{*reads}, *writes]
    return sum(size[name] for name in moved + (list(needed) if fused else []))


# --- one pass ---


def shifted_moments(columns):
    """Moments around the first column: one pass, and nothing large is subtracted from anything large."""
    first = next(columns).copy()
    n, total, squares = 1, np.zeros_like(first), np.zeros_like(first)
    for column in columns:
        n += 1
        total += column - first
        squares += (column - first) ** 2
    return first + total / n, squares / n - (total / n) ** 2


def merged(columns):
    """Chan's rule for two groups, one of them a single column; in float64 inside."""
    n, mean, m2 = 0, 0.0, 0.0
    for column in columns:
        wide = column.astype(np.float64)
        delta = wide - mean
        mean, m2, n = (n * mean + wide) / (n + 1), m2 + delta**2 * n / (n + 1), n + 1
    return mean, m2 / n


def welford_torch(columns):
    for n, column in enumerate(columns, start=1):
        value = torch.tensor(column)
        if n == 1:
            mean, m2 = torch.zeros_like(value), torch.zeros_like(value)
        delta = value - mean
        mean += delta / n
        m2 += delta * (value - mean)
    return mean, m2 / n


def welford_row_by_row(columns):
    states = None
    for n, column in enumerate(columns, start=1):
        states = states or [(0.0, 0.0)] * len(column)
        after = []
        for (mean, m2), value in zip(states, map(float, column), strict=True):
            new = mean + (value - mean) / n
            after.append((new, m2 + (value - mean) * (value - new)))
        states = after
    return [mean for mean, _ in states], [m2 / n for _, m2 in states]


# --- the test ---


def catches_by_differences(backward):
    rng = np.random.default_rng(4)
    x, dy, gamma = rng.normal(2, 1, (3, 5)), rng.normal(size=(3, 5)), rng.normal(size=5)
    for i in np.ndindex(3, 5):
        up, down = x.copy(), x.copy()
        up[i] += 1e-5
        down[i] -= 1e-5
        losses = [np.sum(dy * gamma * z / np.sqrt(np.mean(z**2, 1, keepdims=True) + 0.01)) for z in (up, down)]
        assert abs((losses[0] - losses[1]) / 2e-5 - backward(dy, x, gamma, 0.01)[i]) < 1e-3


def catches_by_torch(backward):
    generator = torch.Generator().manual_seed(1)
    x, dy, gamma = (torch.randn(shape, generator=generator) for shape in ((6, 9), (6, 9), (9,)))
    x.requires_grad_()
    torch.nn.functional.rms_norm(x, (9,), gamma, 1e-6).backward(dy)
    dx = torch.as_tensor(backward(dy.numpy(), x.detach().numpy(), gamma.numpy(), 1e-6))
    torch.testing.assert_close(dx.float(), x.grad, atol=1e-3, rtol=1e-3)


def catches_by_a_step_outwards(backward):
    """If y does not change when x grows, then no loss does: the gradient along x is zero."""
    rng = np.random.default_rng(2)
    for _ in range(5):
        x, gamma = rng.normal(size=(2, 4)) * 3, rng.uniform(1, 3, size=4)
        slope = np.einsum("nd,nd->n", backward(gamma * x, x, gamma, 0.0), x)
        if np.any(np.abs(slope) > 1e-3):
            raise AssertionError(f"the loss changes by {slope} when x is scaled")


class TestRMSNorm(Grading):
    assignment = "09-rms-norm"
    correct = {  # noqa: RUF012
        "rms_norm": (forward_einsum, forward_torch, forward_loop, forward_by_the_length),
        "rms_norm_backward": (backward_torch, backward_jacobian, backward_through_the_scale),
        "prms_norm": (partial_mask, partial_torch, partial_matmul),
        "fold_centring": (fold_by_projection, fold_the_gain_too, fold_torch, fold_what_is_read_as_well),
        "bytes_moved": (count_with_sets, count_with_numpy, count_backwards),
        "welford": (shifted_moments, merged, welford_torch, welford_row_by_row),
        "test_detached_scale": (catches_by_differences, catches_by_torch, catches_by_a_step_outwards),
    }
    wrong = (
        ("rms_norm", lambda x, gamma, eps: x[..., :1], "has shape"),
        ("rms_norm", lambda x, gamma, eps: torch.nn.functional.rms_norm(torch.tensor(x), x.shape[-1:]), "calls torch"),
        ("rms_norm_backward", lambda dy, x, gamma, eps: dy, "expected 2 return values (dx, dgamma)"),
        ("rms_norm_backward", lambda dy, x, gamma, eps: (dy + x, gamma), "Σ dx·x over a row"),
        ("fold_centring", lambda embedding, blocks: embedding, "expected 2 return values (embedding, blocks)"),
        ("fold_centring", lambda embedding, blocks: (embedding, blocks), "expected 5 return values"),
        ("fold_centring", lambda embedding, blocks: (embedding, blocks[1:]), "one tuple a block"),
        ("bytes_moved", lambda operations, arrays, results, fused: -1, "bytes is off by"),
        ("welford", lambda columns: (len(columns), 0), "has no len"),
        ("test_detached_scale", lambda backward: backward(1), "TypeError"),
    )
