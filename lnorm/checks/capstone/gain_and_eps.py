"""Exercise 14.5: gain and eps of a norm that can only be run."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, arrays

GAIN, USUAL, EXTREME = "the gain", "an eps between 1e-6 and 1", "a tiny eps, and a huge one"


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 4)

    def case(tests: str, power: float) -> Case:
        gain, features = float(np.exp(rng.normal())), int(rng.integers(16, 64))
        return Case(tests, {"gain": gain, "eps": float(10**power), "features": features}, tolerance=1e-4)

    return [
        case(GAIN, rng.uniform(-6, -4)),
        case(GAIN, rng.uniform(4, 5)),
        *(case(USUAL, rng.uniform(-6, 0)) for _ in range(1 if level == "visible" else 4)),
        case(EXTREME, rng.uniform(-16, -15)),
        case(EXTREME, rng.uniform(4, 5)),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    gain, eps = inputs["gain"], inputs["eps"]

    def norm(x: np.ndarray) -> np.ndarray:
        x = np.array(x, dtype=float)
        centred = x - x.mean(-1, keepdims=True)
        return gain * centred / np.sqrt(np.mean(centred**2, -1, keepdims=True) + eps)

    found = arrays(("gain", "eps"), answer(norm, inputs["features"]))
    return {"gain": found["gain"], "log₁₀ of eps": np.log10(found["eps"].astype(float))}


def _row(features: int, std: float) -> np.ndarray:
    z = np.random.default_rng(0).normal(size=(1, features))
    z -= z.mean()
    return std * z / z.std()


def _measured(
    loud: float = 1e12,
    quiet: float = 1e-9,
    ddof: int = 0,
    gain_known: bool = False,
    change: Callable[[float, float], tuple[float, float]] = lambda gain, eps: (gain, eps),
) -> Answer:
    """Return the right answer, or one that sends inputs of other sizes, or changes what it finds."""

    def gain_and_eps(norm: Answer, features: int) -> tuple[Any, Any]:
        gain = float(norm(_row(features, loud)).std(ddof=ddof))
        small = float(norm(_row(features, quiet)).std(ddof=ddof))
        eps = quiet**2 * ((1.0 if gain_known else gain) ** 2 / small**2 - 1)
        return change(gain, eps)

    return gain_and_eps


GAIN_AND_EPS = Exercise(
    name="gain_and_eps",
    signature="gain_and_eps(norm, features)",
    properties={GAIN: 2, USUAL: 2, EXTREME: 2},
    cases=_cases,
    probe=_probe,
    solution=_measured(),
    mistakes={
        "the gain measured with an input of size 1, in which a large eps shows too": _measured(loud=1.0),
        "eps measured with an input of size 1, next to which a tiny eps drowns in rounding": _measured(quiet=1.0),
        "eps measured with an input of size 1e6, next to which every eps is tiny": _measured(quiet=1e6),
        "the gain taken to be 1 when eps is computed": _measured(gain_known=True),
        "the root of eps": _measured(change=lambda gain, eps: (gain, np.sqrt(eps))),
        "eps squared": _measured(change=lambda gain, eps: (gain, eps**2)),
        "one over eps": _measured(change=lambda gain, eps: (gain, 1 / eps)),
        "the standard deviation with the number minus 1": _measured(ddof=1),
        "the gain squared": _measured(change=lambda gain, eps: (gain**2, eps)),
        "gain and eps swapped": _measured(change=lambda gain, eps: (eps, gain)),
        "1e-5, the default of PyTorch, whatever the norm is": _measured(change=lambda gain, eps: (gain, 1e-5)),
        "a gain of 1, whatever the norm is": _measured(change=lambda gain, eps: (1.0, eps)),
        "the gain of the quiet input, which eps holds down": _measured(
            loud=1e-9, quiet=1e-9, change=lambda g, e: (g, 1.0)
        ),
    },
)
