"""Seven published mistakes in normalization code, each with the input that exposes it.

The code is ours, and so are the simplifications; the mistakes were found in good projects, which ``source`` names.
An exhibit's functions take the same inputs and return named arrays, so that they can be compared::

    exhibit = EXHIBITS["cancelling_variance"]
    exhibit.errors(exhibit.exposing(0))                 # {"y": nan}
    exhibit.errors(exhibit.harmless(0))                 # {"y": 6e-08}
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lnorm.reference import batch_norm, batch_norm_backward, layer_norm, layer_norm_backward

Inputs = Mapping[str, Any]
Outputs = dict[str, np.ndarray]
Function = Callable[..., Outputs]


@dataclass(frozen=True)
class Exhibit:
    """A mistake, two right answers that are written differently, and inputs that tell them apart or do not.

    On ``exposing`` the output ``wrong`` of ``buggy`` is off by at least ``factor``, relative to the right one, or not
    finite; on ``harmless`` all outputs are right up to ``tolerance``. Outputs not named in ``wrong`` are always right.
    """

    name: str
    title: str
    buggy: Function
    correct: Function
    also_correct: Function
    exposing: Callable[[int], Inputs]  # makes the input from a seed
    harmless: Callable[[int], Inputs]
    wrong: tuple[str, ...]
    factor: float
    tolerance: float
    source: str  # who published it
    url: str

    def errors(self, inputs: Inputs, function: Function | None = None) -> dict[str, float]:
        """Return how far off each output of ``function``, by default the buggy one, is: |wrong - right| / |right|.

        The norms are Euclidean, in float64. NaN stands for an output with a number that is not finite.
        """
        function = function or self.buggy
        return {name: _relative(value, self.correct(**inputs)[name]) for name, value in function(**inputs).items()}


def _relative(value: np.ndarray, right: np.ndarray) -> float:
    value, right = np.asarray(value, float), np.asarray(right, float)
    if not np.isfinite(value).all():
        return np.nan
    difference, size = np.linalg.norm(value - right), np.linalg.norm(right)
    return float(difference / size) if size else float(difference)


# 1. The variance as a difference of two large numbers


def variance_by_moments(x: np.ndarray, eps: float = 1e-5) -> Outputs:
    mean = x.mean(axis=-1, keepdims=True)
    mean_square = (x**2).mean(axis=-1, keepdims=True)
    var = mean_square - mean**2  # counter-example: this cancels
    with np.errstate(invalid="ignore"):  # the root of a negative number is NaN
        return {"y": (x - mean) / np.sqrt(var + eps)}


def variance_by_deviations(x: np.ndarray, eps: float = 1e-5) -> Outputs:
    return {"y": layer_norm(x, x.shape[-1], eps=eps)[0]}


def variance_by_shifted_moments(x: np.ndarray, eps: float = 1e-5) -> Outputs:
    shifted = x - x[..., :1]  # any number near the mean will do
    mean = shifted.mean(axis=-1, keepdims=True)
    var = (shifted**2).mean(axis=-1, keepdims=True) - mean**2  # no counter-example: shifted first
    return {"y": (shifted - mean) / np.sqrt(var + eps)}


def _rows(seed: int, offset: float) -> Inputs:
    noise = np.random.default_rng(seed).normal(size=(1000, 64))
    return {"x": (offset + noise).astype(np.float32)}


# 2. Batch statistics that autograd does not see


def statistics_without_gradient(x: np.ndarray, dy: np.ndarray, eps: float = 1e-5) -> Outputs:
    import torch

    t = torch.tensor(x, requires_grad=True)
    with torch.no_grad():  # meant for the running averages
        mean, var = t.mean(dim=0), t.var(dim=0, correction=0)
    y = (t - mean) / torch.sqrt(var + eps)
    y.backward(torch.tensor(dy))
    return {"y": y.detach().numpy(), "dx": t.grad.numpy()}


def statistics_with_gradient(x: np.ndarray, dy: np.ndarray, eps: float = 1e-5) -> Outputs:
    import torch

    t = torch.tensor(x, requires_grad=True)
    mean, var = t.mean(dim=0), t.var(dim=0, correction=0)
    y = (t - mean) / torch.sqrt(var + eps)
    y.backward(torch.tensor(dy))
    return {"y": y.detach().numpy(), "dx": t.grad.numpy()}


def statistics_by_hand(x: np.ndarray, dy: np.ndarray, eps: float = 1e-5) -> Outputs:
    y, cache = batch_norm(x, eps=eps)
    return {"y": y, "dx": batch_norm_backward(dy, cache)[0]}


def _batch_and_gradient(seed: int) -> Inputs:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(16, 5)) * [0.5, 1, 2, 3, 4] + 1
    x_hat = (x - x.mean(axis=0)) / x.std(axis=0)
    return {"x": x, "dy": x_hat + 0.5 + rng.normal(size=x.shape)}  # noise alone would show a smaller error


def _gradient_out_of_reach(seed: int) -> Inputs:
    """Take from every column of dy its mean and its component along x_hat: what BatchNorm's backward pass removes."""
    x, dy = _batch_and_gradient(seed).values()
    basis = np.stack([np.ones_like(x), x - x.mean(axis=0)], axis=-1)  # (N, C, 2), orthogonal
    basis /= np.linalg.norm(basis, axis=0)
    return {"x": x, "dy": dy - np.einsum("nck,mck,mc->nc", basis, basis, dy)}


