"""Exercise 7.6: what a loss curve says."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, UnusableError

WORDS = ("fine", "plateau", "diverged")
STEPS = {"visible": 60, "graded": 95}
TOLERANCE = 0.1  # nats


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 706)
    n = STEPS[level] + int(rng.integers(10))
    unigram = float(rng.uniform(3.0, 5.0))
    step = np.arange(n)
    noise = 0.02 * rng.normal(size=n)

    def falling(start: float, end: float, speed: float = 12.0) -> np.ndarray:
        """Return a loss above or below the unigram entropy by ``start`` at first, by ``end`` at last."""
        return unigram + end + (start - end) * np.exp(-speed * step / n) + noise

    def case(tests: str, right: str, curve: np.ndarray) -> Case:
        return Case(tests, {"curve": curve, "unigram": unigram, "right": right})

    late = np.where(step < n // 2, unigram + noise, falling(0.0, -1.2))
    last_spike = falling(0.6, -0.8)
    last_spike[-1] = unigram + 0.02
    spike = falling(0.6, 0.0)
    spike[-1] = unigram + 0.8
    dip = falling(0.6, 0.0)
    dip[n // 2] = unigram - 0.7
    dip[-1] = unigram - 0.8
    noisy = falling(0.6, 0.0) + 0.3 * np.where(step % 2, 1, -1)
    hole = falling(0.6, -1.0)
    hole[n // 3] = np.nan
    peak = falling(0.6, -1.0)
    peak[n // 4] = np.inf
    stopped = falling(0.6, 0.0)
    stopped[-3:] = np.nan
    minus = falling(0.6, -1.0)
    minus[n // 2] = -np.inf
    up = unigram + 0.2 + 8 * (step / n) ** 2 + noise
    return [
        case("a loss that falls", "fine", falling(0.6, -1.2)),
        case("a loss that falls", "fine", falling(0.6, -0.25, speed=30.0)),
        case("a loss that falls", "fine", late),
        case("a loss that falls", "fine", last_spike),
        case("a loss that stands", "plateau", falling(0.6, 0.0)),
        case("a loss that stands", "plateau", falling(2.0, 0.03, speed=25.0)),
        case("a loss that stands", "fine", falling(-0.8, -0.8)),
        case("a loss that stands", "diverged", falling(2.0, 2.0)),
        case("noise", "plateau", noisy),
        case("noise", "plateau", spike),
        case("noise", "plateau", dip),
        case("a loss that rises", "diverged", up),
        case("a loss that rises", "diverged", falling(0.6, 0.3)),
        case("a loss that rises", "diverged", falling(6.0, 1.5)),
        case("numbers that are not finite", "diverged", hole),
        case("numbers that are not finite", "diverged", peak),
        case("numbers that are not finite", "diverged", stopped),
        case("numbers that are not finite", "diverged", minus),
        case("short curves", "fine", unigram + np.array([0.6, 0.3, -0.4])),
        case("short curves", "plateau", unigram + np.array([0.9, 0.5, 0.2, 0.02])),
        case("short curves", "diverged", unigram + np.array([1.5])),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    word = answer(inputs["curve"].copy(), inputs["unigram"])
    if not isinstance(word, str) or word not in WORDS:
        came = repr(word)[:30] if isinstance(word, str) else type(word).__name__
        raise UnusableError(f"expected one of {', '.join(map(repr, WORDS))}; got {came}")
    return {"the word": np.array(WORDS.index(word))}


def _verify(case: Case, outputs: Outputs) -> str:
    came, right = WORDS[int(outputs["the word"])], case.inputs["right"]
    return "" if came == right else f"your function says {came!r} of a curve that is {right!r}"


def _last_fifth(curve: Any) -> Any:
    return curve[-max(1, len(curve) // 5) :].mean()


def _rule(
    final: Callable[[Any], Any] = _last_fifth,
    broken: Callable[[Any], Any] = lambda curve: not np.isfinite(curve).all(),
    above: float = TOLERANCE,
    below: float = TOLERANCE,
    unit: float = 1.0,
) -> Answer:
    """Return the rule with another final loss, another test for what is not finite, other limits."""

    def diagnose_curve(curve: Any, unigram: float) -> str:
        over = final(curve) - unit * unigram
        if broken(curve) or over > above:
            return "diverged"
        return "plateau" if over >= -below else "fine"

    return diagnose_curve


def _by_flatness(curve: Any, unigram: float) -> str:
    if not np.isfinite(curve).all() or _last_fifth(curve) > unigram + TOLERANCE:
        return "diverged"
    half = len(curve) // 2
    return "plateau" if abs(curve[half:].mean() - _last_fifth(curve)) < 0.05 else "fine"


def _compared_with_the_start(curve: Any, unigram: float) -> str:
    if not np.isfinite(curve).all() or _last_fifth(curve) > curve[0]:
        return "diverged"
    return "plateau" if abs(_last_fifth(curve) - unigram) <= TOLERANCE else "fine"


def _nan_unnoticed(curve: Any, unigram: float) -> str:
    over = _last_fifth(curve) - unigram
    return "diverged" if over > TOLERANCE else "plateau" if over >= -TOLERANCE else "fine"


def _two_sides_swapped(curve: Any, unigram: float) -> str:
    word = _rule()(curve, unigram)
    return {"plateau": "fine", "fine": "plateau", "diverged": "diverged"}[word]


DIAGNOSE_CURVE = Exercise(
    name="diagnose_curve",
    signature="diagnose_curve(curve, unigram)",
    properties={
        "a loss that falls": 1,
        "a loss that stands": 2,
        "noise": 1,
        "a loss that rises": 1,
        "numbers that are not finite": 2,
        "short curves": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_rule(),
    verify=_verify,
    mistakes={
        "the last value only": _rule(lambda curve: curve[-1]),
        "the smallest value of the curve": _rule(np.min),
        "the mean of the whole curve": _rule(np.mean),
        "the first fifth in place of the last": _rule(lambda curve: curve[: max(1, len(curve) // 5)].mean()),
        "the largest value of the last fifth": _rule(lambda curve: curve[-max(1, len(curve) // 5) :].max()),
        "a fifth of a short curve is 0 values: `curve[-0:]` is the whole curve": _rule(
            lambda curve: curve[-(len(curve) // 5) :].mean()
        ),
        "a curve that stands counts as a plateau, wherever it stands": _by_flatness,
        "diverged means larger than at the start": _compared_with_the_start,
        "values that are not finite go unnoticed: comparing with NaN is always false": _nan_unnoticed,
        "only the end is searched for values that are not finite": _rule(
            broken=lambda curve: not np.isfinite(curve[-max(1, len(curve) // 5) :]).all()
        ),
        "only NaN is searched for, infinity is not": _rule(broken=lambda curve: np.isnan(curve).any()),
        "only infinity is searched for, NaN is not": _rule(broken=lambda curve: np.isinf(curve).any()),
        "NaN is left out of everything": _rule(
            lambda curve: _last_fifth(curve[np.isfinite(curve)]), broken=lambda curve: False
        ),
        "all that is above the unigram entropy is a plateau": _rule(above=np.inf),
        "all that is below the unigram entropy is a plateau": _rule(below=np.inf),
        "a limit so narrow that noise gets out of it": _rule(above=0.001, below=0.001),
        "a limit of one nat": _rule(above=1.0, below=1.0),
        "the limit is 10 % of the entropy, not 0.1 nat": lambda curve, unigram: _rule(
            above=0.1 * unigram, below=0.1 * unigram
        )(curve, unigram),
        "the entropy taken for bits": _rule(unit=float(np.log(2))),
        "'plateau' and 'fine' swapped": _two_sides_swapped,
        "always 'fine'": lambda curve, unigram: "fine",
    },
)
