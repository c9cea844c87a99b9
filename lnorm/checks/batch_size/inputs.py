"""Inputs that the exercises of this assignment share."""

from collections.abc import Sequence

import numpy as np

from lnorm.checks.layer_norm.inputs import uneven_rows


def uneven_features(rng: np.random.Generator, n: int, features: int) -> np.ndarray:
    """Return ``(n, features)`` whose features differ in mean and in scale."""
    return np.ascontiguousarray(uneven_rows(rng, features, n).T)


def uneven_shards(rng: np.random.Generator, sizes: Sequence[int], features: int) -> list[np.ndarray]:
    """Return a batch in pieces of these sizes, which differ in mean and in scale."""
    x = uneven_features(rng, sum(sizes), features)
    pieces = np.split(x, np.cumsum(sizes)[:-1])
    return [rng.uniform(0.5, 2.0) * piece + rng.normal(size=features) for piece in pieces]
