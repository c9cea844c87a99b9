"""Exercise 7.3: the loss of a model that knows how frequent the tokens are."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

SIZES = {"visible": (40, 5), "graded": (90, 8)}  # tokens, different ones


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 703)
    n, kinds = SIZES[level]
    p = rng.dirichlet(np.ones(kinds))
    everyone = np.arange(kinds)  # each token at least once

    def draw(*shape: int) -> np.ndarray:
        drawn = np.concatenate([everyone, rng.choice(kinds, size=int(np.prod(shape)) - kinds, p=p)])
        return rng.permutation(drawn).reshape(shape)

    names = np.sort(rng.choice(5000, size=kinds, replace=False)) + 7
    return [
        Case("one sequence", {"tokens": draw(n)}),
        Case("one sequence", {"tokens": rng.permutation(np.repeat(np.arange(2), (kinds, 3 * kinds)))}),
        Case("several sequences", {"tokens": draw(4, n // 4)}),
        Case("numbers that do not occur", {"tokens": names[draw(n)]}),
        Case("one token only", {"tokens": np.full(n, 3)}),
        Case("leaves its input alone", {"tokens": draw(n), "asks": "tokens"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    tokens = inputs["tokens"].copy()
    out = {"the entropy": array("the entropy", answer(tokens))}
    return out | ({"tokens after the call": tokens} if "asks" in inputs else {})


def _frequencies(tokens: Any) -> Any:
    return np.unique(tokens, return_counts=True)[1] / tokens.size


def _of(entropy: Callable[[Any], Any]) -> Answer:
    return lambda tokens: entropy(_frequencies(tokens))


_solution = _of(lambda p: -np.sum(p * np.log(p)))


def _with_zeros(tokens: Any) -> Any:
    p = np.bincount(tokens.ravel()) / tokens.size
    return -np.sum(p * np.log(p))


def _smoothed(tokens: Any) -> Any:
    p = np.bincount(tokens.ravel()) + 1
    return -np.sum(p / p.sum() * np.log(p / p.sum()))


def _pairs(tokens: Any) -> Any:
    flat = tokens.ravel().astype(np.int64)
    return _solution(flat[:-1] * 100_000 + flat[1:])


def _in_place(tokens: Any) -> Any:
    entropy = _solution(tokens)
    tokens.sort(axis=-1)
    return entropy


UNIGRAM_ENTROPY = Exercise(
    name="unigram_entropy",
    signature="unigram_entropy(tokens)",
    properties={
        "one sequence": 2,
        "several sequences": 1,
        "numbers that do not occur": 1,
        "one token only": 1,
        "leaves its input alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_solution,
    forbids=("scipy.stats.entropy",),
    mistakes={
        "bits in place of nats: the logarithm to base 2": _of(lambda p: -np.sum(p * np.log2(p))),
        "the logarithm to base 10": _of(lambda p: -np.sum(p * np.log10(p))),
        "the opposite sign": _of(lambda p: np.sum(p * np.log(p))),
        "the perplexity: the entropy in the exponent": _of(lambda p: np.exp(-np.sum(p * np.log(p)))),
        "log V, as if all tokens were equally frequent": _of(lambda p: np.log(len(p))),
        "log of the largest token plus one": lambda tokens: np.log(tokens.max() + 1.0),
        "the mean of −log p over the kinds of tokens, not over the tokens": _of(lambda p: -np.mean(np.log(p))),
        "the sum of −log p, not weighted with p": _of(lambda p: -np.sum(np.log(p))),
        "−log of the most frequent token's share": _of(lambda p: -np.log(p.max())),
        "counts that were not divided by the number of tokens": lambda tokens: (
            -np.sum(_frequencies(tokens) * tokens.size * np.log(_frequencies(tokens) * tokens.size))
        ),
        "0 · log 0 for numbers that do not occur, which is not a number": _with_zeros,
        "every count one too large": _smoothed,
        "the entropy of pairs of tokens": _pairs,
        "the conditional entropy: of a token, given the one before": lambda tokens: (
            _pairs(tokens) - _solution(tokens.ravel()[:-1])
        ),
        "the first sequence only": lambda tokens: _solution(np.atleast_2d(tokens)[0]),
        "the mean of the sequences' own entropies": lambda tokens: np.mean(
            [_solution(row) for row in np.atleast_2d(tokens)]
        ),
        "divided by log V, so that it lies between 0 and 1": _of(
            lambda p: -np.sum(p * np.log(p)) / np.log(max(len(p), 2))
        ),
        "the tokens sorted in place": _in_place,
    },
)
