"""Small sequence models for the exercises that ask who hears whom.

Each is a function ``f(x, training)`` from an array ``(N, T, D)`` to one of the same shape. ``D`` is ``FEATURES``.
"""

import numpy as np

from lnorm import reference
from lnorm.checks.exercise import Answer

FEATURES = 5
_RNG = np.random.default_rng(42)
_W, _Q, _K, _V = (_RNG.normal(size=(FEATURES, FEATURES)) for _ in range(4))


def _layer_norm(x: np.ndarray) -> np.ndarray:
    return reference.layer_norm(x, x.shape[-1], eps=0.0)[0]  # blind to scale, exactly


def _batch_norm(x: np.ndarray, training: bool) -> np.ndarray:
    """All tokens of the batch in one pot; in evaluation with the statistics that BatchNorm starts from."""
    rows = x.reshape(-1, x.shape[-1])
    mean, var = (rows.mean(0), rows.var(0)) if training else (0.0, 1.0)
    return (x - mean) / np.sqrt(var + 1e-5)


def _attention(x: np.ndarray, causal: bool = True) -> np.ndarray:
    scores = np.einsum("nik,njk->nij", x @ _Q, x @ _K) / FEATURES
    t = x.shape[1]
    mask = np.tril(np.ones((t, t))) if causal else np.ones((t, t))
    weights = np.exp(np.clip(scores, -20, 20)) * mask
    return weights / weights.sum(-1, keepdims=True) @ (x @ _V)


def token_by_token(x: np.ndarray, training: bool) -> np.ndarray:
    return np.tanh(_layer_norm(x) @ _W)


def pre_norm_block(x: np.ndarray, training: bool) -> np.ndarray:
    return x + _attention(_layer_norm(x))


def pre_norm_block_without_mask(x: np.ndarray, training: bool) -> np.ndarray:
    return _layer_norm(_attention(_layer_norm(x), causal=False))


def block_with_batch_norm(x: np.ndarray, training: bool) -> np.ndarray:
    return x + _attention(_batch_norm(x, training))


def batch_norm_of_tokens(x: np.ndarray, training: bool) -> np.ndarray:
    return np.tanh(_batch_norm(x, training) @ _W)


def batch_norm_of_each_step(x: np.ndarray, training: bool) -> np.ndarray:
    mean, var = (x.mean(0), x.var(0)) if training else (0.0, 1.0)
    return (x - mean) / np.sqrt(var + 1e-5)


def mean_so_far(x: np.ndarray, training: bool) -> np.ndarray:
    """The sum of all tokens minus that of the later ones: right up to rounding."""
    later = x.sum(1, keepdims=True) - np.cumsum(x, axis=1)
    return (x.sum(1, keepdims=True) - later) / np.arange(1, x.shape[1] + 1)[:, None]


def largest_so_far(x: np.ndarray, training: bool) -> np.ndarray:
    return np.maximum.accumulate(x, axis=1)


def largest_of_all(x: np.ndarray, training: bool) -> np.ndarray:
    return np.broadcast_to(x.max(axis=1, keepdims=True), x.shape) + 0.0


def sum_from_here_on(x: np.ndarray, training: bool) -> np.ndarray:
    return np.cumsum(_layer_norm(x)[:, ::-1], axis=1)[:, ::-1]


def token_before(x: np.ndarray, training: bool) -> np.ndarray:
    return np.concatenate([np.zeros_like(x[:, :1]), x[:, :-1]], axis=1)


def token_after(x: np.ndarray, training: bool) -> np.ndarray:
    return np.concatenate([x[:, 1:], np.zeros_like(x[:, :1])], axis=1)


def a_little_of_two_ahead(x: np.ndarray, training: bool) -> np.ndarray:
    return x + 1e-3 * np.concatenate([x[:, 2:], np.zeros_like(x[:, :2])], axis=1)


def sequence_before(x: np.ndarray, training: bool) -> np.ndarray:
    before = np.concatenate([np.zeros_like(x[:1]), x[:-1]])
    return _layer_norm(x) + 0.5 * np.tanh(before @ _W)


def last_feature(x: np.ndarray, training: bool) -> np.ndarray:
    return np.cumsum(np.repeat(x[..., -1:], x.shape[-1], axis=-1), axis=1)


def nothing(x: np.ndarray, training: bool) -> np.ndarray:
    return np.ones_like(x)


MODELS: dict[str, Answer] = {
    each.__name__: each
    for each in (
        token_by_token,
        pre_norm_block,
        pre_norm_block_without_mask,
        block_with_batch_norm,
        batch_norm_of_tokens,
        batch_norm_of_each_step,
        mean_so_far,
        largest_so_far,
        largest_of_all,
        sum_from_here_on,
        token_before,
        token_after,
        a_little_of_two_ahead,
        sequence_before,
        last_feature,
        nothing,
    )
}


def anonymous(name: str) -> Answer:
    """Return a model under a wrapper that does not say which it is, and does not touch what it is given."""
    model = MODELS[name]
    return lambda x, training=False: np.ascontiguousarray(model(np.array(x, dtype=float), bool(training)))
