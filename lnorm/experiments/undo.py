"""Can a gain and a bias undo a normalization? For BatchNorm always, for LayerNorm only when every row is alike.

The best affine map per feature from the normalized values back to the inputs, in closed form, and the share of the
variance that it recovers (R²).
"""

from collections.abc import Sequence

import numpy as np

from lnorm import reference
from lnorm.experiments.claim import Claim, Measurements, over_seeds

WIDTHS = (4, 16, 64, 256, 1024)


def recovered(z: np.ndarray, x: np.ndarray) -> float:
    """Return R² of the best map ``a_j z_j + b_j``, one per feature j, from ``z`` to ``x``: ``(rows, features)``."""
    zc, xc = z - z.mean(axis=0), x - x.mean(axis=0)
    a = np.sum(zc * xc, axis=0) / np.sum(zc**2, axis=0)
    return float(1 - np.sum((xc - a * zc) ** 2) / np.sum(xc**2))


def run(seed: int, rows: int = 4000) -> Measurements:
    """Measure rows of varying scale and mean at 64 features, and like rows at several widths. Under a second."""
    rng = np.random.default_rng(seed)
    scale, shift = np.exp(0.5 * rng.normal(size=(rows, 1))), rng.normal(size=(rows, 1))
    x = scale * rng.normal(size=(rows, 64)) + shift
    m: Measurements = {
        "batch": recovered(reference.batch_norm(x)[0], x),
        "layer": recovered(reference.layer_norm(x, 64)[0], x),
        "rms": recovered(reference.rms_norm(x, 64)[0], x),
        "collision": float(np.abs(reference.layer_norm(x, 64)[0] - reference.layer_norm(5 * x + 3, 64)[0]).max()),
        "widths": np.array(WIDTHS),
    }
    like_rows = [rng.normal(size=(rows, d)) for d in WIDTHS]
    m["layer_by_width"] = np.array([recovered(reference.layer_norm(x, x.shape[1])[0], x) for x in like_rows])
    m["layer_1024"] = float(m["layer_by_width"][-1])
    pairs = reference.layer_norm(rng.normal(size=(rows, 2)), 2, eps=0.0)[0]
    m["points_in_two_dimensions"] = len(np.unique(np.round(pairs, 6), axis=0))
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """BatchNorm is undone, LayerNorm is not, and why people think that it is."""
    return [
        Claim(
            "BatchNorm: R² of the best undoing",
            over_seeds(runs, "batch"),
            low=0.9999,
            published="1 (law)",
            source="ioffe2015batch",
            where="section 3",
        ),
        Claim("LayerNorm, rows of varying scale: R² of the best undoing", over_seeds(runs, "layer"), high=0.6),
        Claim("RMSNorm, rows of varying scale: R² of the best undoing", over_seeds(runs, "rms"), high=0.9),
        Claim(
            "LayerNorm, 1024 features, all rows alike: R² of the best undoing", over_seeds(runs, "layer_1024"), low=0.99
        ),
        Claim(
            "LayerNorm in two dimensions: number of different outputs",
            over_seeds(runs, "points_in_two_dimensions"),
            low=2,
            high=2,
            published="2 (law)",
            where="derived in chapter 3",
        ),
    ]
