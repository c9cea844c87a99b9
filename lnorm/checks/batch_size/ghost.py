"""Exercise 5.2: BatchNorm whose statistics know a group of the batch only."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.batch_size.inputs import uneven_features
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

SIZES = {"visible": (4, 5), "graded": (6, 7)}  # group, features


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 1)
    group, features = SIZES[level]

    def inputs(n: int, group: int, scale: float = 1.0, eps: float = 1e-12) -> dict[str, Any]:
        return {"x": scale * uneven_features(rng, n, features), "group": group, "eps": eps}

    whole = inputs(3 * group, group)
    return [
        Case("equal groups", whole),
        Case("equal groups", inputs(8, 2)),
        Case("a last group that is smaller", inputs(2 * group + 3, group)),
        Case("a last group that is smaller", inputs(group - 1, group)),
        Case("a last group of one row", inputs(2 * group + 1, group, eps=1e-5)),
        Case("eps inside the square root", inputs(2 * group, group, scale=0.3, eps=0.1)),
        Case("leaves its input alone", {**whole, "asks": "inputs"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    x = inputs["x"].copy()
    y = array("y", answer(x, inputs["group"], inputs["eps"]))
    return {"y": y} | ({"x after the call": x} if "asks" in inputs else {})


def _explain(case: Case, outputs: Outputs) -> str:
    y, group = outputs["y"], case.inputs["group"]
    if y.shape != case.inputs["x"].shape or not np.isfinite(y).all():
        return ""
    largest = max(float(np.abs(y[i : i + group].mean(axis=0)).max()) for i in range(0, len(y), group))
    return f"the mean of a group of consecutive rows is {largest:.2g}, should be 0" if largest > 1e-6 else ""


def _normalize(x: np.ndarray, eps: float, ddof: int = 0) -> np.ndarray:
    return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0, ddof=ddof if len(x) > 1 else 0) + eps)


Rows = Callable[[int, int], list[Any]]  # number of rows and group → an index for each group


def _consecutive(n: int, group: int) -> list[Any]:
    return [slice(start, start + group) for start in range(0, n, group)]


def _interleaved(n: int, group: int) -> list[Any]:
    groups = -(-n // group)
    return [slice(start, None, groups) for start in range(groups)]


def _joined(n: int, group: int) -> list[Any]:
    full = max(n // group, 1)
    return [slice(i * group, (i + 1) * group if i < full - 1 else n) for i in range(full)]


def _evenly(n: int, group: int) -> list[Any]:
    return list(np.array_split(np.arange(n), -(-n // group)))


def _last_full(n: int, group: int) -> list[Any]:
    return [slice(start, start + group) for start in range(0, n - n % group, group)]


def _that_many(n: int, group: int) -> list[Any]:
    return [each for each in np.array_split(np.arange(n), group) if len(each)]


def _ghost(rows: Rows = _consecutive, norm: Callable[..., Any] = _normalize, *, rest: str = "x") -> Answer:
    """Return a ghost BatchNorm that is right by default; ``rest`` says what stands where no group is."""

    def ghost_batch_norm(x: np.ndarray, group: int, eps: float) -> Any:
        y = x.copy() if rest == "x" else np.zeros_like(x)
        for each in rows(len(x), group):
            y[each] = norm(x[each], eps)
        return y[: len(x) - len(x) % group] if rest == "none" else y

    return ghost_batch_norm


def _one_mean(x: np.ndarray, group: int, eps: float) -> Any:
    y = x - x.mean(axis=0)
    for each in _consecutive(len(x), group):
        y[each] /= np.sqrt(x[each].var(axis=0) + eps)
    return y


def _one_variance(x: np.ndarray, group: int, eps: float) -> Any:
    return _ghost(norm=lambda rows, eps: rows - rows.mean(axis=0))(x, group, eps) / np.sqrt(x.var(axis=0) + eps)


def _first_group(x: np.ndarray, group: int, eps: float) -> Any:
    return (x - x[:group].mean(axis=0)) / np.sqrt(x[:group].var(axis=0) + eps)


def _all_features(rows: np.ndarray, eps: float) -> Any:
    return (rows - rows.mean()) / np.sqrt(rows.var() + eps)


def _of_each_row(rows: np.ndarray, eps: float) -> Any:
    return _normalize(rows.T, eps).T


def _in_place(x: np.ndarray, group: int, eps: float) -> Any:
    for each in _consecutive(len(x), group):
        x[each] = _normalize(x[each], eps)
    return x


GHOST_BATCH_NORM = Exercise(
    name="ghost_batch_norm",
    signature="ghost_batch_norm(x, group, eps)",
    properties={
        "equal groups": 2,
        "a last group that is smaller": 1,
        "a last group of one row": 1,
        "eps inside the square root": 1,
        "leaves its input alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_ghost(),
    explain=_explain,
    forbids=(
        "lnorm.reference.ghost_batch_norm",
        "lnorm.reference.batch_norm",
        "torch.nn.functional.batch_norm",
        "torch.nn.BatchNorm1d",
        "torch.batch_norm",
    ),
    mistakes={
        "interleaved groups: every k-th row instead of consecutive ones": _ghost(_interleaved),
        "the last, smaller group dropped": _ghost(_last_full, rest="none"),
        "the last, smaller group set to zero": _ghost(_last_full, rest="zero"),
        "the last, smaller group left as it was": _ghost(_last_full),
        "the last, smaller group joined to the one before": _ghost(_joined),
        "the rows spread evenly over the groups": _ghost(_evenly),
        "group taken for the number of groups": _ghost(_that_many),
        "one group: the statistics of the whole batch": _ghost(lambda n, group: [slice(None)]),
        "one mean for the whole batch, a variance for each group": _one_mean,
        "one variance for the whole batch, a mean for each group": _one_variance,
        "the statistics of the first group for all": _first_group,
        "one mean and one variance for all features of a group": _ghost(norm=_all_features),
        "mean and variance of each row (this is LayerNorm)": _ghost(norm=_of_each_row),
        "variance divided by the group minus 1": _ghost(norm=lambda rows, eps: _normalize(rows, eps, ddof=1)),
        "eps added to the standard deviation, outside the square root": _ghost(
            norm=lambda rows, eps: (rows - rows.mean(axis=0)) / (rows.std(axis=0) + eps)
        ),
        "eps left out: a group of one row is 0/0": _ghost(norm=lambda rows, eps: _normalize(rows, 0.0)),
        "x overwritten in place": _in_place,
    },
)
