"""Exercise 3.6: to what an unknown normalizer is blind."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, UnusableError

CHANGES = ("shift of a row", "scale of a row", "shift of a feature", "scale of a feature", "other rows")


def _over(axis: int | None, *, centre: bool = True, scale: bool = True) -> Answer:
    """Return a normalizer over an axis that centres, scales, or both."""

    def norm(x: np.ndarray) -> np.ndarray:
        y = x - x.mean(axis, keepdims=True) if centre else x
        return y / np.sqrt(np.mean(y**2, axis, keepdims=True)) if scale else y.copy()

    return norm


def _maximum(x: np.ndarray) -> np.ndarray:
    return x / np.abs(x).max(axis=1, keepdims=True)


NORMALIZERS = {
    "LayerNorm": (_over(1), (1, 1, 0, 0, 1)),
    "RMSNorm": (_over(1, centre=False), (0, 1, 0, 0, 1)),
    "BatchNorm": (_over(0), (0, 0, 1, 1, 0)),
    "centring of rows": (_over(1, scale=False), (1, 0, 0, 0, 1)),
    "centring of features": (_over(0, scale=False), (0, 0, 1, 0, 0)),
    "the identity": (lambda x: x.copy(), (0, 0, 0, 0, 1)),
    "one mean and one variance for all": (_over(None), (0, 0, 0, 0, 0)),
    "BatchNorm without centring": (_over(0, centre=False), (0, 0, 0, 1, 0)),
    "division by the largest value": (_maximum, (0, 1, 0, 0, 1)),
}


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 5)
    names = list(NORMALIZERS)[:4] if level == "visible" else [str(each) for each in rng.permutation(list(NORMALIZERS))]
    return [Case(change, {"norm": name, "asks": change}) for change in CHANGES for name in names]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    norm = NORMALIZERS[inputs["norm"]][0]
    found = answer(lambda x: norm(np.array(x, dtype=float)))
    if not isinstance(found, dict) or inputs["asks"] not in found:
        came = f"the keys {list(found)}" if isinstance(found, dict) else type(found).__name__
        raise UnusableError(f"expected a dict with the keys {', '.join(map(repr, CHANGES))}; got {came}"[:300])
    value = found[inputs["asks"]]
    if not isinstance(value, (bool, np.bool_)):
        raise UnusableError(f"{inputs['asks']}: expected True or False, got {type(value).__name__}")
    return {inputs["asks"]: np.array(bool(value))}


def _verify(case: Case, outputs: Outputs) -> str:
    norm, change = case.inputs["norm"], case.inputs["asks"]
    right = bool(NORMALIZERS[norm][1][CHANGES.index(change)])
    if bool(outputs[change]) == right:
        return ""
    return f"one of the normalizers is {'' if right else 'not '}blind to it, and your function says the opposite"


def _invariances(
    rows: Any = None, delta: float = 3.0, factor: float = 2.5, tolerance: float = 1e-8, one_row: bool = True
) -> Answer:
    """Return a function that tries the five changes on these rows; with ``one_row`` False on all rows alike."""

    def invariances(norm: Answer) -> dict[str, bool]:
        x = np.random.default_rng(7).normal(1.0, 2.0, size=(4, 6)) if rows is None else rows

        def same(change: Any, kept: Any = slice(None)) -> bool:
            changed = change(x.copy())
            return bool(np.allclose(norm(changed)[kept], norm(x)[kept], atol=tolerance, rtol=0))

        def shift(where: Any) -> Any:
            return lambda x: _put(x, where, x[where] + delta)

        def scale(where: Any) -> Any:
            return lambda x: _put(x, where, x[where] * factor)

        row, feature = (1 if one_row else slice(None),), (slice(None), 2 if one_row else slice(None))
        return {
            "shift of a row": same(shift(row)),
            "scale of a row": same(scale(row)),
            "shift of a feature": same(shift(feature)),
            "scale of a feature": same(scale(feature)),
            "other rows": same(lambda x: _put(x, (0,), x[0][::-1] * 3 + 1), kept=slice(1, None)),
        }

    return invariances


def _put(x: np.ndarray, where: Any, values: np.ndarray) -> np.ndarray:
    x[where] = values
    return x


def _with(**changed: Any) -> Answer:
    """Return the right answer, but for some keys: another value, or the value found for another key."""

    def invariances(norm: Answer) -> dict[str, bool]:
        found = _invariances()(norm)
        return found | {key.replace("_", " "): found.get(value, value) for key, value in changed.items()}

    return invariances


def _opposite(norm: Answer) -> dict[str, bool]:
    return {key: not value for key, value in _invariances()(norm).items()}


def _compares_whole_output(norm: Answer) -> dict[str, bool]:
    x = np.random.default_rng(7).normal(1.0, 2.0, size=(4, 6))
    other = _put(x.copy(), (0,), x[0][::-1] * 3 + 1)
    return _invariances()(norm) | {"other rows": bool(np.allclose(norm(x), norm(other)))}


INVARIANCES = Exercise(
    name="invariances",
    signature="invariances(norm)",
    properties={
        "shift of a row": 1,
        "scale of a row": 1,
        "shift of a feature": 1,
        "scale of a feature": 1,
        "other rows": 2,
    },
    cases=_cases,
    probe=_probe,
    solution=_invariances(),
    verify=_verify,
    mistakes={
        "all rows shifted or scaled alike, which is not what the question says": _invariances(one_row=False),
        "a change so small that the tolerance hides it": _invariances(delta=1e-12, factor=1 + 1e-12),
        "a tolerance so wide that everything looks the same": _invariances(tolerance=100.0),
        "no tolerance at all: rounding looks like a change": _invariances(tolerance=0.0),
        "a factor of 1, which changes nothing": _invariances(factor=1.0),
        "a negative factor": _invariances(factor=-2.5),
        "rows that are all alike": _invariances(rows=np.tile(np.arange(6.0), (4, 1))),
        "the row that was changed is compared too": _compares_whole_output,
        "rows and features swapped": _with(
            shift_of_a_row="shift of a feature",
            scale_of_a_row="scale of a feature",
            shift_of_a_feature="shift of a row",
            scale_of_a_feature="scale of a row",
        ),
        "shift and scale swapped": _with(
            shift_of_a_row="scale of a row",
            scale_of_a_row="shift of a row",
            shift_of_a_feature="scale of a feature",
            scale_of_a_feature="shift of a feature",
        ),
        "every answer the opposite: True where the output changes": _opposite,
        "the table of LayerNorm, whatever the function is": lambda norm: dict(
            zip(CHANGES, (True, True, False, False, True), strict=True)
        ),
    },
)
