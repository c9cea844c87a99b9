"""Exercise 8.3: the variance of Pre-LN's stream, layer by layer."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

LAYERS = {"visible": 4, "graded": 7}


def _cases(seed: int, level: Level) -> list[Case]:
    rng, n = np.random.default_rng(seed + 803), LAYERS[level]

    def case(tests: str, layers: int, scales: np.ndarray, **more: Any) -> Case:
        v_attn, v_ffn = rng.uniform(0.1, 1.0, size=layers), rng.uniform(0.3, 0.9, size=layers)
        inputs = {"v_0": float(rng.uniform(0.5, 3)), "v_attn": v_attn, "v_ffn": v_ffn, "scales": scales}
        return Case(tests, {**inputs, **more})

    return [
        case("plain Pre-LN", n, np.ones(n)),
        case("one layer", 1, np.ones(1)),
        case("scaled norms", n, np.arange(1, n + 1) ** -0.5),
        case("scaled norms", n + 2, rng.uniform(0.2, 1.8, size=n + 2)),
        case("leaves its inputs alone", n, rng.uniform(0.2, 1.8, size=n), asks="inputs"),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    given = {name: inputs[name].copy() for name in ("v_attn", "v_ffn", "scales")}
    out = {"v": array("v", answer(inputs["v_0"], *given.values()))}
    return out | ({f"{name} after the call": each for name, each in given.items()} if "asks" in inputs else {})


def _added(step: Callable[..., Any]) -> Answer:
    """Return an answer that starts at v_0 and goes from v to ``step(v, a, f, s)`` in every layer."""

    def predict(v_0: float, v_attn: Any, v_ffn: Any, scales: Any) -> Any:
        found = [v_0]
        for a, f, s in zip(v_attn, v_ffn, scales, strict=True):
            found.append(step(found[-1], a, f, s))
        return np.array(found)

    return predict


_solution = _added(lambda v, a, f, s: v + s * s * (a + f))


def _from_zero(v_0: float, v_attn: Any, v_ffn: Any, scales: Any) -> Any:
    return _solution(0.0, v_attn, v_ffn, scales)


def _in_place(v_0: float, v_attn: Any, v_ffn: Any, scales: Any) -> Any:
    v_attn += v_ffn
    v_attn *= scales**2
    return v_0 + np.concatenate([[0.0], np.cumsum(v_attn)])


PREDICT_PRENORM_VARIANCE = Exercise(
    name="predict_prenorm_variance",
    signature="predict_prenorm_variance(v_0, v_attn, v_ffn, scales)",
    properties={"plain Pre-LN": 2, "one layer": 1, "scaled norms": 2, "leaves its inputs alone": 1},
    cases=_cases,
    probe=_probe,
    solution=_solution,
    mistakes={
        "the scale in place of its square": _added(lambda v, a, f, s: v + s * (a + f)),
        "the scale is left out": _added(lambda v, a, f, s: v + a + f),
        "division by the square of the scale": _added(lambda v, a, f, s: v + (a + f) / s**2),
        "the scale reaches attention only": _added(lambda v, a, f, s: v + s * s * a + f),
        "the scale reaches the feed-forward branch only": _added(lambda v, a, f, s: v + a + s * s * f),
        "the whole stream is scaled, not the branch": _added(lambda v, a, f, s: s * s * (v + a + f)),
        "the branches multiply the variance of the stream, as if nothing normalized their input": _added(
            lambda v, a, f, s: v * (1 + s * s * a) * (1 + s * s * f)
        ),
        "standard deviations added in place of variances": _added(
            lambda v, a, f, s: (v**0.5 + s * a**0.5 + s * f**0.5) ** 2
        ),
        "the standard deviation in place of the variance": lambda *args: np.sqrt(_solution(*args)),
        "the variance starts at 0 instead of v_0": _from_zero,
        "only what each layer adds, not the sum": lambda v_0, a, f, s: np.array([v_0, *(s**2 * (a + f))]),
        "attention alone": _added(lambda v, a, f, s: v + s * s * a),
        "the feed-forward branch alone": _added(lambda v, a, f, s: v + s * s * f),
        "the mean of the two branches in place of their sum": _added(lambda v, a, f, s: v + s * s * (a + f) / 2),
        "the embeddings left out: the first value is that after layer 1": lambda *args: _solution(*args)[1:],
        "the last layer left out": lambda *args: _solution(*args)[:-1],
        "a variance of 1 after every layer, as in Post-LN": lambda v_0, a, f, s: np.array([v_0, *np.ones(len(a))]),
        "an input overwritten in place": _in_place,
    },
)
