"""Is the average of the devices' gradients the gradient of the whole batch? For LayerNorm yes, for BatchNorm no.

Devices are entries of a list here, in one process: the formulas are those of SyncBatchNorm, the network between devices
is left out. (tests/nn/test_nn_sync_batch_norm.py runs two real processes.) The same code is gradient accumulation, in
which the pieces come one after the other. At the end, pairs of trainings that differ in rounding alone.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from lnorm import reference
from lnorm.data import digits
from lnorm.experiments.claim import Claim, Measurements, over_seeds
from lnorm.nn.mlp import StackedMLP
from lnorm.training import batches, losses

Arrays = Sequence[np.ndarray]
SIZES = (16, 32, 32, 4)
ROWS = 32
PIECES = (16, 8, 4, 2)
RATES = (0.1, 1.0)
STEPS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Norm(NamedTuple):
    """A norm of a batch in pieces: ``forward(xs, gamma, beta) -> ys, cache`` and ``backward(dys, cache)``."""

    forward: Callable[[Arrays, np.ndarray, np.ndarray], tuple[Arrays, Any]]
    backward: Callable[[Arrays, Any], tuple[Arrays, np.ndarray, np.ndarray]]


def local(forward: Callable[..., Any], backward: Callable[..., Any]) -> Norm:
    """Make a norm of pieces from one of a batch: every piece by itself, gradients of gain and bias added up."""

    def forward_all(xs: Arrays, gamma: np.ndarray, beta: np.ndarray) -> tuple[Arrays, Any]:
        ys, caches = zip(*(forward(x, gamma, beta) for x in xs), strict=True)
        return ys, caches

    def backward_all(dys: Arrays, caches: Any) -> tuple[Arrays, np.ndarray, np.ndarray]:
        dxs, dgammas, dbetas = zip(*(backward(dy, cache) for dy, cache in zip(dys, caches, strict=True)), strict=True)
        return dxs, np.sum(dgammas, axis=0), np.sum(dbetas, axis=0)

    return Norm(forward_all, backward_all)


def forget_to_reduce(dys: Arrays, cache: Any) -> tuple[Arrays, np.ndarray, np.ndarray]:
    """SyncBatchNorm's backward pass as it is when every device averages over its own rows."""
    alone = [cache._replace(x_hats=[x_hat], total=len(x_hat)) for x_hat in cache.x_hats]
    each = [reference.sync_batch_norm_backward([dy], one) for dy, one in zip(dys, alone, strict=True)]
    dxs, dgammas, dbetas = zip(*each, strict=True)
    return [dx for [dx] in dxs], np.sum(dgammas, axis=0), np.sum(dbetas, axis=0)


NORMS = {
    "layer": local(lambda x, *affine: reference.layer_norm(x, x.shape[1], *affine), reference.layer_norm_backward),
    "batch": local(reference.batch_norm, reference.batch_norm_backward),
    "sync": Norm(reference.sync_batch_norm, reference.sync_batch_norm_backward),
    "forward_only": Norm(reference.sync_batch_norm, forget_to_reduce),
}


def parameters(rng: np.random.Generator) -> list[np.ndarray]:
    """Return W, gamma, beta of every hidden layer, and the W of the head."""
    *hidden, head = [rng.normal(size=(i, o)) * math.sqrt(2 / i) for i, o in pairwise(SIZES)]
    return [each for W in hidden for each in (W, np.ones(W.shape[1]), np.zeros(W.shape[1]))] + [head]


