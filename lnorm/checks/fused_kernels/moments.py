"""Exercise 11.2: mean and variance of numbers that come only once."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, arrays
from lnorm.checks.fused_kernels.memory import peak_memory

MANY, LIMIT = 3000, 40_000  # as a list, so many numbers take 96,000 bytes


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed)
    n = 30 if level == "visible" else 47
    near = rng.normal(loc=2.0, scale=3.0, size=n)
    first_apart = np.append(50.0, rng.normal(size=n))
    few = [np.full(n, rng.normal()), rng.normal(loc=3.0, size=1), rng.normal(loc=3.0, size=2)]
    # A mean of 1e9 is itself only known to 1e-7, and so are the differences to it.
    far = {"numbers": rng.uniform(1e9, 2e9) + rng.normal(scale=3.0, size=n), "asks": "variance"}
    return [
        Case("the mean", {"numbers": near, "asks": "mean"}),
        Case("the mean", {"numbers": first_apart, "asks": "mean"}),
        Case("the variance", {"numbers": near, "asks": "variance"}),
        Case("the variance", {"numbers": first_apart, "asks": "variance"}),
        Case("numbers far from zero", far, tolerance=1e-5),
        *(Case("one number, two, and equal ones", {"numbers": each, "asks": "both"}) for each in few),
        Case("keeps only a few numbers", {"numbers": rng.normal(size=MANY), "asks": "kept"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    numbers = inputs["numbers"]
    if inputs["asks"] == "kept":
        stream = (float(each) for each in numbers)
        with peak_memory() as peak:
            out = arrays(("mean", "variance"), answer(stream))
        return {"all numbers read": np.array(next(stream, None) is None), **out, "kept": np.array(peak() > LIMIT)}
    out = arrays(("mean", "variance"), answer(iter(numbers.tolist())))
    return {inputs["asks"]: out[inputs["asks"]]} if inputs["asks"] in out else out


def _explain(case: Case, outputs: Outputs) -> str:
    kept = case.inputs["asks"] == "kept" and outputs["kept"]
    return "memory for all of the numbers was taken; keep sums, not numbers" if kept else ""


def _shifted(
    *,
    mean: Any = lambda c, n, first: c + first / n,
    var: Any = lambda n, first, second: second / n - (first / n) ** 2,
    counts_first: bool = True,
    shift: Any = lambda first: first,
) -> Answer:
    """Return sums around the first number; by default right."""

    def one_pass_moments(numbers: Iterator[float]) -> Any:
        start = next(numbers)
        c = shift(start)
        n, first, second = (1, start - c, (start - c) ** 2) if counts_first else (0, 0.0, 0.0)
        for number in numbers:
            d = number - c
            n, first, second = n + 1, first + d, second + d * d
        return (mean(c, n, first), var(n, first, second)) if n else (math.nan, math.nan)

    return one_pass_moments


def _list(numbers: Iterator[float]) -> Any:
    kept = np.array(list(numbers))
    return kept.mean(), kept.var()


def _two_passes(numbers: Iterator[float]) -> Any:
    n, total, second = 0, 0.0, 0.0
    for number in numbers:
        n, total = n + 1, total + number
    for number in numbers:  # nothing is left
        second += (number - total / n) ** 2
    return total / n, second / n


def _welford(new: Any) -> Answer:
    """Return Welford's update with ``new`` in place of the product of the two deviations."""

    def one_pass_moments(numbers: Iterator[float]) -> Any:
        n, mean, m2 = 0, 0.0, 0.0
        for number in numbers:
            n, before = n + 1, number - mean
            mean += before / n
            m2 += new(before, number - mean)
        return mean, m2 / n

    return one_pass_moments


def _std(n: int, first: float, second: float) -> float:
    return math.sqrt(max(second / n - (first / n) ** 2, 0))


ONE_PASS_MOMENTS = Exercise(
    name="one_pass_moments",
    signature="one_pass_moments(numbers)",
    properties={
        "the mean": 1,
        "the variance": 2,
        "numbers far from zero": 2,
        "one number, two, and equal ones": 1,
        "keeps only a few numbers": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_shifted(),
    explain=_explain,
    forbids=("numpy.var", "numpy.std", "statistics.variance", "statistics.pvariance"),
    mistakes={
        "E[x²] − E[x]², without a shift": _shifted(shift=lambda first: 0.0),
        "E[x²] − E[x]² without a shift, negative values set to 0": _shifted(
            shift=lambda first: 0.0, var=lambda n, first, second: max(second / n - (first / n) ** 2, 0.0)
        ),
        "variance divided by n − 1": _shifted(
            var=lambda n, first, second: (second - first**2 / n) / (n - 1) if n > 1 else math.nan
        ),
        "the variance around the shift, not around the mean": _shifted(var=lambda n, first, second: second / n),
        "the mean of the differences, without the shift": _shifted(mean=lambda c, n, first: first / n),
        "the shift returned as the mean": _shifted(mean=lambda c, n, first: c),
        "the first number used as shift and then not counted": _shifted(counts_first=False),
        "the standard deviation instead of the variance": _shifted(var=_std),
        "the mean not squared before it is subtracted": _shifted(var=lambda n, first, second: second / n - first / n),
        "the sum of squares not divided by n": _shifted(var=lambda n, first, second: second - first**2 / n),
        "Welford with the deviation from the old mean, squared": _welford(lambda before, after: before * before),
        "Welford with the deviation from the new mean, squared": _welford(lambda before, after: after * after),
        "a second pass over numbers that are gone": _two_passes,
        "all numbers kept in a list": _list,
        "mean and variance swapped": lambda numbers: _shifted()(numbers)[::-1],
    },
)
