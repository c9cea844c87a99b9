"""Which changes of weights and data leave a normalized layer's output alone, and which norms need a batch?

The table of Ba, Kiros & Hinton (2016), measured: one layer ``norm(x W)`` in float64, six changes, invariant if no
output moves by more than 1e-9. Beside it, what splitting a batch does to each norm.
"""

from collections.abc import Callable, Sequence

import numpy as np

from lnorm import reference
from lnorm.experiments.claim import Claim, Measurements, over_seeds

INPUTS, OUTPUTS, BATCH = 32, 48, 128
CHANGES = (
    "weight matrix re-scaled",
    "weight matrix re-centred",
    "weight vector re-scaled",
    "dataset re-scaled",
    "dataset re-centred",
    "single case re-scaled",
)
# Rows 1 to 3: Ba et al. 2016, table 1 (True is "Invariant"). Last row: Zhang & Sennrich 2019, table 1.
PUBLISHED = {
    "BatchNorm": (True, False, True, True, True, False),
    "WeightNorm": (True, False, True, False, False, False),
    "LayerNorm": (True, True, False, True, False, True),
    "RMSNorm": (True, False, False, True, False, True),
}
Layer = Callable[[np.ndarray, np.ndarray], np.ndarray]
LAYERS: dict[str, Layer] = {
    "BatchNorm": lambda x, W: reference.batch_norm(x @ W, eps=0.0)[0],
    "WeightNorm": lambda x, W: x @ (W / np.linalg.norm(W, axis=0)),
    "LayerNorm": lambda x, W: reference.layer_norm(x @ W, OUTPUTS, eps=0.0)[0],
    "RMSNorm": lambda x, W: reference.rms_norm(x @ W, OUTPUTS, eps=0.0)[0],
}


def largest_changes(rng: np.random.Generator, layer: Layer) -> np.ndarray:
    """Return the largest change of ``layer``'s output under each of the six CHANGES."""
    x = rng.normal(size=(BATCH, INPUTS)) * rng.uniform(0.5, 2, size=(BATCH, 1)) + rng.normal(size=(BATCH, 1))
    W = rng.normal(size=(INPUTS, OUTPUTS))
    one_vector = np.ones(OUTPUTS)
    one_vector[7] = 3.0
    one_case = np.ones((BATCH, 1))
    one_case[5] = 3.0
    changed = (
        (x, 3.0 * W),
        (
            x,
            W + rng.normal(size=(INPUTS, 1)),
        ),  # every column, the weight vector of one output, moves by the same vector
        (x, W * one_vector),
        (3.0 * x, W),
        (x + rng.normal(size=INPUTS), W),
        (x * one_case, W),
    )
    y = layer(x, W)
    return np.array([np.abs(layer(*each) - y).max() for each in changed])


def run(seed: int) -> Measurements:
    """Measure 24 cells and the splits of one batch. Under a second."""
    rng = np.random.default_rng(seed)
    m: Measurements = {}
    for norm, layer in LAYERS.items():
        m[f"change_{norm}"] = largest_changes(rng, layer)
        m[f"agreeing_{norm}"] = int(np.sum((m[f"change_{norm}"] < 1e-9) == np.array(PUBLISHED[norm])))
    m["agreeing_ba2016"] = sum(m[f"agreeing_{norm}"] for norm in ("BatchNorm", "WeightNorm", "LayerNorm"))

    x = rng.normal(size=(64, 256)).astype(np.float32)
    splits = (1, 2, 4, 16, 32)  # rows a piece
    m["splits"] = np.array(splits)
    for norm in ("layer", "batch"):
        moved = []
        for rows in splits:
            if norm == "batch" and rows == 1:
                moved.append(np.nan)  # a batch of one has no variance
                continue
            pieces = np.split(x, len(x) // rows)
            moved.append(np.abs(np.concatenate([_normalize(norm, p) for p in pieces]) - _normalize(norm, x)).max())
        m[f"split_{norm}"] = np.array(moved)
    m["split_layer_max"] = float(m["split_layer"].max())
    m["split_batch_2"] = float(m["split_batch"][1])
    m["signs_only"] = float(np.abs(np.abs(reference.batch_norm(x[:2], eps=0.0)[0]) - 1).max())

    z = rng.normal(size=(16, 32))
    _, cache = reference.layer_norm(z, 32, eps=0.0)
    dx, _, _ = reference.layer_norm_backward(dy := rng.normal(size=z.shape), cache)
    scaled, _, _ = reference.layer_norm_backward(dy, reference.layer_norm(10 * z, 32, eps=0.0)[1])
    m["gradient_along_ones"] = float(np.abs(dx.sum(axis=1)).max())
    m["gradient_along_x_hat"] = float(np.abs((dx * cache.x_hat).sum(axis=1)).max())
    m["gradient_ratio"] = float(np.linalg.norm(dx) / np.linalg.norm(scaled))
    return m


def _normalize(norm: str, x: np.ndarray) -> np.ndarray:
    return reference.layer_norm(x, x.shape[1])[0] if norm == "layer" else reference.batch_norm(x)[0]


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """All published cells, batch independence to the bit, and the two directions LayerNorm's gradient avoids."""
    return [
        Claim(
            "Cells that agree with the table for BatchNorm, WeightNorm and LayerNorm",
            over_seeds(runs, "agreeing_ba2016"),
            low=18,
            high=18,
            published="18",
            source="ba2016layer",
            where="table 1",
        ),
        Claim(
            "Cells that agree with the table for RMSNorm",
            over_seeds(runs, "agreeing_RMSNorm"),
            low=6,
            high=6,
            published="6",
            source="zhang2019root",
            where="table 1",
        ),
        Claim(
            "LayerNorm: largest change when a batch is split",
            over_seeds(runs, "split_layer_max"),
            low=0,
            high=0,
            published="none",
            source="ba2016layer",
            where="section 3",
        ),
        Claim(
            "BatchNorm: largest change when a batch of 64 is split into pairs", over_seeds(runs, "split_batch_2"), low=2
        ),
        Claim(
            "BatchNorm of two examples: distance of every output from −1 or 1",
            over_seeds(runs, "signs_only"),
            high=1e-5,
            published="0 (law)",
            where="derived in chapter 2",
        ),
        Claim(
            "LayerNorm's gradient along the vector of ones",
            over_seeds(runs, "gradient_along_ones"),
            high=1e-12,
            published="0 (law)",
            where="derived in chapter 3",
        ),
        Claim(
            "LayerNorm's gradient along x̂",
            over_seeds(runs, "gradient_along_x_hat"),
            high=1e-12,
            published="0 (law)",
            where="derived in chapter 3",
        ),
        Claim(
            "LayerNorm's gradient at x divided by its gradient at 10x",
            over_seeds(runs, "gradient_ratio"),
            low=10 - 1e-9,
            high=10 + 1e-9,
            published="10 (law)",
            where="derived in chapter 3",
        ),
    ]