# 3. A standard deviation that autograd does not see


def sigma_without_gradient(x: np.ndarray, dy: np.ndarray, eps: float = 1e-5) -> Outputs:
    y, cache = layer_norm(x, x.shape[-1], eps=eps)
    dx = (dy - dy.mean(axis=-1, keepdims=True)) * cache.rstd
    return {"y": y, "dx": dx}


def sigma_with_gradient(x: np.ndarray, dy: np.ndarray, eps: float = 1e-5) -> Outputs:
    y, cache = layer_norm(x, x.shape[-1], eps=eps)
    return {"y": y, "dx": layer_norm_backward(dy, cache)[0]}


def sigma_by_torch(x: np.ndarray, dy: np.ndarray, eps: float = 1e-5) -> Outputs:
    import torch

    t = torch.tensor(x, requires_grad=True)
    y = torch.nn.functional.layer_norm(t, t.shape[-1:], eps=eps)
    y.backward(torch.tensor(dy))
    return {"y": y.detach().numpy(), "dx": t.grad.numpy()}


def _tokens_and_gradient(seed: int) -> Inputs:
    x, dy = _batch_and_gradient(seed).values()
    return {"x": x.T.copy(), "dy": dy.T.copy()}  # five tokens of sixteen features


def _tokens_out_of_reach(seed: int) -> Inputs:
    x, dy = _gradient_out_of_reach(seed).values()
    return {"x": x.T.copy(), "dy": dy.T.copy()}


# 4. A running variance of the other kind


def running_variance_biased(batches: np.ndarray, momentum: float = 0.1, eps: float = 1e-5) -> Outputs:
    running_mean, running_var = np.zeros(batches.shape[-1]), np.ones(batches.shape[-1])
    for x in batches:
        mean, var = x.mean(axis=0), x.var(axis=0)
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var = (1 - momentum) * running_var + momentum * var
    y = (batches[-1] - running_mean) / np.sqrt(running_var + eps)  # in evaluation
    return {"running_mean": running_mean, "running_var": running_var, "y": y}


def running_variance_unbiased(batches: np.ndarray, momentum: float = 0.1, eps: float = 1e-5) -> Outputs:
    running_mean, running_var = np.zeros(batches.shape[-1]), np.ones(batches.shape[-1])
    for x in batches:
        batch_norm(x, None, None, running_mean, running_var, momentum=momentum, eps=eps)
    y, _ = batch_norm(batches[-1], None, None, running_mean, running_var, training=False, eps=eps)
    return {"running_mean": running_mean, "running_var": running_var, "y": y}


def running_variance_by_torch(batches: np.ndarray, momentum: float = 0.1, eps: float = 1e-5) -> Outputs:
    import torch

    layer = torch.nn.BatchNorm1d(batches.shape[-1], eps, momentum, affine=False, dtype=torch.float64)
    for x in torch.tensor(batches):
        layer(x)
    y = layer.eval()(torch.tensor(batches[-1]))
    return {"running_mean": layer.running_mean.numpy(), "running_var": layer.running_var.numpy(), "y": y.numpy()}


def _batches(seed: int, rows: int) -> Inputs:
    return {"batches": np.random.default_rng(seed).normal(2, 3, size=(60, rows, 3))}


# 5. A gradient test whose loss has hardly any gradient


Backward = Callable[[np.ndarray, np.ndarray, float], np.ndarray]  # x, dy, eps -> dx


def error_seen_by_squares(x: np.ndarray, backward: Backward, eps: float = 1e-5) -> Outputs:
    y, cache = batch_norm(x, eps=eps)
    dy = 2 * y  # the loss is the sum of y²
    return {"error": np.abs(backward(x, dy, eps) - batch_norm_backward(dy, cache)[0]).max()}


