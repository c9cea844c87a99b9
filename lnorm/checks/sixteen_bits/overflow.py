"""Exercise 10.3: from which deviation on a sum of squares overflows."""

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array
from lnorm.checks.sixteen_bits.smallest_eps import OTHERS as OTHER_BITS
from lnorm.checks.sixteen_bits.smallest_eps import formats

SQUARE, SUM = "one square", "a sum of many squares"


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 2)
    out = []
    for tests, e, m in formats(seed + 2, level):
        out.append(Case(SQUARE, {"exponent": e, "fraction": m, "terms": 1}, tolerance=1e-12))
        terms = int(rng.integers(3, 5000))
        out.append(Case(SUM if tests != OTHER_BITS else OTHER_BITS, {"exponent": e, "fraction": m, "terms": terms}))
    return out


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    """Compare logarithms: the numbers go from ten to 1e19."""
    largest = array("the deviation", answer(inputs["exponent"], inputs["fraction"], inputs["terms"]))
    return {"log₂ of the deviation": np.log2(largest.astype(float))}


def _largest(e: int, m: int) -> float:
    return (2 - 2.0**-m) * 2.0 ** (2 ** (e - 1) - 1)


def _limit(e: int, m: int) -> float:
    """Return the number from which on everything is rounded to infinity: half a step above the largest."""
    return (2 - 2.0 ** -(m + 1)) * 2.0 ** (2 ** (e - 1) - 1)


OVERFLOW_THRESHOLD = Exercise(
    name="overflow_threshold",
    signature="overflow_threshold(exponent_bits, fraction_bits, terms)",
    properties={SQUARE: 2, SUM: 1, OTHER_BITS: 2},
    cases=_cases,
    probe=_probe,
    solution=lambda e, m, terms: float(np.sqrt(_limit(e, m) / terms)),
    mistakes={
        "the root of the largest number: what is less than half a step above it is rounded down": lambda e, m, n: (
            np.sqrt(_largest(e, m) / n)
        ),
        "the next power of two: half a step below it, rounding already gives infinity": lambda e, m, n: np.sqrt(
            2.0 ** (2 ** (e - 1)) / n
        ),
        "where the deviation itself overflows, not its square": lambda e, m, n: _limit(e, m) / n,
        "divided by the number of terms behind the root": lambda e, m, n: np.sqrt(_limit(e, m)) / n,
        "the number of terms left out": lambda e, m, n: np.sqrt(_limit(e, m)),
        "multiplied by the number of terms instead of divided": lambda e, m, n: np.sqrt(_limit(e, m) * n),
        "the square of the deviation": lambda e, m, n: (_limit(e, m) / n) ** 2,
        "the largest exponent one too high: its bit pattern is for infinity": lambda e, m, n: np.sqrt(
            2 * _limit(e, m) / n
        ),
        "the answer for float16, whatever the type is": lambda e, m, n: np.sqrt(65520 / n),
        "a cube root": lambda e, m, n: np.cbrt(_limit(e, m) / n),
        "terms minus 1 in the place of terms": lambda e, m, n: np.sqrt(_limit(e, m) / max(n - 1, 1)),
        "exponent bits and fraction bits swapped": lambda e, m, n: np.sqrt(_limit(min(m, 9), e) / n),
    },
)
