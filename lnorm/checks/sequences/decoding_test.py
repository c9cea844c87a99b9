"""Exercise 6.7: the test that decoding piece by piece gives what one full pass gives."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer
from lnorm.checks.failing_test import failing_test

FEATURES, LONGEST = 6, 64
_RNG = np.random.default_rng(11)
_Q, _K, _V, _W = (_RNG.normal(size=(FEATURES, FEATURES)) for _ in range(4))
_PLACES = _RNG.normal(size=(LONGEST, FEATURES))  # what is added to a token at each position


def _layer_norm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def _over_the_piece(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)


def _attend(queries: np.ndarray, keys: np.ndarray, values: np.ndarray, first: int, masked: bool = True) -> np.ndarray:
    """Let the query at position ``first + i`` hear the keys up to that position."""
    scores = queries @ keys.T / np.sqrt(FEATURES)
    if masked:
        late = np.arange(len(keys)) > first + np.arange(len(queries))[:, None]
        scores = np.where(late, -np.inf, scores)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights @ values / weights.sum(-1, keepdims=True)


def _transformer(
    norm: Callable[[np.ndarray], np.ndarray] = _layer_norm,
    dtype: Any = float,
    *,
    counts: bool = True,
    masked: bool = True,
    remembers: int = LONGEST,
    aligned: bool = True,
) -> Answer:
    """Return a causal block whose cache holds keys and values, or one with a bug."""

    def model(x: np.ndarray, cache: Any = None) -> tuple[np.ndarray, Any]:
        keys, values, first = cache or (np.zeros((0, FEATURES), dtype), np.zeros((0, FEATURES), dtype), 0)
        places = (first if counts else 0) + np.arange(len(x))
        z = norm(x.astype(dtype) + _PLACES[places].astype(dtype))
        lost = len(keys) - len(keys[-remembers:] if remembers else keys[:0])
        keys, values = (np.concatenate([old[lost:], z @ w.astype(dtype)]) for old, w in ((keys, _K), (values, _V)))
        start = len(keys) - len(x)
        mask_from = start if aligned or len(x) == 1 else 0
        y = x + _attend(z @ _Q.astype(dtype), keys, values, mask_from, masked)
        return y.astype(dtype), (keys, values, first + len(x))

    return model


def _recomputes(x: np.ndarray, cache: Any = None) -> tuple[np.ndarray, Any]:
    """Keep all tokens, and compute everything again."""
    whole = x if cache is None else np.concatenate([cache, x])
    return _transformer()(whole)[0][-len(x) :], whole


def _with_buffer(x: np.ndarray, cache: Any = None) -> tuple[np.ndarray, Any]:
    """Write keys and values into the places of one buffer, which goes from call to call."""
    cache = cache or {"keys": np.zeros((LONGEST, FEATURES)), "values": np.zeros((LONGEST, FEATURES)), "used": 0}
    first, end = cache["used"], cache["used"] + len(x)
    z = _layer_norm(x + _PLACES[first:end])
    cache["keys"][first:end], cache["values"][first:end], cache["used"] = z @ _K, z @ _V, end
    return x + _attend(z @ _Q, cache["keys"][:end], cache["values"][:end], first), cache


def _recurrent(x: np.ndarray, cache: Any = None) -> tuple[np.ndarray, Any]:
    """A recurrent network with LayerNorm: what it remembers is its state."""
    h, out = np.zeros(FEATURES) if cache is None else cache, []
    for token in x:
        h = np.tanh(_layer_norm(h @ _W) + _layer_norm(token @ _V))
        out.append(h)
    return np.array(out), h


def _tokens(n: int = 40) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, FEATURES))


def _off(model: Answer, pieces: tuple[int, ...], hand_on: bool = True) -> np.ndarray:
    """Return how far each output of decoding in pieces of these lengths is from one full pass."""
    x, cache, out, start = _tokens(sum(pieces)), None, [], 0
    for length in pieces:
        y, newest = model(x[start : start + length].copy(), cache)
        cache = newest if hand_on or cache is None else cache
        out.append(y)
        start += length
    return np.abs(np.concatenate(out) - model(x.copy())[0]).max(axis=-1)


def _asserts(condition: Callable[[Answer], Any]) -> Answer:
    def test(model: Answer) -> None:
        assert condition(model)

    return test


ONES = (1,) * 40
TEST_INCREMENTAL_DECODING = failing_test(
    "test_incremental_decoding",
    signature="test_incremental_decoding(model)",
    buggy={
        "positions start at 0 in every piece": _transformer(counts=False),
        "the cache is not used": _transformer(remembers=0),
        "only the newest token is remembered": _transformer(remembers=1),
        "only 16 tokens are remembered": _transformer(remembers=16),
        "no causal mask, which shows in a full pass only": _transformer(masked=False),
        "statistics over the tokens of a piece": _transformer(_over_the_piece),
        "the mask of a piece of several tokens forgets what is in the cache": _transformer(aligned=False),
    },
    correct={
        "keys and values in a cache": _transformer(),
        "float32": _transformer(dtype=np.float32),
        "everything computed again for each piece": _recomputes,
        "a buffer that is written in place": _with_buffer,
        "a recurrent network whose cache is its state": _recurrent,
    },
    solution=_asserts(lambda model: max(_off(model, ONES).max(), _off(model, (3, 20, 1, 7, 9)).max()) < 1e-4),
    mistakes={
        "a test that nothing fails": lambda model: None,
        "a test that everything fails": _asserts(lambda model: False),
        "one token at a time only, never several on top of a cache": _asserts(
            lambda model: _off(model, ONES).max() < 1e-4
        ),
        "a sequence so short that nothing is forgotten": _asserts(
            lambda model: max(_off(model, (1,) * 6).max(), _off(model, (2, 3)).max()) < 1e-4
        ),
        "only the last output compared, which no mask concerns": _asserts(
            lambda model: max(_off(model, ONES)[-1], _off(model, (3, 20, 1, 7, 9))[-1]) < 1e-4
        ),
        "only the first token compared": _asserts(lambda model: _off(model, ONES)[0] < 1e-4),
        "one piece, which is a full pass again": _asserts(lambda model: _off(model, (40,)).max() < 1e-4),
        "the newest cache is not handed on": _asserts(lambda model: _off(model, ONES, hand_on=False).max() < 1e-4),
        "equality bit for bit, which float32 and other orders of summing do not keep": _asserts(
            lambda model: max(_off(model, ONES).max(), _off(model, (3, 20, 1, 7, 9)).max()) == 0
        ),
        "only shapes compared": _asserts(lambda model: _off(model, ONES).shape == (40,)),
        "the assertion upside down": _asserts(lambda model: _off(model, ONES).max() > 1e-4),
    },
)
