"""Right answers to assignment 2, written differently."""

import numpy as np
import torch
from graders_helpers import Grading, marked_as_ours

from lnorm import museum
from lnorm.checks import exercise


def train_einsum(x, gamma, beta, eps):
    n = len(x)
    mean = np.einsum("nd->d", x.astype(float)) / n
    centred = x - mean
    var = np.einsum("nd,nd->d", centred, centred) / n
    return np.einsum("d,nd->nd", gamma / np.sqrt(var + eps), centred) + beta, mean, var


def train_torch(x, gamma, beta, eps):
    t = torch.from_numpy(x)
    var, mean = torch.var_mean(t, 0, correction=0)
    return (
        torch.addcmul(torch.from_numpy(beta), torch.from_numpy(gamma), (t - mean) * torch.rsqrt(var + eps)),
        mean,
        var,
    )


def train_welford(x, gamma, beta, eps):
    mean, m2 = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for n, row in enumerate(x, start=1):
        delta = row - mean
        mean = mean + delta / n
        m2 = m2 + delta * (row - mean)
    var = m2 / len(x)
    return [(x - mean) * gamma / (var + eps) ** 0.5 + beta, mean, var]


def train_by_feature(values, gain, bias, epsilon):  # arguments renamed: only their order counts
    columns, mean, var = [], [], []
    for column, g, b in zip(values.T.astype(np.float64), gain, bias, strict=True):
        mean.append(sum(column) / len(column))
        var.append(sum((column - mean[-1]) ** 2) / len(column))
        columns.append(g * ((column - mean[-1]) / np.sqrt(var[-1] + epsilon)) + b)
    return np.stack(columns, axis=1), mean, np.array(var)


