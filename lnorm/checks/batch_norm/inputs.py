"""Inputs that the exercises of this assignment share."""

import numpy as np

SIZES = {"visible": (6, 3, 5), "graded": (9, 4, 7)}  # rows, positions, features; never square


def uneven_features(rng: np.random.Generator, *shape: int, axis: int = -1) -> np.ndarray:
    """Return numbers whose mean and scale differ from feature to feature, the features along ``axis``."""
    per_feature = [1] * len(shape)
    per_feature[axis] = shape[axis]
    scale = rng.uniform(0.3, 3.0, size=per_feature)
    return scale * rng.normal(size=shape) + rng.normal(scale=2.0, size=per_feature)


def affine(rng: np.random.Generator, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Return gamma and beta far from 1 and 0."""
    return rng.uniform(0.5, 2.0, features) * rng.choice([-1.0, 1.0], features), rng.normal(scale=2.0, size=features)
