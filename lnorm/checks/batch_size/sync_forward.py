"""Exercise 5.3: BatchNorm of a batch that lies on several devices, forwards."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm import reference
from lnorm.checks.batch_size.inputs import uneven_shards
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, arrays
from lnorm.checks.layer_norm.inputs import affine

SIZES = {"visible": ((4, 4), (2, 7, 4), 3), "graded": ((5, 5, 5), (3, 1, 9, 4), 6)}  # equal, unequal, features
Shards = list[np.ndarray]


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 2)
    equal, unequal, features = SIZES[level]

    def inputs(sizes: tuple[int, ...], scale: float = 1.0, eps: float = 1e-12, **more: Any) -> dict[str, Any]:
        gamma, beta = affine(rng, features)
        shards = tuple(scale * shard for shard in uneven_shards(rng, sizes, features))
        return {"shards": shards, "gamma": gamma, "beta": beta, "eps": eps, **more}

    return [
        Case("devices with equally many rows", inputs(equal)),
        Case("devices with different numbers of rows", inputs(unequal)),
        Case("eps inside the square root", inputs(unequal, scale=0.2, eps=0.1)),
        Case("a device without rows", inputs((*unequal[:2], 0, unequal[2]))),
        Case("leaves its inputs alone", inputs(unequal, asks="inputs")),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    shards = [shard.copy() for shard in inputs["shards"]]
    gamma, beta = inputs["gamma"].copy(), inputs["beta"].copy()
    names = tuple(f"y of device {i}" for i in range(len(shards)))
    out = arrays(names, answer(list(shards), gamma, beta, inputs["eps"]))
    if "asks" in inputs:
        out |= {f"device {i} after the call": shard for i, shard in enumerate(shards)}
        out |= {"gamma after the call": gamma, "beta after the call": beta}
    return out


def _solution(shards: Shards, gamma: Any, beta: Any, eps: float) -> Any:
    return reference.sync_batch_norm(shards, gamma, beta, eps)[0]


Statistics = Callable[[Shards], tuple[Any, Any]]  # mean and variance, each one for all devices or one a device


def _of_all(shards: Shards) -> tuple[Any, Any]:
    x = np.concatenate(shards)
    return x.mean(axis=0), x.var(axis=0)


def _of_each(shards: Shards) -> tuple[list[Any], list[Any]]:
    shards = [shard if len(shard) else np.zeros((1, shard.shape[1])) for shard in shards]  # nothing to average
    return [shard.mean(axis=0) for shard in shards], [shard.var(axis=0) for shard in shards]


def _equal_weights(shards: Shards) -> tuple[Any, Any]:
    means, variances = map(np.array, _of_each(shards))
    return means.mean(axis=0), np.mean(variances + (means - means.mean(axis=0)) ** 2, axis=0)


def _without_gap(shards: Shards) -> tuple[Any, Any]:
    counts = [len(shard) for shard in shards]
    return _of_all(shards)[0], np.average(_of_each(shards)[1], axis=0, weights=counts)


def _sync(
    statistics: Statistics = _of_all,
    y: Callable[..., Any] = lambda x, mean, var, gamma, beta, eps: gamma * (x - mean) / np.sqrt(var + eps) + beta,
) -> Answer:
    """Return a synchronized BatchNorm that is right by default, from its statistics and what follows from them."""

    def sync_batch_norm(shards: Shards, gamma: Any, beta: Any, eps: float) -> Any:
        mean, var = statistics(shards)
        means = mean if isinstance(mean, list) else [mean] * len(shards)
        variances = var if isinstance(var, list) else [var] * len(shards)
        return [y(*each, gamma, beta, eps) for each in zip(shards, means, variances, strict=True)]

    return sync_batch_norm


def _skips_empty(shards: Shards, gamma: Any, beta: Any, eps: float) -> Any:
    return _sync()([shard for shard in shards if len(shard)], gamma, beta, eps)


def _nan_spreads(shards: Shards) -> tuple[Any, Any]:
    counts = np.array([[len(shard)] for shard in shards], dtype=float)
    means = np.array([shard.sum(axis=0) for shard in shards]) / counts  # 0/0 where there are no rows
    mean = np.sum(counts * means, axis=0) / counts.sum()
    x = np.concatenate(shards)
    return mean, np.mean((x - mean) ** 2, axis=0)


def _in_place(shards: Shards, gamma: Any, beta: Any, eps: float) -> Any:
    mean, var = _of_all(shards)
    for shard in shards:
        shard -= mean
    return [gamma * shard / np.sqrt(var + eps) + beta for shard in shards]


SYNC_BATCH_NORM = Exercise(
    name="sync_batch_norm",
    signature="sync_batch_norm(shards, gamma, beta, eps)",
    properties={
        "devices with equally many rows": 2,
        "devices with different numbers of rows": 1,
        "eps inside the square root": 1,
        "a device without rows": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_solution,
    forbids=(
        "lnorm.reference.sync_batch_norm",
        "lnorm.reference.batch_norm",
        "torch.nn.functional.batch_norm",
        "torch.nn.BatchNorm1d",
        "torch.nn.SyncBatchNorm",
        "torch.batch_norm",
    ),
    mistakes={
        "each device with its own statistics: nothing is exchanged": _sync(_of_each),
        "the variances averaged, and the gaps between the means forgotten": _sync(_without_gap),
        "a mean for all devices, a variance for each": _sync(lambda shards: (_of_all(shards)[0], _of_each(shards)[1])),
        "a variance for all devices, a mean for each": _sync(lambda shards: (_of_each(shards)[0], _of_all(shards)[1])),
        "equal weights for devices with different numbers of rows": _sync(_equal_weights),
        "the statistics of the first device for all": _sync(lambda shards: _of_all(shards[:1])),
        "a device without rows makes NaN of everybody's mean": _sync(_nan_spreads),
        "the device without rows left out of the list of outputs": _skips_empty,
        "variance divided by n − 1 instead of n": _sync(
            lambda shards: (_of_all(shards)[0], np.concatenate(shards).var(axis=0, ddof=1))
        ),
        "sums divided by the number of devices instead of the number of rows": _sync(
            lambda shards: (
                np.concatenate(shards).sum(axis=0) / len(shards),
                _of_all(shards)[1] * sum(map(len, shards)) / len(shards),
            )
        ),
        "the mean square instead of the variance": _sync(
            lambda shards: (_of_all(shards)[0], np.mean(np.concatenate(shards) ** 2, axis=0))
        ),
        "one mean and one variance for all features": _sync(
            lambda shards: (np.concatenate(shards).mean(), np.concatenate(shards).var())
        ),
        "eps added to the standard deviation, outside the square root": _sync(
            y=lambda x, mean, var, gamma, beta, eps: gamma * (x - mean) / (np.sqrt(var) + eps) + beta
        ),
        "eps left out": _sync(y=lambda x, mean, var, gamma, beta, eps: gamma * (x - mean) / np.sqrt(var) + beta),
        "gamma left out": _sync(y=lambda x, mean, var, gamma, beta, eps: (x - mean) / np.sqrt(var + eps) + beta),
        "beta left out": _sync(y=lambda x, mean, var, gamma, beta, eps: gamma * (x - mean) / np.sqrt(var + eps)),
        "the shards overwritten in place": _in_place,
    },
)
