"""Inputs that the exercises of this assignment share."""

import numpy as np

from lnorm.checks.exercise import Level

WIDTHS = {"visible": (7, 5, 9, 6), "graded": (6, 11, 8, 5, 7)}  # the input's first, then that of every layer
ROWS = {"visible": 4, "graded": 3}


def network(rng: np.random.Generator, widths: tuple[int, ...], sigma_w2: float = 2.0) -> tuple[np.ndarray, ...]:
    """Return the weights of linear layers between ``widths``, each ``(out, in)``, of variance ``sigma_w2 / in``."""
    pairs = zip(widths[1:], widths[:-1], strict=True)
    return tuple(rng.normal(scale=np.sqrt(sigma_w2 / n_in), size=(n_out, n_in)) for n_out, n_in in pairs)


def networks(rng: np.random.Generator, level: Level) -> dict[str, tuple[np.ndarray, ...]]:
    """Return three networks: of one layer, of layers of unequal width, of square layers (where W is not its shape)."""
    widths = WIDTHS[level]
    return {
        "one layer": network(rng, widths[:2], 3.0),
        "layers of unequal width": network(rng, widths, 1.3),
        "square layers": network(rng, widths[1:2] * (2 + len(widths)), 2.6),
    }