class LayerInPlace:
    """Running statistics updated in place, the unbiased variance by a factor."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        self.gamma = np.ones(num_features)
        self.beta = np.zeros(num_features)
        self.running_mean = np.zeros(num_features)
        self.running_var = np.ones(num_features)
        self.eps, self.momentum, self.seen, self.mode = eps, momentum, 0, "train"

    def train(self):
        self.mode = "train"

    def eval(self):
        self.mode = "eval"

    def forward(self, x):
        x = x.astype(np.float64)
        if self.mode == "eval":
            return (x - self.running_mean) * (self.gamma / np.sqrt(self.running_var + self.eps)) + self.beta
        n, mean = len(x), x.mean(0)
        var = ((x - mean) ** 2).sum(0) / n
        self.seen += 1
        m = self.momentum if self.momentum is not None else 1 / self.seen
        self.running_mean += m * (mean - self.running_mean)
        self.running_var += m * (var * n / (n - 1) - self.running_var)
        return self.gamma * ((x - mean) / np.sqrt(var + self.eps)) + self.beta


class LayerTorch:
    """Tensors for state, the momentum as a weight of torch.lerp."""

    training = True

    def __init__(self, d, eps, momentum):
        self.gamma, self.beta = torch.ones(d, dtype=torch.float64), torch.zeros(d, dtype=torch.float64)
        self.running_mean, self.running_var = self.beta.clone(), self.gamma.clone()
        self.eps, self.momentum, self.count = eps, momentum, 0

    def train(self, mode=True):
        self.training = mode
        return self

    def eval(self):
        return self.train(False)

    def forward(self, x):
        x = torch.from_numpy(x).double()
        mean, var = self.running_mean, self.running_var
        if self.training:
            self.count += 1
            share = self.momentum or 1 / self.count
            mean, var, unbiased = x.mean(0), x.var(0, correction=0), x.var(0)
            self.running_mean = torch.lerp(self.running_mean, mean, share)
            self.running_var = torch.lerp(self.running_var, unbiased, share)
        return torch.as_tensor(self.gamma) * (x - mean) / (var + self.eps).sqrt() + torch.as_tensor(self.beta)


class LayerOfLists:
    """All training statistics kept in lists, the averages computed when they are asked for."""

    def __init__(self, features, eps, momentum):
        self.gamma, self.beta, self.eps, self.momentum = np.ones(features), np.zeros(features), eps, momentum
        self.means, self.variances, self.is_training = [np.zeros(features)], [np.ones(features)], True

    def train(self):
        self.is_training = True

    def eval(self):
        self.is_training = False

    def averaged(self, values):
        if self.momentum is None:
            return np.mean(values[1:], axis=0) if len(values) > 1 else values[0]
        m, age = self.momentum, np.arange(len(values))[::-1]
        weights = np.where(age == len(values) - 1, 1.0, m) * (1 - m) ** age
        return weights @ np.array(values)

    @property
    def running_mean(self):
        return self.averaged(self.means)

    @property
    def running_var(self):
        return self.averaged(self.variances)

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        if self.is_training:
            self.means.append(x.mean(0, dtype=float))
            self.variances.append(np.var(x, 0, ddof=1, dtype=float))
            mean, var = self.means[-1], self.variances[-1] * (1 - 1 / len(x))
        return (x - mean) / np.sqrt(var + self.eps) * self.gamma + self.beta


def backward_torch(dy, x, gamma, eps):
    t, g = torch.tensor(x, requires_grad=True), torch.tensor(gamma, requires_grad=True)
    b = torch.zeros(len(gamma), dtype=t.dtype, requires_grad=True)
    centred = t - t.mean(0)
    (centred * torch.rsqrt((centred**2).mean(0) + eps) * g + b).backward(torch.tensor(dy))
    return t.grad, g.grad, b.grad


def backward_jacobian(dy, x, gamma, eps):
    n, dx, dgamma = len(x), np.empty_like(x), []
    for j in range(x.shape[1]):
        s = np.sqrt(x[:, j].var() + eps)
        x_hat = (x[:, j] - x[:, j].mean()) / s
        dx[:, j] = (np.eye(n) - 1 / n - np.outer(x_hat, x_hat) / n) @ dy[:, j] * gamma[j] / s
        dgamma.append(x_hat @ dy[:, j])
    return dx, dgamma, np.ones(n) @ dy


def backward_through_moments(dy, x, gamma, eps):
    n, mu, var = len(x), x.mean(0), x.var(0)
    dxhat = dy * gamma
    dvar = np.sum(dxhat * (x - mu) * -0.5 * (var + eps) ** -1.5, 0)
    dmu = -np.sum(dxhat / np.sqrt(var + eps), 0)
    dx = dxhat / np.sqrt(var + eps) + dvar * 2 * (x - mu) / n + dmu / n
    return dx, np.einsum("nd,nd->d", dy, (x - mu) / np.sqrt(var + eps)), dy.sum(0)


def backward_in_one_fraction(dy, x, gamma, eps):  # as many notebooks write it
    n = x.shape[0]
    rstd = 1 / np.sqrt(np.mean((x - np.mean(x, 0)) ** 2, 0) + eps)
    x_hat = (x - np.mean(x, 0)) * rstd
    dbeta, dgamma = np.sum(dy, 0), np.sum(dy * x_hat, 0)
    return gamma * rstd / n * (n * dy - dbeta - x_hat * dgamma), dgamma, dbeta


def fold_diagonal(W, b, gamma, beta, mean, var, eps):
    scale = np.diag(gamma) @ np.diag((var + eps) ** -0.5)
    return scale @ W, scale @ b - scale @ mean + beta


def fold_torch(W, b, gamma, beta, mean, var, eps):
    W, b, gamma, beta, mean, var = (torch.from_numpy(each) for each in (W, b, gamma, beta, mean, var))
    s = gamma * torch.rsqrt(var + eps)
    return torch.einsum("o,oi->oi", s, W), torch.addcmul(beta, s, b - mean)


def fold_by_probing(W, b, gamma, beta, mean, var, eps):
    """An affine map is known from what it makes of 0 and of the unit vectors."""
    outputs = np.vstack([np.zeros(W.shape[1]), np.eye(W.shape[1])]) @ W.T + b
    after = gamma * (outputs - mean) / np.sqrt(var + eps) + beta
    return (after[1:] - after[0]).T, after[0]


def images_as_rows(x, gamma, beta, eps):
    rows = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
    y = train_welford(rows, gamma, beta, eps)[0]
    n, c, h, w = x.shape
    return np.moveaxis(y.reshape(n, h, w, c), -1, 1)


def images_torch(x, gamma, beta, eps):
    t = torch.from_numpy(x)
    var, mean = torch.var_mean(t, (0, 2, 3), correction=0, keepdim=True)
    return (
        torch.from_numpy(gamma).view(-1, 1, 1) * (t - mean) / (var + eps).sqrt() + torch.from_numpy(beta)[:, None, None]
    )


def images_by_channel(x, gamma, beta, eps):
    y = np.empty(x.shape)
    for c in range(x.shape[1]):
        channel = x[:, c].astype(np.float64)
        y[:, c] = gamma[c] * (channel - channel.mean()) / np.sqrt(channel.var() + eps) + beta[c]
    return y


def images_einsum(x, gamma, beta, eps):
    count = x.size / x.shape[1]
    centred = x - (np.einsum("nchw->c", x, dtype=float) / count)[:, None, None]
    rstd = (np.einsum("nchw,nchw->c", centred, centred) / count + eps) ** -0.5
    return np.einsum("nchw,c->nchw", centred, rstd * gamma) + beta.reshape(1, -1, 1, 1)


def masked_where(x, mask, gamma, beta, eps):
    keep, count = mask[:, :, None], mask.sum()
    clean = np.where(keep, x, 0)
    mean = clean.sum((0, 1)) / count
    deviation = np.where(keep, clean - mean, 0)
    return np.where(keep, gamma * deviation / np.sqrt(np.square(deviation).sum((0, 1)) / count + eps) + beta, 0)


def masked_torch(x, mask, gamma, beta, eps):
    t, m = torch.from_numpy(x), torch.from_numpy(mask)
    var, mean = torch.var_mean(t[m], 0, correction=0)
    y = torch.from_numpy(gamma) * (t - mean) * torch.rsqrt(var + eps) + torch.from_numpy(beta)
    return y.masked_fill(~m[..., None], 0.0)


def masked_weights(x, mask, gamma, beta, eps):
    flat, weights = np.nan_to_num(x.reshape(-1, x.shape[2])), mask.ravel() / mask.sum()
    mean = weights @ flat
    x_hat = (flat - mean) / np.sqrt(weights @ (flat - mean) ** 2 + eps)
    return ((gamma * x_hat + beta) * mask.ravel()[:, None]).reshape(x.shape)


def catches_by_formula(batch_norm):
    rng = np.random.default_rng(4)
    x, dy = rng.normal(size=(12, 3)), rng.normal(loc=0.4, size=(12, 3))
    dx = batch_norm(x, dy, eps=0.1)[1]
    np.testing.assert_allclose(dx, backward_in_one_fraction(dy, x, np.ones(3), 0.1)[0], atol=1e-6)


def catches_by_differences(batch_norm):
    rng = np.random.default_rng(1)
    x, dy, direction = (rng.normal(0.5, size=(6, 4)) for _ in range(3))
    slope = np.sum(dy * (batch_norm(x + 1e-5 * direction, dy)[0] - batch_norm(x - 1e-5 * direction, dy)[0])) / 2e-5
    if abs(slope - np.sum(batch_norm(x, dy)[1] * direction)) > 1e-4:
        raise AssertionError("dx is not the gradient of y")


def catches_by_blindness(batch_norm):
    """A shift or a stretch of the input leaves the output alone, so dx must not point that way."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(7, 2))
    dx = batch_norm(x, 1 + x + rng.normal(size=x.shape), eps=1e-9)[1]
    assert max(abs(float(np.vdot(dx, way))) for way in (np.ones_like(x), x)) < 1e-4


