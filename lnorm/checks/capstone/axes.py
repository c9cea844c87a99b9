"""Exercise 14.3: over which axes was this normalized?"""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, UnusableError

SUBSETS = tuple(axes for size in (1, 2, 3) for axes in combinations(range(3), size))
ONE, SEVERAL = "statistics over one axis", "statistics over several axes"
HALF, EPS = "only centred, or only scaled: not normalized", "an eps that counts"


def _normalized(x: np.ndarray, axes: tuple[int, ...], eps: float = 1e-5) -> np.ndarray:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 2)
    shape = (6, 5, 8) if level == "visible" else (7, 9, 6)

    def draw() -> np.ndarray:
        """Return numbers whose size and mean differ along every axis."""
        x = rng.normal(size=shape)
        for axis in range(3):
            along = [1, 1, 1]
            along[axis] = shape[axis]
            x = x * rng.uniform(0.5, 2.0, size=along) + rng.normal(size=along)
        return x

    single = [(int(a),) for a in rng.permutation(3)]
    several = [(0, 1), (1, 2), (0, 2), (0, 1, 2)]
    if level == "visible":
        single, several = [(2,), (0,)], [(0, 1)]
    offset, spread = (0.5 * (z - z.mean()) / z.std() for z in rng.normal(size=(2, shape[0], 1, 1)))
    spread = np.sqrt(1 + spread / max(1.0, 1.1 * np.abs(spread).max()))
    mean_square = np.sqrt(np.mean((x := draw()) ** 2, axis=2, keepdims=True))
    return [
        *(Case(ONE, {"y": _normalized(draw(), axes)}) for axes in single),
        *(Case(SEVERAL, {"y": _normalized(draw(), axes)}) for axes in several),
        Case(HALF, {"y": x / mean_square}),
        Case(HALF, {"y": (z := draw()) - z.mean(2, keepdims=True)}),
        Case(HALF, {"y": _normalized(draw(), (2,)) + 0.3}),
        Case(HALF, {"y": spread * _normalized(draw(), (2,)) + offset}),  # right on average only
        Case(HALF, {"y": 1.5 * _normalized(draw(), (0, 1))}),
        Case(EPS, {"y": _normalized(draw() + 1.0, (2,), eps=2e-3)}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    found = answer(inputs["y"].copy())
    if not isinstance(found, (tuple, list)) or not all(isinstance(a, (int, np.integer)) and 0 <= a < 3 for a in found):
        raise UnusableError(f"expected a tuple of axes, of 0, 1 and 2; got {found!r:.40}")
    return {"the axes": np.isin(np.arange(3), found)}


def _smallest(
    subsets: Any = SUBSETS,
    tolerance: float = 0.02,
    mean: bool = True,
    var: bool = True,
    pool: Callable[[np.ndarray], Any] = lambda error: error.max(),
    ddof: int = 0,
) -> Answer:
    """Return the right answer, or one that tries other axes, or looks at other statistics."""

    def normalized_axes(y: np.ndarray) -> tuple[int, ...]:
        for axes in subsets:
            means, variances = y.mean(axes), y.var(axes, ddof=ddof)
            if (not mean or pool(np.abs(means)) < tolerance) and (not var or pool(np.abs(variances - 1)) < tolerance):
                return tuple(axes)
        return ()

    return normalized_axes


def _overall(y: np.ndarray) -> tuple[int, ...]:
    for axes in SUBSETS:
        if abs(y.mean(axes).mean()) < 0.02 and abs(y.var(axes).mean() - 1) < 0.02:
            return axes
    return ()


NORMALIZED_AXES = Exercise(
    name="normalized_axes",
    signature="normalized_axes(y)",
    properties={ONE: 2, SEVERAL: 2, HALF: 1, EPS: 1},
    cases=_cases,
    probe=_probe,
    solution=_smallest(),
    mistakes={
        "only the means looked at": _smallest(var=False),
        "only the variances looked at": _smallest(mean=False),
        "the largest set of axes: whoever normalizes rows also normalizes all of them together": _smallest(
            SUBSETS[::-1]
        ),
        "only single axes tried": _smallest(SUBSETS[:3]),
        "never all three axes tried": _smallest(SUBSETS[:-1]),
        "the mean of the statistics, instead of each of them": _overall,
        "the best of the statistics, instead of the worst": _smallest(pool=lambda error: error.min()),
        "a tolerance so strict that eps breaks it": _smallest(tolerance=1e-6),
        "a tolerance so wide that nearly everything passes": _smallest(tolerance=1.0),
        "variances divided by the number minus 1": _smallest(ddof=1),
        "the axes that are left, instead of those averaged over": lambda y: tuple(
            a for a in range(3) if a not in _smallest()(y)
        ),
        "the last axis, whatever the numbers are": lambda y: (2,),
    },
)