def gradient(
    norm: Norm, xs: Arrays, labels: Arrays, params: Arrays, shares: Sequence[float] | None = None
) -> np.ndarray:
    """Return the gradient of the mean cross-entropy, all parameters in one long vector, for a batch in pieces.

    Each piece takes the mean over its own rows, and the pieces are averaged with weights ``shares``; None means by
    their rows, which makes it the mean over all rows.
    """
    rows = [len(x) for x in xs]
    shares = [n / sum(rows) for n in rows] if shares is None else shares
    *hidden, head = params
    layers = [hidden[i : i + 3] for i in range(0, len(hidden), 3)]

    hs, seen = xs, []
    for W, gamma, beta in layers:
        ys, cache = norm.forward([h @ W for h in hs], gamma, beta)
        seen.append((hs, ys, cache))
        hs = [np.maximum(y, 0) for y in ys]

    dlogits = []
    for h, label, share in zip(hs, labels, shares, strict=True):
        odds = np.exp(h @ head)
        dlogits.append((odds / odds.sum(axis=1, keepdims=True) - np.eye(SIZES[-1])[label]) * share / len(h))
    gradients = [summed(hs, dlogits)]
    dhs = [d @ head.T for d in dlogits]
    for (W, _, _), (hs, ys, cache) in zip(reversed(layers), reversed(seen), strict=True):
        dzs, dgamma, dbeta = norm.backward([dh * (y > 0) for dh, y in zip(dhs, ys, strict=True)], cache)
        gradients = [summed(hs, dzs), dgamma, dbeta, *gradients]
        dhs = [dz @ W.T for dz in dzs]
    return np.concatenate([g.ravel() for g in gradients])


def summed(hs: Arrays, dzs: Arrays) -> np.ndarray:
    """The gradient of a weight matrix: what the pieces send, added up."""
    return np.sum([h.T @ dz for h, dz in zip(hs, dzs, strict=True)], axis=0)


def error(
    norm: str, rng: np.random.Generator, pieces: Sequence[int], shift: float = 0.0, by_rows: bool = True
) -> float:
    """Relative error of the gradient from ``pieces`` of a random batch; ``shift`` is between consecutive pieces."""
    params = parameters(rng)
    xs = [rng.normal(size=(n, SIZES[0])) + shift * i for i, n in enumerate(pieces)]
    labels = [rng.integers(SIZES[-1], size=n) for n in pieces]
    shares = None if by_rows else [1 / len(pieces)] * len(pieces)
    whole = NORMS["layer" if norm == "layer" else "batch"]
    exact = gradient(whole, [np.concatenate(xs)], [np.concatenate(labels)], params)
    return float(np.linalg.norm(gradient(NORMS[norm], xs, labels, params, shares) - exact) / np.linalg.norm(exact))


def drift(seed: int, rate: float, dtype: torch.dtype) -> tuple[np.ndarray, int]:
    """Train one LayerNorm network on batches of 32 and its twin on the same batches in two halves.

    Returns the relative distance of their parameters after each of STEPS, and how many of the 450 test images they
    answer differently at the end.
    """
    train_x, train_y, test_x, _ = map(torch.from_numpy, digits())
    train_x, test_x = train_x.to(dtype), test_x.to(dtype)
    twins = [
        StackedMLP((64, 128, 128, 128, 10), [2**0.5], "layer", generator=torch.Generator().manual_seed(seed)).to(dtype)
        for _ in range(2)
    ]
    optimizers = [torch.optim.SGD(twin.parameters(), lr=rate) for twin in twins]
    distance = []
    drawn = batches(len(train_x), ROWS, STEPS[-1], torch.Generator().manual_seed(seed))
    for step, index in enumerate(drawn, start=1):
        for twin, optimizer, pieces in zip(twins, optimizers, (1, 2), strict=True):
            optimizer.zero_grad()
            for piece in index.chunk(pieces):
                (losses(twin(train_x[piece]), train_y[piece]).sum() / pieces).backward()
            optimizer.step()
        if step in STEPS:
            one, two = (torch.cat([p.detach().flatten() for p in twin.parameters()]) for twin in twins)
            distance.append(float(torch.linalg.vector_norm(one - two) / torch.linalg.vector_norm(one)))
    with torch.no_grad():
        one, two = (twin(test_x).argmax(dim=-1) for twin in twins)
    return np.array(distance), int((one != two).sum())