def error_seen_by_noise(x: np.ndarray, backward: Backward, eps: float = 1e-5) -> Outputs:
    _, cache = batch_norm(x, eps=eps)
    dy = _noise(x)  # the loss is the sum of y · dy
    return {"error": np.abs(backward(x, dy, eps) - batch_norm_backward(dy, cache)[0]).max()}


def error_seen_by_differences(x: np.ndarray, backward: Backward, eps: float = 1e-5) -> Outputs:
    """Differentiate the loss numerically, in float64; needs no right backward pass."""
    dy = _noise(x)
    wide, step = x.astype(np.float64), 1e-5
    numeric = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        moved = wide.copy()
        moved[index] += step
        above = np.sum(batch_norm(moved, eps=eps)[0] * dy)
        moved[index] -= 2 * step
        numeric[index] = (above - np.sum(batch_norm(moved, eps=eps)[0] * dy)) / (2 * step)
    return {"error": np.abs(backward(x, dy, eps) - numeric).max()}


def _noise(x: np.ndarray) -> np.ndarray:
    return np.random.default_rng([5, 1]).normal(size=x.shape).astype(x.dtype)  # a stream that x does not come from


def right_backward(x: np.ndarray, dy: np.ndarray, eps: float) -> np.ndarray:
    return batch_norm_backward(dy, batch_norm(x, eps=eps)[1])[0]


def no_backward(x: np.ndarray, dy: np.ndarray, eps: float) -> np.ndarray:
    """Return zeros: as wrong as a gradient can be."""
    return np.zeros_like(x)


def _backward_to_test(seed: int, backward: Backward) -> Inputs:
    x = np.random.default_rng(seed).normal(2, 3, size=(16, 4)).astype(np.float32)
    return {"x": x, "backward": backward}


# 6. An eps that is added and then rounded away


def eps_rounded_to_half(x: np.ndarray, eps: float = 1e-12) -> Outputs:
    wide = x.astype(np.float32)
    centred = wide - wide.mean(axis=-1, keepdims=True)
    var = np.mean(centred**2, axis=-1, keepdims=True) + np.float32(eps)
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 is NaN
        return {"y": (centred / np.sqrt(var.astype(np.float16))).astype(np.float16)}


def eps_kept_in_single(x: np.ndarray, eps: float = 1e-12) -> Outputs:
    return {"y": layer_norm(x, x.shape[-1], eps=eps)[0]}


def eps_kept_in_double(x: np.ndarray, eps: float = 1e-12) -> Outputs:
    wide = x.astype(np.float64)
    y = (wide - wide.mean(axis=-1, keepdims=True)) / np.sqrt(wide.var(axis=-1, keepdims=True) + eps)
    return {"y": y.astype(np.float16)}


def _half(seed: int, padding: int) -> Inputs:
    x = np.random.default_rng(seed).normal(size=(12, 32))
    x[12 - padding :] = 0  # rows of padding
    return {"x": x.astype(np.float16)}


# 7. A sum in chunks that forgets the last, incomplete one


