"""Inputs that the exercises of this assignment share."""

import numpy as np

SIZES = {"visible": (3, 5, 7), "graded": (4, 6, 11)}  # never square: a wrong axis must show


def uneven_rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Return rows along the last axis that differ in mean and in scale."""
    scale = rng.uniform(0.3, 3.0, size=(*shape[:-1], 1))
    return scale * rng.normal(size=shape) + rng.normal(scale=2.0, size=(*shape[:-1], 1))


def affine(rng: np.random.Generator, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Return gamma and beta far from 1 and 0."""
    return rng.uniform(0.5, 2.0, size=shape) * rng.choice([-1.0, 1.0], size=shape), rng.normal(scale=2.0, size=shape)


def axes_of(x: np.ndarray, normalized_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes that ``normalized_shape`` names: the last ones."""
    return tuple(range(x.ndim - len(normalized_shape), x.ndim))
