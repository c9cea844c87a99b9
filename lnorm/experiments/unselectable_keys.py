"""How many keys can no query of dot-product attention ever prefer, before and after a norm?

A key is selectable when some query q has q·k larger for it than for every other key, that is, when it is a corner of
the keys' convex hull. Decided exactly, one linear program a key.
"""

from collections.abc import Sequence

import numpy as np

from lnorm import reference
from lnorm.experiments.claim import Claim, Measurements, over_seeds

WIDTHS = (3, 4, 6, 8)


def selectable(keys: np.ndarray) -> np.ndarray:
    """Return which of ``keys``, shape ``(n, d)``, win for some query."""
    from scipy.optimize import linprog

    wins = np.empty(len(keys), bool)
    for i, key in enumerate(keys):
        others = np.delete(keys, i, axis=0) - key  # looking for q with others @ q ≤ -1: the margin's size is free
        found = linprog(np.zeros(keys.shape[1]), A_ub=others, b_ub=-np.ones(len(others)), bounds=(None, None))
        wins[i] = found.status == 0
    return wins


def run(seed: int, keys: int = 100) -> Measurements:
    """Measure Gaussian keys in 3 to 8 dimensions, raw, after LayerNorm and after RMSNorm. About 3 s."""
    rng = np.random.default_rng(seed)
    m: Measurements = {"widths": np.array(WIDTHS)}
    raw = [rng.normal(size=(keys, d)) for d in WIDTHS]
    normed: dict[str, list[np.ndarray]] = {
        "raw": raw,
        "layer": [reference.layer_norm(k, k.shape[1], eps=0.0)[0] for k in raw],
        "rms": [reference.rms_norm(k, k.shape[1], eps=0.0)[0] for k in raw],
    }
    for name, sets in normed.items():
        m[f"unselectable_{name}"] = np.array([1 - selectable(k).mean() for k in sets])
    m["raw_3"], m["raw_8"] = map(float, m["unselectable_raw"][[0, -1]])
    m["layer_max"], m["rms_max"] = float(m["unselectable_layer"].max()), float(m["unselectable_rms"].max())
    flat = reference.layer_norm(rng.normal(size=(keys, 2)), 2, eps=0.0)[0]
    m["layer_2"] = 1 - float(selectable(np.round(flat, 12)).mean())
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """Inside the cloud no key can win; on the sphere every key can."""
    return [
        Claim(
            "Raw keys in 3 dimensions: share that no query can select",
            over_seeds(runs, "raw_3"),
            low=0.6,
            published="some, at small d",
            source="brody2023expressivity",
        ),
        Claim(
            "Raw keys in 8 dimensions: share that no query can select", over_seeds(runs, "raw_8"), low=0.01, high=0.2
        ),
        Claim(
            "After LayerNorm, 3 to 8 dimensions: largest share unselectable",
            over_seeds(runs, "layer_max"),
            low=0,
            high=0,
            published="none",
            source="brody2023expressivity",
        ),
        Claim(
            "After RMSNorm, 3 to 8 dimensions: largest share unselectable", over_seeds(runs, "rms_max"), low=0, high=0
        ),
        Claim(
            "After LayerNorm in 2 dimensions: share unselectable",
            over_seeds(runs, "layer_2"),
            low=1,
            high=1,
            published="1 (law)",
            where="derived in chapter 3",
        ),
    ]
