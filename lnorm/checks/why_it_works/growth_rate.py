"""Exercise 4.6: how fast BatchNorm makes gradients grow, for any activation."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

Function = Callable[[np.ndarray], np.ndarray]

ACTIVATIONS: dict[str, tuple[Function, Function]] = {  # and their derivatives
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "the identity": (lambda z: z, np.ones_like),
    "leaky relu": (lambda z: np.where(z > 0, z, 0.3 * z), lambda z: np.where(z > 0, 1.0, 0.3)),
    "absolute value": (np.abs, np.sign),
    "sine": (np.sin, np.cos),
    "shifted relu": (lambda z: np.maximum(z - 0.5, 0), lambda z: (z > 0.5).astype(float)),
}
OTHERS = {"visible": ("the identity", "leaky relu"), "graded": ("the identity", "absolute value", "sine")}
SCALED = {"visible": ("tanh",), "graded": ("tanh", "shifted relu")}
ACCURACY = 0.02  # what the text asks for


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 5)
    return [
        Case("ReLU", {"act": "relu", "sigma_w": 1.0}, ACCURACY),
        *(Case("other activations", {"act": act, "sigma_w": 1.0}, ACCURACY) for act in OTHERS[level]),
        *(
            Case("any sigma_w", {"act": act, "sigma_w": float(rng.uniform(1.4, 2.0))}, ACCURACY)
            for act in SCALED[level]
        ),
        Case("any sigma_w", {"act": "relu", "sigma_w": float(rng.uniform(0.4, 0.7))}, ACCURACY),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    f, df = ACTIVATIONS[inputs["act"]]
    rate = answer(lambda z: f(np.asarray(z, float)), lambda z: df(np.asarray(z, float)), inputs["sigma_w"])
    return {"rate": array("rate", rate)}


_Z = np.linspace(-8, 8, 8001)
_DENSITY = np.exp(-(_Z**2) / 2)


def _normal_mean(values: np.ndarray) -> Any:
    return np.average(np.broadcast_to(values, _Z.shape), weights=_DENSITY)


def _normal_variance(values: np.ndarray) -> Any:
    return _normal_mean((values - _normal_mean(values)) ** 2)


def _rate(
    numerator: Callable[..., Any] = lambda s, f, df: s**2 * _normal_mean(df**2),
    denominator: Callable[..., Any] = _normal_variance,
    result: Callable[[Any], Any] = lambda rate: rate,
    scale: Callable[[float], float] = lambda s: s,
) -> Answer:
    """Return a rule that is right by default; s is sigma_w, f and df are the values on a grid of pre-activations."""

    def bn_growth_rate(f: Function, df: Function, sigma_w: float) -> Any:
        z = scale(sigma_w) * _Z
        return result(numerator(sigma_w, f(z), df(z)) / denominator(f(z)))

    return bn_growth_rate


def _uniform(f: Function, df: Function, sigma_w: float) -> Any:
    z = sigma_w * np.linspace(-np.sqrt(3), np.sqrt(3), 8001)
    return sigma_w**2 * np.mean(df(z) ** 2) / np.var(f(z))


def _few(f: Function, df: Function, sigma_w: float) -> Any:
    z = sigma_w * np.random.default_rng(1).normal(size=30)
    return sigma_w**2 * np.mean(df(z) ** 2) / np.var(f(z))


BN_GROWTH_RATE = Exercise(
    name="bn_growth_rate",
    signature="bn_growth_rate(f, df, sigma_w)",
    properties={"ReLU": 2, "other activations": 2, "any sigma_w": 2},
    cases=_cases,
    probe=_probe,
    solution=_rate(),
    mistakes={
        "the mean square of f instead of its variance: the mean is not subtracted": _rate(
            denominator=lambda f: _normal_mean(f**2)
        ),
        "the standard deviation of f instead of its variance": _rate(
            denominator=lambda f: np.sqrt(_normal_variance(f))
        ),
        "no division by the variance of f": _rate(denominator=lambda f: 1.0),
        "the square of the mean derivative instead of the mean of its square": _rate(
            lambda s, f, df: s**2 * _normal_mean(df) ** 2
        ),
        "the mean size of the derivative, not squared": _rate(lambda s, f, df: s**2 * _normal_mean(np.abs(df))),
        "the variance of the derivative instead of its mean square": _rate(
            lambda s, f, df: s**2 * _normal_variance(df)
        ),
        "f instead of its derivative above the line": _rate(lambda s, f, df: s**2 * _normal_mean(f**2)),
        "the root: the growth of the size of the gradient, not of its square": _rate(result=np.sqrt),
        "the inverse: how gradients grow on the way from input to output": _rate(result=lambda rate: 1 / rate),
        "the factor of the weights, sigma_w², left out": _rate(lambda s, f, df: _normal_mean(df**2)),
        "sigma_w instead of its square as the factor of the weights": _rate(lambda s, f, df: s * _normal_mean(df**2)),
        "pre-activations of standard deviation 1, whatever sigma_w is": _rate(scale=lambda s: 1.0),
        "pre-activations of standard deviation sigma_w² instead of sigma_w": _rate(scale=lambda s: s**2),
        "uniform pre-activations instead of normal ones": _uniform,
        "too few samples: the accuracy is not reached": _few,
        "the number for ReLU, whatever the activation": lambda f, df, sigma_w: np.pi / (np.pi - 1),
    },
)
