"""Exercise 10.2: the smallest eps that a type can hold."""

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

KNOWN, OTHERS = "float16, bfloat16 and float32", "other ways to spend the bits"
FORMATS = ((5, 10), (8, 7), (8, 23))


def formats(seed: int, level: Level) -> list[tuple[str, int, int]]:
    """Return (property, exponent bits, fraction bits): the known types, and some that nobody builds."""
    rng = np.random.default_rng(seed)
    known = [(KNOWN, *bits) for bits in FORMATS]
    count = 2 if level == "visible" else 5
    others = [(OTHERS, int(rng.integers(3, 8)), int(rng.integers(2, 14))) for _ in range(count)]
    return known + others


def _cases(seed: int, level: Level) -> list[Case]:
    return [Case(tests, {"exponent": e, "fraction": m}, tolerance=1e-12) for tests, e, m in formats(seed + 1, level)]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    """Compare powers of two by their exponents: the numbers themselves are all next to zero."""
    smallest = array("eps", answer(inputs["exponent"], inputs["fraction"]))
    return {"log₂ of eps": np.log2(smallest.astype(float))}


def _power(exponent_bits: int, fraction_bits: int) -> int:
    return 2 - 2 ** (exponent_bits - 1) - fraction_bits


MIN_SAFE_EPS = Exercise(
    name="min_safe_eps",
    signature="min_safe_eps(exponent_bits, fraction_bits)",
    properties={KNOWN: 2, OTHERS: 2},
    cases=_cases,
    probe=_probe,
    solution=lambda e, m: 2.0 ** _power(e, m),
    mistakes={
        "the smallest normal number: subnormal numbers reach further down": lambda e, m: 2.0 ** (2 - 2 ** (e - 1)),
        "half of the smallest number, which rounds to zero": lambda e, m: 2.0 ** (_power(e, m) - 1),
        "the step after 1, which is called eps too": lambda e, m: 2.0**-m,
        "half the step after 1, the largest rounding error": lambda e, m: 2.0 ** -(m + 1),
        "one over the largest number": lambda e, m: 1 / ((2 - 2.0**-m) * 2.0 ** (2 ** (e - 1) - 1)),
        "the root of the smallest number, below which squares vanish": lambda e, m: 2.0 ** (_power(e, m) / 2),
        "one over the smallest number": lambda e, m: 2.0 ** -_power(e, m),
        "the fraction with one bit less": lambda e, m: 2.0 ** (_power(e, m) + 1),
        "the answer for float16, whatever the type is": lambda e, m: 2.0**-24,
        "the power of ten instead of the power of two": lambda e, m: 10.0 ** _power(e, m),
        "only the power, not the number": lambda e, m: float(_power(e, m)),
        "exponent bits and fraction bits swapped": lambda e, m: 2.0 ** (2 - 2.0 ** (m - 1) - e),
    },
)
