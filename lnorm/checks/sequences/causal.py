"""Exercise 6.4: is a model causal?"""

from collections.abc import Callable

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, UnusableError
from lnorm.checks.sequences.models import FEATURES, anonymous

SIZES = {"visible": (2, 5), "graded": (3, 6)}
LATER, OTHERS = "a look at later tokens", "a look at other sequences"
TRAINING, SMALL = "statistics of the batch, in training mode", "small leaks, and rounding that is none"
PAIRS = {  # a causal model, and one that is not: whoever calls all models the same earns nothing
    LATER: (
        ("pre_norm_block", "pre_norm_block_without_mask"),
        ("token_before", "token_after"),
        ("largest_so_far", "largest_of_all"),
        ("last_feature", "sum_from_here_on"),
    ),
    OTHERS: (("token_by_token", "sequence_before"), ("pre_norm_block", "batch_norm_of_each_step")),
    TRAINING: (("token_by_token", "batch_norm_of_tokens"), ("pre_norm_block", "block_with_batch_norm")),
    SMALL: (("mean_so_far", "a_little_of_two_ahead"),),
}


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 3)
    return [
        Case(tests, {"causal": causal, "leaky": leaky, "x": rng.normal(1.0, 2.0, size=(*SIZES[level], FEATURES))})
        for tests, pairs in PAIRS.items()
        for causal, leaky in (pairs[:1] if level == "visible" else pairs)
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    out = {}
    for which in ("causal", "leaky"):
        found = answer(anonymous(inputs[which]), inputs["x"].copy())
        if not isinstance(found, (bool, np.bool_)):
            raise UnusableError(f"expected True or False, got {type(found).__name__}")
        out[which] = np.array(bool(found))
    return out


def _verify(case: Case, outputs: Outputs) -> str:
    if outputs["causal"] and not outputs["leaky"]:
        return ""
    if not outputs["causal"]:
        return "a model is causal, and your function says that it is not"
    return "a model is not causal, and your function says that it is"


def _noise(tokens: np.ndarray) -> np.ndarray:
    return np.random.default_rng(4).normal(scale=10.0, size=tokens.shape)


def _is_causal(
    edit: Callable[[np.ndarray], np.ndarray] = _noise,
    training: bool = True,
    tolerance: float = 1e-9,
    later: bool = True,
    others: bool = True,
    gap: int = 1,
) -> Answer:
    """Return the right answer, or one that edits something else.

    For each sequence and position, all tokens that it may not hear are edited at once: those from ``gap`` later on, and
    those of the other sequences.
    """

    def is_causal(f: Answer, x: np.ndarray) -> bool:
        before = f(x, training=training)
        for n, t in np.ndindex(*x.shape[:2]):
            forbidden = np.full(x.shape[:2], others)
            forbidden[n] = (np.arange(x.shape[1]) >= t + gap) & later
            edited = np.where(forbidden[..., None], edit(x), x)
            if not np.abs(f(edited, training=training)[n, t] - before[n, t]).max() <= tolerance:
                return False
        return True

    return is_causal


def _earlier_instead(f: Answer, x: np.ndarray) -> bool:
    return _is_causal()(lambda z, training: f(z[:, ::-1], training=training)[:, ::-1], x)


def _first_and_last_only(f: Answer, x: np.ndarray) -> bool:
    edited = x.copy()
    edited[:, -1] = _noise(x)[:, -1]
    return bool(np.abs(f(edited, training=True) - f(x, training=True))[:, 0].max() <= 1e-9)


def _earlier_must_matter(f: Answer, x: np.ndarray) -> bool:
    edited = x.copy()
    edited[:, 0] = _noise(x)[:, 0]
    heard = np.abs(f(edited, training=True) - f(x, training=True))[:, 1:].max() > 1e-9
    return _is_causal()(f, x) and bool(heard)


def _one_way_across(f: Answer, x: np.ndarray) -> bool:
    """Edit everything after a position, as if the batch were one long sequence."""
    before, noise = f(x, training=True), _noise(x)
    flat = np.arange(x[..., 0].size).reshape(x.shape[:2])
    for n, t in np.ndindex(*x.shape[:2]):
        edited = np.where((flat > flat[n, t])[..., None], noise, x)
        if np.abs(f(edited, training=True)[n, t] - before[n, t]).max() > 1e-9:
            return False
    return True


IS_CAUSAL = Exercise(
    name="is_causal",
    signature="is_causal(f, x)",
    properties={LATER: 2, OTHERS: 2, TRAINING: 1, SMALL: 1},
    cases=_cases,
    probe=_probe,
    solution=_is_causal(),
    verify=_verify,
    mistakes={
        "evaluation mode, in which batch statistics do not leak": _is_causal(training=False),
        "only later tokens of the same sequence are edited, never other sequences": _is_causal(others=False),
        "only other sequences are edited, never later tokens": _is_causal(later=False),
        "time the wrong way round: earlier tokens are edited": _earlier_instead,
        "only the last token is edited, and only the first output looked at": _first_and_last_only,
        "the token itself is edited too: an output may depend on its own token": _is_causal(gap=0),
        "the next token is left out: edits start two positions later": _is_causal(gap=2),
        "the same number added to all features, to which LayerNorm is blind": _is_causal(edit=lambda x: x + 10.0),
        "NaN as the edit: it gets through a mask that multiplies by zero": _is_causal(
            edit=lambda x: np.full_like(x, np.nan)
        ),
        "no tolerance: rounding counts as a leak": _is_causal(tolerance=0.0),
        "a tolerance so wide that small leaks are missed": _is_causal(tolerance=0.1),
        "it demands that earlier tokens matter, which being causal does not": _earlier_must_matter,
        "the batch taken for one long sequence: earlier sequences may be heard": _one_way_across,
        "True, whatever the model is": lambda f, x: True,
        "False, whatever the model is": lambda f, x: False,
    },
)
