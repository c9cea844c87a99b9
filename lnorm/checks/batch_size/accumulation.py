"""Exercise 5.5: the gradient of a batch that does not fit into memory."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm import reference
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, arrays

SIZES = {"visible": (4, 5, 6, 3), "graded": (5, 4, 7, 3)}  # rows that fit, inputs, hidden units, classes
Gradients = list[np.ndarray]
Gradient = Callable[[Gradients, np.ndarray, np.ndarray], Gradients]


def gradient(weights: Gradients, x: np.ndarray, y: np.ndarray) -> Gradients:
    """Return the gradients of the mean cross-entropy of a LayerNorm network over the rows whose label is not -1."""
    W, V = weights
    h, cache = reference.layer_norm(x @ W, W.shape[1:])
    logits = h @ V
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    dlogits = (p - np.eye(V.shape[1])[y]) * (y >= 0)[:, None] / np.float64(np.sum(y >= 0))  # 0/0 where none counts
    dz, _, _ = reference.layer_norm_backward(dlogits @ V.T, cache)
    return [x.T @ dz, h.T @ dlogits]


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 4)
    fits, d, hidden, classes = SIZES[level]

    def inputs(n: int, padded: Any = (), **more: Any) -> dict[str, Any]:
        x, y = rng.normal(size=(n, d)), rng.integers(classes, size=n)
        y[list(padded)] = -1
        W, V = rng.normal(size=(d, hidden)), rng.normal(size=(hidden, classes))
        return {"W": W, "V": V, "x": x, "y": y, "micro": fits, **more}

    uneven = inputs(2 * fits + 1)
    return [
        Case("equal pieces", inputs(3 * fits)),
        Case("a last piece that is smaller", uneven),
        Case("a last piece that is smaller", inputs(fits + 2)),
        Case("rows that do not count", inputs(3 * fits, padded=(0, 1, fits))),
        Case("rows that do not count", inputs(2 * fits + 3, padded=(1, fits + 1, fits + 2, 2 * fits))),
        Case("a piece in which no row counts", inputs(3 * fits, padded=(0, *range(fits, 2 * fits)))),
        Case("leaves its inputs alone", {**uneven, "asks": "inputs"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    weights, x, y = [inputs["W"].copy(), inputs["V"].copy()], inputs["x"].copy(), inputs["y"].copy()
    micro = inputs["micro"]

    def limited(weights: Any, x: Any, y: Any) -> Gradients:
        if len(x) > micro:
            raise MemoryError("gradient was called with more rows than fit into memory")
        with np.errstate(all="ignore"):
            return gradient([np.array(each) for each in weights], np.array(x), np.array(y))

    out = arrays(("dW", "dV"), answer(limited, weights, x, y, micro))
    after = {
        "W after the call": weights[0],
        "V after the call": weights[1],
        "x after the call": x,
        "y after the call": y,
    }
    return out | (after if "asks" in inputs else {})


def _solution(gradient: Gradient, weights: Gradients, x: np.ndarray, y: np.ndarray, micro: int) -> Any:
    total, counted = [np.zeros_like(w) for w in weights], np.sum(y >= 0)
    for i in range(0, len(x), micro):
        if count := np.sum(y[i : i + micro] >= 0):
            for t, g in zip(total, gradient(weights, x[i : i + micro], y[i : i + micro]), strict=True):
                t += g * count / counted
    return total


def _accumulate(
    share: Callable[..., float],
    *,
    skip: Callable[..., Any] = lambda y, piece: np.all(piece < 0),
    keep_last: bool = True,
) -> Answer:
    """Return an accumulation that gives each piece this ``share(y, piece, micro, pieces)`` of the sum."""

    def accumulate_gradients(gradient: Gradient, weights: Gradients, x: Any, y: Any, micro: int) -> Any:
        total = [np.zeros_like(w) for w in weights]
        starts = range(0, len(x) if keep_last else len(x) - len(x) % micro, micro)
        for i in starts:
            piece = y[i : i + micro]
            if not skip(y, piece):
                gradients = gradient(weights, x[i : i + micro], piece)
                total = [t + share(y, piece, micro, len(starts)) * g for t, g in zip(total, gradients, strict=True)]
        return total

    return accumulate_gradients


def _by_count(y: np.ndarray, piece: np.ndarray, micro: int, pieces: int) -> Any:
    return np.sum(piece >= 0) / np.sum(y >= 0)


def _only_last(gradient: Gradient, weights: Gradients, x: np.ndarray, y: np.ndarray, micro: int) -> Any:
    last = (len(x) - 1) // micro * micro
    return gradient(weights, x[last:], y[last:])


def _first_twice(gradient: Gradient, weights: Gradients, x: np.ndarray, y: np.ndarray, micro: int) -> Any:
    first = gradient(weights, x[:micro], y[:micro])
    share = _by_count(y, y[:micro], micro, 0)
    rest = _accumulate(_by_count)(gradient, weights, x, y, micro)
    return [share * a + b for a, b in zip(first, rest, strict=True)]


def _steps_between(gradient: Gradient, weights: Gradients, x: np.ndarray, y: np.ndarray, micro: int) -> Any:
    total = [np.zeros_like(w) for w in weights]
    now = [w.copy() for w in weights]
    for i in range(0, len(x), micro):
        piece = y[i : i + micro]
        if (piece >= 0).any():
            gradients = gradient(now, x[i : i + micro], piece)
            total = [t + _by_count(y, piece, micro, 0) * g for t, g in zip(total, gradients, strict=True)]
            now = [w - 0.1 * g for w, g in zip(now, gradients, strict=True)]
    return total


def _in_place(gradient: Gradient, weights: Gradients, x: np.ndarray, y: np.ndarray, micro: int) -> Any:
    total = _solution(gradient, weights, x, y, micro)
    for w, g in zip(weights, total, strict=True):
        w -= 0.1 * g
    return total


ACCUMULATE_GRADIENTS = Exercise(
    name="accumulate_gradients",
    signature="accumulate_gradients(gradient, weights, x, y, micro)",
    properties={
        "equal pieces": 2,
        "a last piece that is smaller": 2,
        "rows that do not count": 2,
        "a piece in which no row counts": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_solution,
    mistakes={
        "the pieces' gradients added up and not divided": _accumulate(lambda y, piece, micro, pieces: 1.0),
        "a mean of means: every piece has the same weight": _accumulate(lambda y, piece, micro, pieces: 1 / pieces),
        "pieces weighted by their rows, not by the rows that count": _accumulate(
            lambda y, piece, micro, pieces: len(piece) / len(y)
        ),
        "every piece weighted as if it were full": _accumulate(lambda y, piece, micro, pieces: micro / len(y)),
        "division by all rows instead of the rows that count": _accumulate(
            lambda y, piece, micro, pieces: np.sum(piece >= 0) / len(y)
        ),
        "a piece's gradient divided by its rows once more": _accumulate(
            lambda y, piece, micro, pieces: 1 / np.sum(y >= 0)
        ),
        "the mean of means over the pieces in which a row counts": _accumulate(
            lambda y, piece, micro, pieces: 1 / sum((y[i * micro : (i + 1) * micro] >= 0).any() for i in range(pieces))
        ),
        "the last, smaller piece dropped": _accumulate(_by_count, keep_last=False),
        "pieces with a row that does not count left out altogether": _accumulate(
            _by_count, skip=lambda y, piece: np.any(piece < 0)
        ),
        "the NaN of a piece in which no row counts let in": _accumulate(_by_count, skip=lambda y, piece: False),
        "only the last piece: the others are overwritten": _only_last,
        "the first piece counted twice": _first_twice,
        "a step of the optimizer after every piece instead of one at the end": _steps_between,
        "the whole batch at once, which does not fit": lambda gradient, weights, x, y, micro: gradient(weights, x, y),
        "the weights changed on the way": _in_place,
    },
)
