"""Exercise 5.1: mean and variance of a sample in two parts."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, arrays

SIZES = {"visible": (3, 8, 4), "graded": (5, 13, 6)}  # counts of the two samples, features


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed)
    n1, n2, features = SIZES[level]

    def statistics(n: int, *shape: int, mean: float = 0.0) -> tuple[int, Any, Any]:
        return n, mean + rng.normal(scale=2.0, size=shape), rng.uniform(0.2, 3.0, size=shape)

    def inputs(first: Any, second: Any, asks: str = "all") -> dict[str, Any]:
        return dict(zip(("n1", "m1", "v1", "n2", "m2", "v2"), (*first, *second), strict=True)) | {"asks": asks}

    numbers = (statistics(n1), statistics(n2))
    several = (statistics(n2, features), statistics(n1, features))
    empty = (0, *(np.full(features, np.nan) for _ in range(2)))
    far = (statistics(n1, features, mean=1e7), statistics(n2, features, mean=1e7))
    return [
        Case("count and mean", inputs(*numbers, asks="n m")),
        Case("variance", inputs(*numbers, asks="v")),
        Case("variance", inputs(statistics(1), statistics(n2), asks="v")),
        Case("an array for each feature", inputs(*several)),
        Case("an empty sample", inputs(empty, several[0])),
        Case("an empty sample", inputs(several[0], empty)),
        Case("samples far from zero", inputs(*far, asks="v"), 1e-7),  # the gap of two means near 1e7 is off by 1e-9
        Case("leaves its inputs alone", inputs(*several, asks="inputs")),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    given = {name: np.copy(each)[()] if name[0] != "n" else each for name, each in inputs.items() if name != "asks"}
    out = arrays(("n", "m", "v"), answer(*given.values()))
    if inputs["asks"] == "inputs":
        return out | {f"{name} after the call": np.array(each) for name, each in given.items()}
    return out if inputs["asks"] == "all" else {name: out[name] for name in inputs["asks"].split()}


def _mean(n1: int, m1: Any, v1: Any, n2: int, m2: Any, v2: Any) -> Any:
    return (n1 * m1 + n2 * m2) / (n1 + n2)


def _variance(n1: int, m1: Any, v1: Any, n2: int, m2: Any, v2: Any) -> Any:
    n = n1 + n2
    return (n1 * v1 + n2 * v2) / n + n1 * n2 / n**2 * (m2 - m1) ** 2


def _merge(mean: Callable[..., Any] = _mean, variance: Callable[..., Any] = _variance, *, empty: bool = True) -> Answer:
    """Return a rule that is right by default; ``empty`` says whether it looks for empty samples."""

    def merge_stats(*parts: Any) -> Any:
        n1, m1, v1, n2, m2, v2 = parts
        if empty and not n1 * n2:
            return (n1, m1, v1) if n1 else (n2, m2, v2)
        return n1 + n2, mean(*parts), variance(*parts)

    return merge_stats


def _between(factor: Callable[[int, int], float], power: int = 2) -> Callable[..., Any]:
    """Return the variance within the samples plus a factor times a power of the gap between their means."""

    def variance(n1: int, m1: Any, v1: Any, n2: int, m2: Any, v2: Any) -> Any:
        return (n1 * v1 + n2 * v2) / (n1 + n2) + factor(n1, n2) * np.abs(m2 - m1) ** power

    return variance


def _moments(n1: int, m1: Any, v1: Any, n2: int, m2: Any, v2: Any) -> Any:
    n = n1 + n2
    return (n1 * (v1 + m1**2) + n2 * (v2 + m2**2)) / n - ((n1 * m1 + n2 * m2) / n) ** 2


def _unbiased(n1: int, m1: Any, v1: Any, n2: int, m2: Any, v2: Any) -> Any:
    return _variance(n1, m1, v1, n2, m2, v2) * (n1 + n2) / (n1 + n2 - 1)


def _pooled(n1: int, m1: Any, v1: Any, n2: int, m2: Any, v2: Any) -> Any:
    within = ((n1 - 1) * v1 + (n2 - 1) * v2) / (n1 + n2 - 2)
    return within + n1 * n2 / (n1 + n2) ** 2 * (m2 - m1) ** 2


def _in_place(n1: int, m1: Any, v1: Any, n2: int, m2: Any, v2: Any) -> Any:
    merged = _merge()(n1, m1, v1, n2, m2, v2)
    if n1 and n2:
        m1 += 0 * m2 + 1
    return merged


MERGE_STATS = Exercise(
    name="merge_stats",
    signature="merge_stats(n1, m1, v1, n2, m2, v2)",
    properties={
        "count and mean": 1,
        "variance": 2,
        "an array for each feature": 1,
        "an empty sample": 1,
        "samples far from zero": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_merge(),
    forbids=("lnorm.reference.merge_statistics",),
    mistakes={
        "the variances averaged, and the gap between the means forgotten": _merge(variance=_between(lambda n1, n2: 0)),
        "the average of the two variances with equal weights, without the gap": _merge(
            variance=lambda n1, m1, v1, n2, m2, v2: (v1 + v2) / 2
        ),
        "equal weights for the two variances": _merge(
            variance=lambda n1, m1, v1, n2, m2, v2: (v1 + v2) / 2 + n1 * n2 / (n1 + n2) ** 2 * (m2 - m1) ** 2
        ),
        "equal weights for the two means": _merge(lambda n1, m1, v1, n2, m2, v2: (m1 + m2) / 2),
        "the means weighted by the other sample's count": _merge(
            lambda n1, m1, v1, n2, m2, v2: (n2 * m1 + n1 * m2) / (n1 + n2)
        ),
        "n1·n2/n instead of n1·n2/n² in front of the gap": _merge(
            variance=_between(lambda n1, n2: n1 * n2 / (n1 + n2))
        ),
        "1/4 in front of the gap, which is right for equal counts only": _merge(variance=_between(lambda n1, n2: 0.25)),
        "the squared gap without a factor": _merge(variance=_between(lambda n1, n2: 1)),
        "the gap not squared": _merge(variance=_between(lambda n1, n2: n1 * n2 / (n1 + n2) ** 2, power=1)),
        "the gap subtracted instead of added": _merge(variance=_between(lambda n1, n2: -n1 * n2 / (n1 + n2) ** 2)),
        "the variance of the whole divided by n − 1": _merge(variance=_unbiased),
        "the variances weighted by n1 − 1 and n2 − 1": _merge(variance=_pooled),
        "a detour over E[x²] − E[x]², which cancels far from zero": _merge(variance=_moments),
        "an empty sample not looked for: its NaN spreads": _merge(empty=False),
        "standard deviations returned instead of variances": _merge(variance=lambda *parts: np.sqrt(_variance(*parts))),
        "m1 overwritten in place": _in_place,
    },
)
