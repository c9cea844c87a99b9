"""Networks that the exercises on residual blocks share: branches and norms as functions made from arrays."""

from typing import Any

import numpy as np

from lnorm import reference
from lnorm.checks.exercise import Answer, Level

SIZES = {"visible": (6, 5), "graded": (9, 7)}  # tokens, features
Branch = tuple[np.ndarray, np.ndarray, np.ndarray]


def draw_branch(rng: np.random.Generator, features: int, size: float = 1.0) -> Branch:
    """Return the weights of a branch that is neither linear nor zero at zero; ``size`` scales its output."""
    hidden = 2 * features
    up, bias = rng.normal(scale=features**-0.5, size=(features, hidden)), rng.normal(size=hidden)
    return up, bias, size * rng.normal(scale=hidden**-0.5, size=(hidden, features))


def draw_norm(rng: np.random.Generator, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Return gamma and beta far enough from 1 and 0 that normalizing twice is not normalizing once."""
    return rng.uniform(0.5, 2.0, size=features), rng.normal(size=features)


def as_branch(weights: Branch) -> Answer:
    up, bias, down = weights
    return lambda x: np.tanh(np.asarray(x, dtype=float) @ up + bias) @ down


def as_norm(affine: tuple[np.ndarray, np.ndarray]) -> Answer:
    gamma, beta = affine

    def layer_norm(x: Any) -> np.ndarray:
        x = np.asarray(x, dtype=float)
        return reference.layer_norm(x, x.shape[-1], gamma, beta)[0]

    return layer_norm


def stream(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Return tokens that differ in mean and size."""
    tokens = (*shape[:-1], 1)
    return rng.uniform(0.5, 3.0, size=tokens) * rng.normal(size=shape) + rng.normal(size=tokens)


def draw_branches(rng: np.random.Generator, level: Level, count: int) -> tuple[Branch, ...]:
    """Return branches of unequal size for the features of this level."""
    return tuple(draw_branch(rng, SIZES[level][1], size) for size in rng.permutation(np.linspace(0.6, 2.0, count)))
