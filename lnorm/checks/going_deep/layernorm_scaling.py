"""Exercise 8.4: Pre-LN with LayerNorm Scaling."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array
from lnorm.checks.going_deep.inputs import LAYERS
from lnorm.checks.placement.inputs import SIZES, as_branch, as_norm, draw_branches, draw_norm, stream


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 804)

    def case(tests: str, layers: int, *shape: int, **more: Any) -> Case:
        branches = draw_branches(rng, level, 2 * layers)
        inputs = {"x": stream(rng, *shape), "branches": branches, "affine": draw_norm(rng, SIZES[level][1])}
        return Case(tests, {**inputs, **more}, tolerance=1e-8)

    tokens, d = SIZES[level]
    return [
        case("the first layer", 1, tokens, d),
        case("several layers", LAYERS[level], tokens, d),
        case("several layers", LAYERS[level] + 2, 2, tokens, d),
        case("leaves x alone", 2, tokens, d, asks="x"),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    x = inputs["x"].copy()
    y = array("y", answer(x, [as_branch(each) for each in inputs["branches"]], as_norm(inputs["affine"])))
    return {"y": y} | ({"x after the call": x} if "asks" in inputs else {})


def _scaled(step: Callable[..., Any], factor: Callable[..., float] = lambda i, n: (i // 2 + 1) ** -0.5) -> Answer:
    """Return a network with the factor ``factor(i, n)`` in branch i = 0, 1, … of n, used by ``step(x, f, norm, s)``."""

    def network(x: Any, branches: Any, norm: Answer) -> Any:
        for i, f in enumerate(branches):
            x = step(x, f, norm, factor(i, len(branches)))
        return x

    return network


def _step(x: Any, f: Answer, norm: Answer, s: float) -> Any:
    return x + f(s * norm(x))


def _in_place(x: Any, branches: Any, norm: Answer) -> Any:
    for i, f in enumerate(branches):
        x += f(norm(x) * (i // 2 + 1) ** -0.5)
    return x


def _final_norm(x: Any, branches: Any, norm: Answer) -> Any:
    return norm(_scaled(_step)(x, branches, norm))


LAYERNORM_SCALING = Exercise(
    name="layernorm_scaling",
    signature="layernorm_scaling(x, branches, norm)",
    properties={"the first layer": 1, "several layers": 4, "leaves x alone": 1},
    cases=_cases,
    probe=_probe,
    solution=_scaled(_step),
    mistakes={
        "l counts the branches, not the layers": _scaled(_step, lambda i, n: (i + 1) ** -0.5),
        "l is one too large: the first layer is scaled already": _scaled(_step, lambda i, n: (i // 2 + 2) ** -0.5),
        "l starts at 0, and the factor is infinite in the first layer": _scaled(
            _step, lambda i, n: (i // 2) ** -0.5 if i > 1 else np.inf
        ),
        "l is one too small from the second layer on": _scaled(_step, lambda i, n: max(1, i // 2) ** -0.5),
        "1/l in place of 1/√l": _scaled(_step, lambda i, n: 1 / (i // 2 + 1)),
        "√l in place of 1/√l": _scaled(_step, lambda i, n: (i // 2 + 1) ** 0.5),
        "1/√L for all layers, L being their number": _scaled(_step, lambda i, n: (n // 2) ** -0.5),
        "the layers counted from the end": _scaled(_step, lambda i, n: (n // 2 - i // 2) ** -0.5),
        "no scaling: plain Pre-LN": _scaled(_step, lambda i, n: 1.0),
        "the branch's output is scaled, not its input": _scaled(lambda x, f, norm, s: x + s * f(norm(x))),
        "scaled before the norm, which undoes it": _scaled(lambda x, f, norm, s: x + f(norm(s * x))),
        "the shortcut is scaled too": _scaled(lambda x, f, norm, s: s * x + f(s * norm(x))),
        "only attention is scaled": _scaled(_step, lambda i, n: (i // 2 + 1) ** -0.5 if i % 2 == 0 else 1.0),
        "only the feed-forward branch is scaled": _scaled(
            _step, lambda i, n: (i // 2 + 1) ** -0.5 if i % 2 == 1 else 1.0
        ),
        "the norm on the stream, as in Post-LN": _scaled(lambda x, f, norm, s: s * norm(x + f(x))),
        "the shortcut starts at the normalized stream": _scaled(lambda x, f, norm, s: s * norm(x) + f(s * norm(x))),
        "no shortcut": _scaled(lambda x, f, norm, s: f(s * norm(x))),
        "no norm": _scaled(lambda x, f, norm, s: x + f(s * x)),
        "one more norm at the end, which was not asked for": _final_norm,
        "x overwritten in place": _in_place,
    },
)
