"""Exercise 10.5: by how much a loss has to be scaled."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

PLAIN, NONE_NEEDED = "the smallest scale that is enough", "no scaling where none is needed"
ZEROS, WINDOW = "zeros are not lost", "no scale where none will do"
LOWEST = 2.0**-25  # this, and what is below it, is rounded to zero


def _gradient(rng: np.random.Generator, size: float, n: int = 400, spread: float = 0.0) -> np.ndarray:
    return size * rng.normal(size=n) * np.exp(spread * rng.normal(size=n))


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 4)

    def case(tests: str, gradient: np.ndarray, share: float) -> Case:
        return Case(tests, {"gradient": gradient, "share": share})

    sizes = 10 ** rng.uniform(-11, -8, size=2 if level == "visible" else 4)
    mostly_zero = _gradient(rng, 1e-9, spread=1.0)
    mostly_zero[np.arange(400) % 8 > 0] = 0  # a share of all entries is far from one of the others
    wide = np.concatenate([_gradient(rng, 1e-10), _gradient(rng, 30.0, 40)])
    inside = np.concatenate([_gradient(rng, 1e-7), _gradient(rng, 3.0, 40)])
    power = int(rng.integers(3, 12))
    just_fits = np.concatenate([1.5 * LOWEST / 2.0**power * rng.choice([-1.0, 1.0], size=50), [5e4 / 2.0**power]])
    one_large = np.concatenate([_gradient(rng, 1e-8), [7e4]])
    return [
        *(case(PLAIN, _gradient(rng, size, spread=1.0), 0.05) for size in sizes),
        case(PLAIN, _gradient(rng, 1e-9, spread=0.5).reshape(20, 20), 0.2),
        case(PLAIN, _gradient(rng, 1e-9), 0.0),
        case(PLAIN, LOWEST * np.array([1.0, 1.3, -1.0, -1.3] * 9), 0.25),
        case(NONE_NEEDED, _gradient(rng, 1e-3), 0.05),
        case(NONE_NEEDED, _gradient(rng, 10.0), 0.01),
        case(ZEROS, mostly_zero, 0.05),
        case(ZEROS, np.zeros(9), 0.05),
        case(WINDOW, wide, 0.05),
        case(WINDOW, one_large, 0.05),
        case(WINDOW, inside, 0.05),
        case(WINDOW, just_fits, 0.05),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    """Compare as 1 + log₂, and 0 for no scale: the scales themselves go from 1 to 2³⁰."""
    scale = array("the scale", answer(inputs["gradient"].copy(), inputs["share"])).astype(float)
    return {"log₂ of the scale": np.where(scale == 0, -1.0, np.log2(scale, where=scale != 0, out=np.zeros_like(scale)))}


def _scale(
    lowest: float = LOWEST,
    largest: float = 65520.0,
    start: int = 0,
    count_zeros: bool = False,
    of_all: bool = False,
    signed: bool = False,
    extra: int = 0,
) -> Answer:
    """Return the right answer, or one with other limits, or with zeros counted."""

    def loss_scale_needed(gradient: np.ndarray, share: float) -> float:
        size = np.ravel(gradient if signed else np.abs(gradient))
        alive = size if count_zeros else size[size != 0]
        total = size.size if of_all else max(alive.size, 1)
        for power in range(start, 60):
            if np.sum(alive * 2.0**power <= lowest) <= share * total:
                scaled = 2.0 ** (power + extra)
                return scaled if np.max(np.abs(gradient)) * scaled < largest else 0.0
        return 0.0

    return loss_scale_needed


def _for_the_mean(gradient: Any, share: float) -> float:
    size = np.abs(gradient[gradient != 0])
    return float(max(1.0, 2.0 ** np.ceil(np.log2(LOWEST / size.mean())))) if size.size else 1.0


def _not_a_power(gradient: Any, share: float) -> float:
    size = np.sort(np.abs(gradient[gradient != 0]))
    if not size.size:
        return 1.0
    scale = max(1.0, LOWEST / size[min(int(share * size.size), size.size - 1)])
    return float(scale) if np.abs(gradient).max() * scale < 65520 else 0.0


def _largest_possible(gradient: Any, share: float) -> float:
    top = np.abs(gradient).max()
    return float(2.0 ** np.floor(np.log2(65519 / top))) if 0 < top < 65520 else float(top == 0)


LOSS_SCALE_NEEDED = Exercise(
    name="loss_scale_needed",
    signature="loss_scale_needed(gradient, share)",
    properties={PLAIN: 3, NONE_NEEDED: 1, ZEROS: 1, WINDOW: 1},
    cases=_cases,
    probe=_probe,
    solution=_scale(),
    mistakes={
        "lost means below 2⁻²⁴: numbers above half of it are rounded up": _scale(lowest=2.0**-24 * (1 - 1e-12)),
        "lost means below the smallest normal number: subnormal numbers are not lost": _scale(lowest=2.0**-14),
        "lost means strictly below 2⁻²⁵: this number itself is rounded to zero": _scale(lowest=LOWEST * (1 - 1e-12)),
        "entries that are zero from the start counted as lost": _scale(count_zeros=True, of_all=True),
        "the share taken of all entries, zeros included": _scale(of_all=True),
        "negative entries counted as lost": _scale(signed=True),
        "no look at overflow": _scale(largest=np.inf),
        "overflow from 32768 on": _scale(largest=32768.0),
        "scales below 1, which make small gradients smaller": _scale(start=-30),
        "one power of two more than needed": _scale(extra=1),
        "the smallest scale, not rounded up to a power of two": _not_a_power,
        "the largest scale that does not overflow": _largest_possible,
        "a scale that saves the mean": _for_the_mean,
        "no scaling at all": lambda gradient, share: 1.0,
    },
    explain=lambda case, outputs: "a scale of 0 counts as −1 here",
)