def catches_by_torch(batch_norm):
    generator = torch.Generator().manual_seed(3)
    x, dy = (torch.randn(9, 5, generator=generator, dtype=torch.float64) + 1 for _ in range(2))
    x.requires_grad_()
    torch.nn.functional.batch_norm(x, None, None, training=True).backward(dy)
    torch.testing.assert_close(
        torch.from_numpy(batch_norm(x.detach().numpy(), dy.numpy())[1]), x.grad, atol=1e-6, rtol=0
    )


def two_mistakes(*args):
    wrong = exercise("batch_norm_backward").mistakes
    dx, _, _ = wrong["dx lacks the mean term: the mean of g is not subtracted"](*args)
    _, dgamma, dbeta = wrong["dgamma and dbeta swapped"](*args)
    return dx, dgamma, dbeta


class NoModes:
    def __init__(self, num_features, eps=1e-5, momentum=0.1):
        self.gamma = self.beta = self.running_mean = self.running_var = np.zeros(num_features)

    def forward(self, x):
        return x


class TestBatchNorm(Grading):
    assignment = "02-batch-norm"
    correct = {  # noqa: RUF012
        "batch_norm_train": (train_einsum, train_torch, train_welford, train_by_feature),
        "BatchNorm1d": (LayerInPlace, LayerTorch, LayerOfLists),
        "batch_norm_backward": (
            backward_torch,
            backward_jacobian,
            backward_through_moments,
            backward_in_one_fraction,
        ),
        "fold_bn_into_linear": (fold_diagonal, fold_torch, fold_by_probing),
        "batch_norm_2d": (images_as_rows, images_torch, images_by_channel, images_einsum),
        "masked_batch_norm": (masked_where, masked_torch, masked_weights),
        "test_constant_statistics": (
            catches_by_formula,
            catches_by_differences,
            catches_by_blindness,
            catches_by_torch,
        ),
    }
    wrong = (
        ("batch_norm_backward", two_mistakes, "dx lacks the mean term"),
        ("batch_norm_backward", two_mistakes, "dgamma and dbeta swapped"),
        ("batch_norm_backward", two_mistakes, "Σdx of a feature"),
        ("batch_norm_train", lambda x, *args: x, "expected 3 return values (y, mean, var), got ndarray"),
        (
            "batch_norm_train",
            lambda x, *args: torch.nn.functional.batch_norm(torch.tensor(x), None, None),
            "calls torch",
        ),
        ("BatchNorm1d", torch.nn.BatchNorm1d, "calls torch.nn.BatchNorm1d"),
        ("BatchNorm1d", NoModes, "has no method `train`"),
        ("BatchNorm1d", lambda d, eps, momentum: None, "has no attribute `gamma`"),
        ("masked_batch_norm", lambda x, *args: x * np.nan, "not finite"),
        ("fold_bn_into_linear", lambda W, b, *args: (W, b), "x W_fᵀ + b_f is off"),
        ("batch_norm_2d", lambda x, *args: x[..., 0], "has shape"),
    )

    def test_the_five_mistakes_that_published_graders_miss_are_caught_and_named(self):
        layer = exercise("BatchNorm1d")
        five = (
            "evaluation uses the batch's own statistics",
            "evaluation updates the running statistics",
            "evaluation forgets eps",
            "evaluation forgets gamma and beta",
            "variance as E[x²] − E[x]², which cancels far from zero",
        )
        for name in five:
            verdict = marked_as_ours(layer, layer.mistakes[name])
            assert verdict.points < verdict.possible
            assert name in str(verdict)

    def test_the_test_to_write_catches_the_museums_bug(self):
        exhibit, written = museum.EXHIBITS["constant_statistics"], exercise("test_constant_statistics").solution

        def result(function):
            def batch_norm(x, dy, eps=1e-5):
                return tuple(function(x, dy, eps).values())

            return batch_norm

        written(result(exhibit.correct))
        written(result(exhibit.also_correct))
        try:
            written(result(exhibit.buggy))
        except AssertionError:
            return
        raise AssertionError("the museum's bug passes")
