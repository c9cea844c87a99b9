"""Layers that the exercises of this assignment share; branches and norms are those of assignment 7."""

import numpy as np

from lnorm.checks.exercise import Answer
from lnorm.checks.placement.inputs import Branch, as_branch

LAYERS = {"visible": 3, "graded": 4}


def as_layer(weights: Branch) -> Answer:
    """Return a whole layer, shortcut included: stream to stream."""
    f = as_branch(weights)
    return lambda x: np.asarray(x, dtype=float) + f(x)
