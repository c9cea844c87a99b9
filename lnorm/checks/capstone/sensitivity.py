"""Exercise 14.4: to what does a model listen?"""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, UnusableError, array

PADDING, VOCABULARY, FEATURES = 32, 32, 6
KEYS = ("padding", "company", "mode", "memory")
MODELS = ("healthy", "padding counts", "sentences hear each other", "no memory", "no statistics", "leaky evaluation")


def _model(kind: str, seed: int) -> Callable[[], Answer]:
    """Return a function that makes a small classifier anew: embedding, BatchNorm, mean, logits."""
    rng = np.random.default_rng(seed)
    embedding, weight = rng.normal(1.0, 1.0, size=(VOCABULARY + 1, FEATURES)), rng.normal(size=(FEATURES, 4))
    embedding[PADDING] = 0

    def make() -> Answer:
        running = [np.zeros(FEATURES), np.ones(FEATURES)]

        def model(tokens: np.ndarray, training: bool = False) -> np.ndarray:
            tokens = np.asarray(tokens)
            real = tokens != PADDING
            x = embedding[tokens]
            rows = x.reshape(-1, FEATURES) if kind == "padding counts" else x[real]
            if (training and kind != "no statistics") or kind == "leaky evaluation":
                mean, var = rows.mean(0), rows.var(0)
                if training and kind != "no memory":
                    running[:] = [0.7 * old + 0.3 * new for old, new in zip(running, (mean, var), strict=True)]
            else:
                mean, var = running
            x = (x - mean) / np.sqrt(var + 1e-5) * real[..., None]
            pooled = np.tanh(x.sum(1) / real.sum(1, keepdims=True))
            if kind == "sentences hear each other":
                pooled = pooled - pooled.mean(0)
            return pooled @ weight

        return model

    return make


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 3)
    n, t = (3, 6) if level == "visible" else (5, 9)
    models = MODELS[:3] if level == "visible" else [str(each) for each in rng.permutation(MODELS)]
    out = []
    for key in KEYS:
        for kind in models:
            tokens = rng.integers(VOCABULARY, size=(n, t))
            tokens[np.arange(t) >= rng.integers(2, t + 1, size=(n, 1))] = PADDING
            out.append(Case(key, {"kind": kind, "seed": int(rng.integers(10**6)), "tokens": tokens, "asks": key}))
    return out


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    found = answer(_model(inputs["kind"], inputs["seed"]), inputs["tokens"].copy())
    if not isinstance(found, dict) or inputs["asks"] not in found:
        came = f"the keys {list(found)}" if isinstance(found, dict) else type(found).__name__
        raise UnusableError(f"expected a dict with the keys {', '.join(map(repr, KEYS))}; got {came}"[:300])
    return {inputs["asks"]: array(inputs["asks"], found[inputs["asks"]])}


def _largest(difference: np.ndarray) -> float:
    return float(np.abs(difference).max())


def _sensitivity(measure: Callable[[np.ndarray], float] = _largest, **changed: Callable[..., Any]) -> Answer:
    """Return the right answer, or one that measures one of the four in another way."""
    ways: dict[str, Callable[..., Any]] = {
        "padding": lambda make, x: make()(_padded(x), training=True) - make()(x, training=True),
        "company": lambda make, x: _alone(make, x, training=False) - make()(x),
        "mode": lambda make, x: make()(x, training=True) - make()(x),
        "memory": _memory,
    } | changed
    return lambda make, tokens: {key: measure(way(make, tokens)) for key, way in ways.items()}


def _padded(x: np.ndarray, value: int = PADDING, front: bool = False) -> np.ndarray:
    return np.pad(x, ((0, 0), (8, 0) if front else (0, 8)), constant_values=value)


def _alone(make: Any, x: np.ndarray, training: bool) -> np.ndarray:
    return np.concatenate([make()(row[None], training=training) for row in x])


def _memory(make: Any, x: np.ndarray) -> np.ndarray:
    model = make()
    before = model(x)
    model(x, training=True)
    return model(x) - before


def _memory_in_training(make: Any, x: np.ndarray) -> np.ndarray:
    model = make()
    return model(x, training=True) - model(x, training=True)


def _memory_without_training(make: Any, x: np.ndarray) -> np.ndarray:
    model = make()
    return model(x) - model(x)


def _mode_after_training(make: Any, x: np.ndarray) -> np.ndarray:
    model = make()
    return model(x, training=True) - model(x)


def _one_model_for_all(make: Any, x: np.ndarray) -> dict[str, float]:
    model = make()
    return _sensitivity()(lambda: model, x)


SENSITIVITY = Exercise(
    name="sensitivity",
    signature="sensitivity(make, tokens)",
    properties=dict.fromkeys(KEYS, 2),
    cases=_cases,
    probe=_probe,
    solution=_sensitivity(),
    mistakes={
        "one model for all four: what it remembers of one measurement spoils the next": _one_model_for_all,
        "more padding tried in evaluation mode, where statistics are constant": _sensitivity(
            padding=lambda make, x: make()(_padded(x)) - make()(x)
        ),
        "padding with token 0, which is a word": _sensitivity(
            padding=lambda make, x: make()(_padded(x, 0), training=True) - make()(x, training=True)
        ),
        "more padding compared with other modes: two things changed at once": _sensitivity(
            padding=lambda make, x: make()(_padded(x), training=True) - make()(x)
        ),
        "company tried in training mode, where BatchNorm always listens": _sensitivity(
            company=lambda make, x: _alone(make, x, training=True) - make()(x, training=True)
        ),
        "company: sentences alone in the other mode than in company": _sensitivity(
            company=lambda make, x: _alone(make, x, training=False) - make()(x, training=True)
        ),
        "company: only the first sentence": _sensitivity(company=lambda make, x: make()(x[:1]) - make()(x)[:1]),
        "mode: evaluation after the same model was trained on these tokens": _sensitivity(mode=_mode_after_training),
        "memory looked for in training mode, which does not use it": _sensitivity(memory=_memory_in_training),
        "memory: nothing seen in training mode in between": _sensitivity(memory=_memory_without_training),
        "differences with their sign": _sensitivity(lambda difference: float(difference.max())),
        "the mean of the differences instead of the largest": _sensitivity(lambda d: float(np.abs(d).mean())),
        "padding and company swapped": lambda make, x: (
            (found := _sensitivity()(make, x)) | {"padding": found["company"], "company": found["padding"]}
        ),
    },
)
