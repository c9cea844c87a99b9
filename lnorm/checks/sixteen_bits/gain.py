"""Exercise 10.1: how loud a row comes out of LayerNorm."""

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

VALUES, ARRAYS, EDGES = "single rows", "many rows at once", "constant rows, and loud ones"


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed)
    repeats = 2 if level == "visible" else 4
    pairs = [(float(rng.uniform(0.01, 3)), float(10 ** rng.uniform(-4, 0))) for _ in range(repeats)]
    return [
        *(Case(VALUES, {"sigma": sigma, "eps": eps}) for sigma, eps in pairs),
        Case(ARRAYS, {"sigma": rng.uniform(0, 0.1, size=7), "eps": float(rng.uniform(1e-4, 1e-2))}),
        Case(ARRAYS, {"sigma": rng.uniform(0, 2, size=(2, 3)), "eps": float(rng.uniform(0.1, 1))}),
        Case(EDGES, {"sigma": 0.0, "eps": 1e-5}),
        Case(EDGES, {"sigma": float(rng.uniform(1e3, 1e4)), "eps": 1e-3}, tolerance=1e-12),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    return {"the gain": array("the gain", answer(np.copy(inputs["sigma"])[()], inputs["eps"]))}


def _mean_of_rows(sigma: np.ndarray, eps: float) -> np.floating:
    return np.mean(sigma / np.sqrt(sigma**2 + eps))


EFFECTIVE_GAIN = Exercise(
    name="effective_gain",
    signature="effective_gain(sigma, eps)",
    properties={VALUES: 2, ARRAYS: 1, EDGES: 1},
    cases=_cases,
    probe=_probe,
    solution=lambda sigma, eps: sigma / np.sqrt(sigma**2 + eps),
    mistakes={
        "eps added to the standard deviation, outside the square root": lambda sigma, eps: sigma / (sigma + eps),
        "sigma taken for the variance": lambda sigma, eps: np.sqrt(sigma / (sigma + eps)),
        "the variance of the output instead of its standard deviation": lambda sigma, eps: sigma**2 / (sigma**2 + eps),
        "the slope 1/√(σ² + ε), not yet multiplied by σ": lambda sigma, eps: 1 / np.sqrt(sigma**2 + eps),
        "the cap 1/√ε, which no row exceeds": lambda sigma, eps: 1 / np.sqrt(eps) + 0 * sigma,
        "eps squared": lambda sigma, eps: sigma / np.sqrt(sigma**2 + eps**2),
        "eps left out": lambda sigma, eps: sigma / np.sqrt(sigma**2),
        "upside down: what went in over what comes out, in units of σ": lambda sigma, eps: (
            np.sqrt(sigma**2 + eps) / sigma
        ),
        "1 minus the gain": lambda sigma, eps: 1 - sigma / np.sqrt(sigma**2 + eps),
        "the quiet row's gain σ/√ε, whatever σ is": lambda sigma, eps: sigma / np.sqrt(eps),
        "a step: 1 above √ε and 0 below": lambda sigma, eps: 1.0 * (np.asarray(sigma) > np.sqrt(eps)),
        "one number for all rows": _mean_of_rows,
    },
)
