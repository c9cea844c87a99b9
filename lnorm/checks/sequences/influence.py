"""Exercise 6.3: which token moves which output."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array
from lnorm.checks.sequences.models import FEATURES, anonymous

SIZES = {"visible": (2, 4), "graded": (3, 5)}
ALONE, EARLIER = "models in which tokens hear themselves only", "models in which tokens hear earlier ones"
STATISTICS, ANYONE = "batch statistics, in training mode", "models that look ahead, or at other sequences"
ROUNDING, UNTOUCHED = "rounding is no influence", "leaves x as it was"
ASKED = {
    ALONE: ("token_by_token", "nothing"),
    EARLIER: ("pre_norm_block", "token_before", "last_feature"),
    STATISTICS: ("batch_norm_of_tokens", "block_with_batch_norm", "batch_norm_of_each_step"),
    ANYONE: ("token_after", "sum_from_here_on", "sequence_before", "pre_norm_block_without_mask"),
    ROUNDING: ("mean_so_far",),
    UNTOUCHED: ("pre_norm_block",),
}


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 2)
    out = []
    for tests, models in ASKED.items():
        for model in models[:1] if level == "visible" else models:
            x = rng.normal(1.0, 2.0, size=(*SIZES[level], FEATURES))
            out.append(Case(tests, {"model": model, "x": x, "asks": tests}))
    return out


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    x = inputs["x"].copy()
    moved = array("the matrix", answer(anonymous(inputs["model"]), x))
    return {"the matrix": moved} | ({"x after the call": x} if inputs["asks"] == UNTOUCHED else {})


def _explain(case: Case, outputs: Outputs) -> str:
    moved = outputs["the matrix"]
    size = case.inputs["x"][..., 0].size
    if moved.shape != (size, size):
        return ""
    right = _influence()(anonymous(case.inputs["model"]), case.inputs["x"].copy())
    return f"{int((moved > right).sum())} entries should be False and {int((moved < right).sum())} should be True"


def _other(token: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(scale=3.0, size=token.shape)


def _influence(
    edit: Callable[[np.ndarray, np.random.Generator], np.ndarray] = _other,
    training: bool = True,
    tolerance: float = 1e-9,
    measure: Callable[[np.ndarray], np.ndarray] = lambda change: np.abs(change).max(axis=-1),
    pile_up: bool = False,
) -> Answer:
    """Return the right answer, or one with another edit, mode, tolerance or measure of change."""

    def influence_matrix(f: Answer, x: np.ndarray) -> Any:
        rng = np.random.default_rng(3)
        before, edited, rows = f(x, training=training), x.copy(), []
        for n, t in np.ndindex(*x.shape[:2]):
            edited[n, t] = edit(x[n, t], rng)
            rows.append((measure(f(edited, training=training) - before) > tolerance).ravel())
            if not pile_up:
                edited[n, t] = x[n, t]
        return np.array(rows)

    return influence_matrix


def _first_feature_only(token: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([token[:1] + 3.0, token[1:]])


def _own_sequence_only(f: Answer, x: np.ndarray) -> Any:
    sequence = np.repeat(np.arange(x.shape[0]), x.shape[1])
    return _influence()(f, x) & (sequence[:, None] == sequence)


def _without_restoring(f: Answer, x: np.ndarray) -> Any:
    moved = _influence()(f, x)
    x[...] = 0.0
    return moved


INFLUENCE_MATRIX = Exercise(
    name="influence_matrix",
    signature="influence_matrix(f, x)",
    properties={ALONE: 1, EARLIER: 2, STATISTICS: 2, ANYONE: 1, ROUNDING: 1, UNTOUCHED: 1},
    cases=_cases,
    probe=_probe,
    solution=_influence(),
    explain=_explain,
    mistakes={
        "evaluation mode, in which batch statistics do not show": _influence(training=False),
        "rows and columns swapped: row i has to be the token that is edited": lambda f, x: _influence()(f, x).T,
        "earlier edits are not undone, so that they pile up": _influence(pile_up=True),
        "the same number added to all features of a token, to which LayerNorm is blind": _influence(
            edit=lambda token, rng: token + 3.0
        ),
        "a token multiplied by a number, to which LayerNorm is blind": _influence(edit=lambda token, rng: 3 * token),
        "only the first feature of a token is edited": _influence(edit=_first_feature_only),
        "changes of the features summed with their signs: behind LayerNorm they cancel": _influence(
            measure=lambda change: np.abs(change.sum(axis=-1))
        ),
        "no tolerance: rounding counts as influence": _influence(tolerance=0.0),
        "a tolerance so wide that influences are missed": _influence(tolerance=1.0),
        "an edit so small that the tolerance hides it": _influence(edit=lambda token, rng: token * (1 + 1e-11)),
        "only outputs of the edited token's own sequence are compared": _own_sequence_only,
        "the result has four axes instead of two": lambda f, x: _influence()(f, x).reshape(x.shape[:2] * 2),
        "the opposite: True where nothing changes": lambda f, x: ~_influence()(f, x),
        "the mask of a causal model, whatever the model is": lambda f, x: np.kron(
            np.eye(x.shape[0]), np.triu(np.ones((x.shape[1], x.shape[1])))
        ),
        "x overwritten": _without_restoring,
    },
)
