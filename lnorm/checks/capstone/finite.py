"""Exercise 14.1: where numbers stop being numbers."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, UnusableError, array

PLACES = ("tokens", "norm_input", "blocks.0.norm", "blocks.0", "blocks.1.norm", "blocks.1", "norm_final", "head")
WHERE, ROWS, INFINITE, CLEAN = "the place", "the sentences", "infinity, of either sign", "everything is finite"


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed)
    n, t, d = (4, 3, 5) if level == "visible" else (6, 4, 3)

    def case(tests: str, first: int, bad: float) -> Case:
        """From the place ``first`` on there are bad numbers: in some sentences, and further on in more of them."""
        signals = [rng.normal(size=(n, t, d)) for _ in PLACES[:-2]] + [rng.normal(size=(n, d)) for _ in PLACES[-2:]]
        hit = np.sort(rng.choice(n, size=2, replace=False))
        for number, signal in enumerate(signals[first:]):
            rows = hit if number == 0 else np.arange(n)
            flat = signal.reshape(n, -1)
            flat[rows, rng.integers(flat.shape[1], size=len(rows))] = bad if number == 0 else np.nan
        return Case(tests, {**{f"x{i}": x for i, x in enumerate(signals)}, "asks": tests})

    drawn = [int(each) for each in rng.permutation(range(1, 7))]
    return [
        case(WHERE, drawn[0], np.nan),
        case(WHERE, drawn[1], np.nan),
        case(WHERE, 7, np.nan),
        case(ROWS, drawn[2], np.nan),
        case(ROWS, drawn[3], np.nan),
        case(INFINITE, drawn[4], np.inf),
        case(INFINITE, drawn[5], -np.inf),
        case(CLEAN, len(PLACES), np.nan),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    found = answer({name: inputs[f"x{number}"].copy() for number, name in enumerate(PLACES)})
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise UnusableError(f"expected two values, a name and the numbers of sentences, got {type(found).__name__}")
    name, rows = found
    if name is not None and name not in PLACES:
        raise UnusableError(f"expected one of the names of the signals, or None; got {name!r:.40}")
    place = {"the place": np.array(-1 if name is None else PLACES.index(name))}
    return place if inputs["asks"] == WHERE else place | {"the sentences": array("the sentences", rows)}


def _first(bad: Any = lambda x: ~np.isfinite(x), last: bool = False, of: int = 0) -> Answer:
    """Return the right answer, or one that looks for something else; ``of`` names the sentences of a later place."""

    def first_not_finite(signals: dict[str, np.ndarray]) -> tuple[str | None, Any]:
        found = [name for name, x in signals.items() if bad(x).any()]
        if not found:
            return None, []
        name = found[-1 if last else 0]
        at = signals[found[min(found.index(name) + of, len(found) - 1)]]
        return name, np.flatnonzero(bad(at).reshape(len(at), -1).any(axis=1))

    return first_not_finite


def _then(change: Any) -> Answer:
    """Return the right answer with its place and sentences changed."""

    def first_not_finite(signals: dict[str, np.ndarray]) -> tuple[Any, Any]:
        name, rows = _first()(signals)
        return (None, []) if name is None else change(name, rows, signals)

    return first_not_finite


def _place_before(name: str, rows: Any, signals: Any) -> tuple[str, Any]:
    return PLACES[PLACES.index(name) - 1], rows


FIRST_NOT_FINITE = Exercise(
    name="first_not_finite",
    signature="first_not_finite(signals)",
    properties={WHERE: 1, ROWS: 1, INFINITE: 1, CLEAN: 1},
    cases=_cases,
    probe=_probe,
    solution=_first(),
    mistakes={
        "only NaN, not infinity": _first(np.isnan),
        "only infinity, not NaN": _first(np.isinf),
        "infinity of one sign only": _first(lambda x: np.isnan(x) | (x == np.inf)),
        "the last place instead of the first": _first(last=True),
        "the place before, the last that was well": _then(_place_before),
        "the first name in alphabetical order": lambda signals: _first()(dict(sorted(signals.items()))),
        "the sentences of the place after": _first(of=1),
        "the sentences that are well": _then(
            lambda name, rows, signals: (name, np.setdiff1d(np.arange(len(signals[name])), rows))
        ),
        "a mask instead of numbers": _then(
            lambda name, rows, signals: (name, np.isin(np.arange(len(signals[name])), rows))
        ),
        "only the first sentence": _then(lambda name, rows, signals: (name, rows[:1])),
        "sentences counted from 1": _then(lambda name, rows, signals: (name, rows + 1)),
        "positions in the flattened array instead of sentences": _then(
            lambda name, rows, signals: (name, np.flatnonzero(~np.isfinite(signals[name])))
        ),
        "the head, if nothing is wrong": lambda signals: (
            _first()(signals) if _first()(signals)[0] is not None else ("head", [])
        ),
    },
)
