"""Exercise 12.7: a LayerNorm that only centres, by means of its own parameters."""

from collections.abc import Callable

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, UnusableError, arrays
from lnorm.checks.layer_norm.inputs import SIZES, affine, uneven_rows


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 6)
    n, _, d = SIZES[level]

    def case(tests: str, size: float = 1.0, *, plain: bool = False, asks: str = "y") -> Case:
        gamma, sigma = (np.ones(d), 1.0) if plain else (affine(rng, d)[0], float(rng.uniform(2.0, 6.0)))
        x = size * (uneven_rows(rng, n, d) + 1.0)
        # The text allows a thousandth, of the largest value or of 1; outputs of small rows are compared as multiples.
        return Case(tests, {"gamma": gamma, "sigma": sigma, "x": x, "asks": asks}, tolerance=1e-3)

    return [
        case("centring alone: a gain of 1 and a constant of 1", plain=True),
        case("any gain and any constant"),
        case("any gain and any constant"),
        case("rows of all sizes", 100.0),
        case("rows of all sizes", 1000.0),
        case("rows of all sizes", 0.01, asks="small"),
        case("leaves its input alone", asks="input"),
    ]


def _layer_norm(x: np.ndarray, gamma: np.ndarray, eps: float) -> np.ndarray:
    """Compute all of it in float32, as the models do for which the trick was made."""
    x, gamma = x.astype(np.float32), gamma.astype(np.float32)
    centred = x - x.mean(axis=-1, keepdims=True)
    return gamma * (centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + np.float32(eps)))


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    gamma = inputs["gamma"].copy()
    new = arrays(("gamma", "eps"), answer(gamma, inputs["sigma"]))
    if new["eps"].size != 1:
        raise UnusableError(f"eps: expected a number, got an array of shape {new['eps'].shape}")
    if new["gamma"].shape not in ((), gamma.shape):
        raise UnusableError(f"gamma: expected shape {gamma.shape}, got {new['gamma'].shape}")
    y = _layer_norm(inputs["x"], new["gamma"], float(new["eps"].reshape(())))
    if inputs["asks"] == "small":
        y = y / np.float32(0.01)
    return {"the output of LayerNorm": y} | ({"gamma after the call": gamma} if inputs["asks"] == "input" else {})


def _trick(eps: float, gain: Callable[[np.ndarray, float], np.ndarray]) -> Answer:
    return lambda gamma, sigma: (gain(gamma, sigma), eps)


def _in_place(gamma: np.ndarray, sigma: float) -> tuple[np.ndarray, float]:
    gamma *= 1e6 / sigma
    return gamma, 1e12


HUGE_EPS_TRICK = Exercise(
    name="huge_eps_trick",
    signature="huge_eps_trick(gamma, sigma)",
    properties={
        "centring alone: a gain of 1 and a constant of 1": 1,
        "any gain and any constant": 2,
        "rows of all sizes": 2,
        "leaves its input alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_trick(1e12, lambda gamma, sigma: gamma * 1e6 / sigma),
    mistakes={
        "gamma not enlarged: the output vanishes": _trick(1e12, lambda gamma, sigma: gamma / sigma),
        "gamma multiplied by eps instead of its root": _trick(1e12, lambda gamma, sigma: gamma * 1e12 / sigma),
        "gamma divided by the root of eps": _trick(1e12, lambda gamma, sigma: gamma / 1e6 / sigma),
        "sigma left out": _trick(1e12, lambda gamma, sigma: gamma * 1e6),
        "multiplication by sigma instead of division": _trick(1e12, lambda gamma, sigma: gamma * 1e6 * sigma),
        "division by the square of sigma": _trick(1e12, lambda gamma, sigma: gamma * 1e6 / sigma**2),
        "division by the root of sigma": _trick(1e12, lambda gamma, sigma: gamma * 1e6 / np.sqrt(sigma)),
        "gamma left out": _trick(1e12, lambda gamma, sigma: np.full_like(gamma, 1e6 / sigma)),
        "gamma's sign lost": _trick(1e12, lambda gamma, sigma: np.abs(gamma) * 1e6 / sigma),
        "sigma² as eps: the variance still counts": lambda gamma, sigma: (gamma.copy(), sigma**2),
        "an eps that is not large beside the variance of large rows": _trick(
            1e6, lambda gamma, sigma: gamma * 1e3 / sigma
        ),
        "a tiny eps: LayerNorm as it always was": _trick(1e-12, lambda gamma, sigma: gamma / sigma),
        "an eps of zero: LayerNorm as it always was, without eps": _trick(0.0, lambda gamma, sigma: gamma.copy()),
        "an eps beyond float32": _trick(1e60, lambda gamma, sigma: gamma * 1e30 / sigma),
        "gamma and eps swapped": lambda gamma, sigma: (1e12, gamma * 1e6 / sigma),
        "gamma overwritten in place": _in_place,
    },
)
