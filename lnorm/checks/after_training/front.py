"""Exercise 13.5: which runs are the best for what they forgot."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, UnusableError, array


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed)
    n = 8 if level == "visible" else 14

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw runs near a trade-off curve that bends the wrong way: some of the front is not on its convex hull."""
        target = rng.uniform(0.1, 1.0, size=n)
        return target, np.sqrt(1.1 - target**2) + 0.1 * rng.exponential(size=n) * rng.integers(0, 2, size=n)

    free, ties, twins, lost = (draw(n) for _ in range(4))
    # Run 1 has forgotten as much as run 0 and learned less, run 3 learned as much as run 2 and forgotten more; no other
    # run dominates them.
    ties[0][:4], ties[1][:4] = (0.02, 0.12, 1.05, 1.05), (0.9, 0.9, 0.05, 0.1)
    for losses in twins:
        losses[n - 1] = losses[0]
    twins[0][[0, n - 1]], twins[1][[0, n - 1]] = 0.05, 0.3
    lost[0][2] = np.nan
    lost[1][4] = np.nan
    lost[0][5] = lost[1][5] = np.nan

    def case(tests: str, losses: tuple[np.ndarray, np.ndarray]) -> Case:
        return Case(tests, {"target": losses[0], "source": losses[1]})

    name = "runs that differ in both losses"
    return [
        case(name, free),
        case(name, (rng.permutation(np.arange(1.0, n + 1)), rng.permutation(10.0 * np.arange(n)))),
        case("runs that are equal in one loss", ties),
        case("two runs with the same losses", twins),
        case("runs that diverged", lost),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    mask = array("mask", answer(inputs["target"].copy(), inputs["source"].copy()))
    if mask.dtype.kind != "b":
        raise UnusableError(f"expected an array of True and False, got {mask.dtype}")
    return {"mask": mask}


def _front(by: Any, *, drop: bool = True) -> Answer:
    """Return an answer by this relation, given two (n, n) comparisons of runs: how j compares to i, ``[i, j]``."""

    def not_dominated(target: Any, source: Any) -> Any:
        t, s = target[None, :] - target[:, None], source[None, :] - source[:, None]
        return ~by(t, s).any(axis=1) & (np.isfinite(target + source) | (not drop))

    return not_dominated


def _dominated(t: Any, s: Any) -> Any:
    return (t <= 0) & (s <= 0) & ((t < 0) | (s < 0))


_right = _front(_dominated)


def _best_of_each(target: Any, source: Any) -> Any:
    return (target == np.nanmin(target)) | (source == np.nanmin(source))


def _best_sum(target: Any, source: Any) -> Any:
    return target + source == np.nanmin(target + source)


def _in_order_of_target(target: Any, source: Any) -> Any:
    return _right(target, source)[np.argsort(target, kind="stable")]


def _hull(target: Any, source: Any) -> Any:
    """Keep what is best for some weighted sum of the two losses."""
    mask = np.zeros(len(target), bool)
    for weight in np.linspace(0.001, 0.999, 400):
        total = weight * target + (1 - weight) * source
        mask |= total == np.nanmin(total)
    return mask


def _sweep(target: Any, source: Any) -> Any:
    """Go by rising target loss and keep what lowers the source loss; the second of two twins is lost."""
    mask, best = np.zeros(len(target), bool), np.inf
    for i in np.lexsort((source, target)):
        if source[i] < best and np.isfinite(target[i]):
            mask[i], best = True, source[i]
    return mask


def _nan_is_zero(target: Any, source: Any) -> Any:
    return _right(np.nan_to_num(target), np.nan_to_num(source))


NOT_DOMINATED = Exercise(
    name="not_dominated",
    signature="not_dominated(target, source)",
    properties={
        "runs that differ in both losses": 2,
        "runs that are equal in one loss": 1,
        "two runs with the same losses": 1,
        "runs that diverged": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_right,
    mistakes={
        "only the run with the smallest sum of losses": _best_sum,
        "only the best in each loss": _best_of_each,
        "the other way round: True for runs that are dominated": lambda target, source: ~_right(target, source),
        "a larger loss taken for the better one": _front(lambda t, s: _dominated(-t, -s)),
        "better in one loss taken as enough to dominate": _front(lambda t, s: (t < 0) | (s < 0)),
        "smaller in both losses demanded, so that a tie protects": _front(lambda t, s: (t < 0) & (s < 0)),
        "runs with equal losses, or a run and itself, dominate each other": _front(lambda t, s: (t <= 0) & (s <= 0)),
        "the second of two equal runs dropped": _sweep,
        "a run that diverged is kept, because nothing is smaller than NaN": _front(_dominated, drop=False),
        "NaN taken for a loss of 0": _nan_is_zero,
        "the front in the order of the target loss, not of the runs": _in_order_of_target,
        "only what is best for some weighted sum of the losses": _hull,
        "the source loss ignored": lambda target, source: target == np.nanmin(target),
    },
)