def gain_gradient_of_whole_chunks(x: np.ndarray, dy: np.ndarray, chunk: int = 8) -> Outputs:
    x_hat = layer_norm(x, x.shape[-1])[0]
    partial = np.zeros((len(x) // chunk, x.shape[-1]))  # one row for every program
    for program in range(len(partial)):
        rows = slice(program * chunk, (program + 1) * chunk)
        partial[program] = np.sum(dy[rows] * x_hat[rows], axis=0)
    return {"dgamma": partial.sum(axis=0)}


def gain_gradient_of_all_chunks(x: np.ndarray, dy: np.ndarray, chunk: int = 8) -> Outputs:
    x_hat = layer_norm(x, x.shape[-1])[0]
    partial = np.zeros((-(-len(x) // chunk), x.shape[-1]))  # rounded up
    for program in range(len(partial)):
        rows = slice(program * chunk, (program + 1) * chunk)
        partial[program] = np.sum(dy[rows] * x_hat[rows], axis=0)
    return {"dgamma": partial.sum(axis=0)}


def gain_gradient_at_once(x: np.ndarray, dy: np.ndarray, chunk: int = 8) -> Outputs:
    return {"dgamma": layer_norm_backward(dy, layer_norm(x, x.shape[-1])[1])[1]}


def _many_rows(seed: int, rows: int) -> Inputs:
    rng = np.random.default_rng(seed)
    return {"x": rng.normal(size=(rows, 16)), "dy": rng.normal(size=(rows, 16))}


_ALL = (
    Exhibit(
        name="cancelling_variance",
        title="The variance that came out negative",
        buggy=variance_by_moments,
        correct=variance_by_deviations,
        also_correct=variance_by_shifted_moments,
        exposing=lambda seed: _rows(seed, offset=1e4),
        harmless=lambda seed: _rows(seed, offset=0),
        wrong=("y",),
        factor=0.5,
        tolerance=1e-5,
        source="labml.ai, annotated PyTorch paper implementations, LayerNorm",
        url="https://github.com/labmlai/annotated_deep_learning_paper_implementations/blob/master/labml_nn/normalization/layer_norm/__init__.py",
    ),
    Exhibit(
        name="constant_statistics",
        title="Statistics behind closed doors",
        buggy=statistics_without_gradient,
        correct=statistics_with_gradient,
        also_correct=statistics_by_hand,
        exposing=_batch_and_gradient,
        harmless=_gradient_out_of_reach,
        wrong=("dx",),
        factor=0.5,
        tolerance=1e-4,
        source="fast.ai, course v3 part 2 (2019), notebook 07_batchnorm",
        url="https://github.com/fastai/course-v3/blob/master/nbs/dl2/07_batchnorm.ipynb",
    ),
    Exhibit(
        name="detached_sigma",
        title="Half a chain rule",
        buggy=sigma_without_gradient,
        correct=sigma_with_gradient,
        also_correct=sigma_by_torch,
        exposing=_tokens_and_gradient,
        harmless=_tokens_out_of_reach,
        wrong=("dx",),
        factor=0.5,
        tolerance=1e-4,
        source="TinyTorch, module 13, LayerNorm (late 2025; since repaired)",
        url="https://github.com/harvard-edge/cs249r_book/blob/main/tinytorch/src/13_transformers/13_transformers.py",
    ),
    Exhibit(
        name="biased_running_variance",
        title="The number that nobody asked for",
        buggy=running_variance_biased,
        correct=running_variance_unbiased,
        also_correct=running_variance_by_torch,
        exposing=lambda seed: _batches(seed, rows=4),
        harmless=lambda seed: _batches(seed, rows=20_000),
        wrong=("running_var", "y"),
        factor=0.1,
        tolerance=1e-4,
        source="ARENA 2.0, chapter 0, ResNets, BatchNorm2d",
        url="https://github.com/callummcdougall/ARENA_2.0/blob/main/chapter0_fundamentals/exercises/part3_resnets/solutions.py",
    ),
    Exhibit(
        name="gradient_of_squares",
        title="The test that weighed nothing",
        buggy=error_seen_by_squares,
        correct=error_seen_by_noise,
        also_correct=error_seen_by_differences,
        exposing=lambda seed: _backward_to_test(seed, no_backward),
        harmless=lambda seed: _backward_to_test(seed, right_backward),
        wrong=("error",),
        factor=0.99,
        tolerance=1e-6,
        source="CMU 10-714, Deep Learning Systems, homework 2, published tests",
        url="https://github.com/dlsyscourse/hw2/blob/main/tests/hw2/test_nn_and_optim.py",
    ),
    Exhibit(
        name="eps_in_half_precision",
        title="An eps for nothing",
        buggy=eps_rounded_to_half,
        correct=eps_kept_in_single,
        also_correct=eps_kept_in_double,
        exposing=lambda seed: _half(seed, padding=3),
        harmless=lambda seed: _half(seed, padding=0),
        wrong=("y",),
        factor=np.inf,
        tolerance=2e-3,
        source="DeepSpeed, fused Transformer kernels, issue 581 (2020)",
        url="https://github.com/deepspeedai/DeepSpeed/issues/581",
    ),
    Exhibit(
        name="lost_rows",
        title="The rows at the end of the queue",
        buggy=gain_gradient_of_whole_chunks,
        correct=gain_gradient_of_all_chunks,
        also_correct=gain_gradient_at_once,
        exposing=lambda seed: _many_rows(seed, rows=1031),
        harmless=lambda seed: _many_rows(seed, rows=1024),
        wrong=("dgamma",),
        factor=0.03,
        tolerance=1e-12,
        source="attorch, Triton LayerNorm and RMSNorm, issue 18",
        url="https://github.com/BobMcDear/attorch/issues/18",
    ),
)
EXHIBITS: dict[str, Exhibit] = {exhibit.name: exhibit for exhibit in _ALL}