def run(seed: int, batches_each: int = 25) -> Measurements:
    """Measure gradients of random networks in float64, and four pairs of trainings. About 5 s on one core."""
    rng = np.random.default_rng(seed)
    m: Measurements = {"pieces": np.array(PIECES), "steps": np.array(STEPS)}
    for norm in NORMS:
        for name, shift in (("alike", 0.0), ("unlike", 1.0)):
            m[f"{norm}_{name}"] = float(np.median([error(norm, rng, (16, 16), shift) for _ in range(batches_each)]))
    for norm in ("layer", "batch"):
        accumulated = [[error(norm, rng, (n,) * (ROWS // n)) for n in PIECES] for _ in range(batches_each)]
        m[f"{norm}_pieces"] = np.median(accumulated, axis=0)
    m["layer_uneven"] = error("layer", rng, (24, 8))
    m["layer_uneven_averaged"] = float(
        np.median([error("layer", rng, (24, 8), by_rows=False) for _ in range(batches_each)])
    )
    for rate in RATES:
        for dtype in (torch.float32, torch.float64):
            name = f"{rate:g}_{str(dtype).removeprefix('torch.')}"
            m[f"drift_{name}"], m[f"disagree_{name}"] = drift(seed, rate, dtype)
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """What averaging keeps and what it loses; what repairs it; and what rounding grows to."""

    def pieces_of_two(norm: str) -> tuple[float, ...]:
        return tuple(float(run[f"{norm}_pieces"][PIECES.index(2)]) for run in runs)

    def last(rate: float) -> tuple[float, ...]:
        return tuple(float(run[f"drift_{rate:g}_float32"][-1]) for run in runs)

    def powers_of_ten(rate: float) -> tuple[float, ...]:
        distances = [run[f"drift_{rate:g}_float64"] for run in runs]
        return tuple(float(np.log10(d[-1] / d[STEPS.index(8)])) for d in distances)

    def law(sentence: str, values: tuple[float, ...]) -> Claim:
        return Claim(sentence, values, high=1e-12, published="0 (law)", where="derived in chapter 5")

    return [
        law("LayerNorm, two unlike shards: relative error of the averaged gradient", over_seeds(runs, "layer_unlike")),
        Claim(
            "BatchNorm, two unlike shards: relative error of the averaged gradient",
            over_seeds(runs, "batch_unlike"),
            low=0.3,
        ),
        Claim("BatchNorm, two shards of like data: relative error", over_seeds(runs, "batch_alike"), low=0.2),
        law("SyncBatchNorm, two unlike shards: relative error", over_seeds(runs, "sync_unlike")),
        Claim(
            "SyncBatchNorm without the exchange in the backward pass: relative error",
            over_seeds(runs, "forward_only_unlike"),
            low=0.1,
        ),
        law("LayerNorm, micro-batches of 2: relative error of the accumulated gradient", pieces_of_two("layer")),
        Claim(
            "BatchNorm, micro-batches of 2: relative error, its power of ten",
            tuple(np.log10(pieces_of_two("batch"))),
            low=0.0,
        ),
        Claim(
            "LayerNorm, micro-batches of 24 and 8, averaged with equal weights: relative error",
            over_seeds(runs, "layer_uneven_averaged"),
            low=0.1,
        ),
        Claim("LayerNorm, rate 0.1, float32: distance of the twins after 512 steps", last(0.1), high=0.01),
        Claim("LayerNorm, rate 1, float32: distance of the twins after 512 steps", last(1.0), low=0.01),
        Claim("Rate 0.1, float64: powers of ten by which it grows from step 8 to 512", powers_of_ten(0.1), high=3),
        Claim("Rate 1, float64: powers of ten by which it grows from step 8 to 512", powers_of_ten(1.0), low=4),
    ]
