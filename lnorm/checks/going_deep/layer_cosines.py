"""Exercise 8.5: how far each layer turns the stream."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array
from lnorm.checks.going_deep.inputs import LAYERS, as_layer
from lnorm.checks.placement.inputs import SIZES, draw_branches, stream


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 805)

    def case(tests: str, layers: int, *shape: int, **more: Any) -> Case:
        return Case(tests, {"x": stream(rng, *shape), "layers": draw_branches(rng, level, layers), **more})

    tokens, d = SIZES[level]
    return [
        case("one token", LAYERS[level], 1, d),
        case("many tokens", LAYERS[level], tokens, d),
        case("sequences of tokens", LAYERS[level] + 1, 2, tokens, d),
        case("leaves x alone", 2, tokens, d, asks="x"),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    x = inputs["x"].copy()
    out = {"cosines": array("cosines", answer(x, [as_layer(each) for each in inputs["layers"]]))}
    return out | ({"x after the call": x} if "asks" in inputs else {})


def _cosine(a: Any, b: Any) -> Any:
    """Return the cosine of every two rows."""
    return np.sum(a * b, axis=-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def _each(measure: Callable[[Any, Any, Any], Any]) -> Answer:
    """Return an answer that takes ``measure(before, after, x)`` of every layer, x being the network's input."""

    def cosines(x: Any, layers: Any) -> Any:
        found, before = [], x
        for layer in layers:
            after = layer(before)
            found.append(measure(before, after, x))
            before = after
        return np.array(found)

    return cosines


_solution = _each(lambda before, after, x: _cosine(before, after).mean())


def _always_from_x(x: Any, layers: Any) -> Any:
    return np.array([_cosine(x, layer(x)).mean() for layer in layers])


def _in_place(x: Any, layers: Any) -> Any:
    found = _solution(x, layers)
    for layer in layers:
        x[...] = layer(x)
    return found


def _centred(a: Any) -> Any:
    return a - a.mean(axis=-1, keepdims=True)


LAYER_COSINES = Exercise(
    name="layer_cosines",
    signature="layer_cosines(x, layers)",
    properties={"one token": 1, "many tokens": 2, "sequences of tokens": 1, "leaves x alone": 1},
    cases=_cases,
    probe=_probe,
    solution=_solution,
    mistakes={
        "one cosine of all numbers at once, not the mean over tokens": _each(
            lambda before, after, x: _cosine(before.ravel(), after.ravel())
        ),
        "the cosine over tokens for every feature, the wrong axis": _each(
            lambda before, after, x: _cosine(np.swapaxes(before, -1, -2), np.swapaxes(after, -1, -2)).mean()
        ),
        "the cosine of the mean tokens": _each(
            lambda before, after, x: _cosine(
                before.reshape(-1, before.shape[-1]).mean(0), after.reshape(-1, after.shape[-1]).mean(0)
            )
        ),
        "compared with the network's input instead of the layer's": _each(
            lambda before, after, x: _cosine(x, after).mean()
        ),
        "every layer applied to x, not to what the layer before handed on": _always_from_x,
        "the branch compared with the stream, not the layer's output": _each(
            lambda before, after, x: _cosine(before, after - before).mean()
        ),
        "the correlation: the mean of every token was subtracted": _each(
            lambda before, after, x: _cosine(_centred(before), _centred(after)).mean()
        ),
        "the dot product, not divided by the lengths": _each(
            lambda before, after, x: np.sum(before * after, axis=-1).mean()
        ),
        "divided by one of the two lengths only": _each(
            lambda before, after, x: (np.sum(before * after, axis=-1) / np.linalg.norm(before, axis=-1) ** 2).mean()
        ),
        "the mean dot product over the product of mean lengths": _each(
            lambda before, after, x: (
                np.sum(before * after, axis=-1).mean()
                / np.linalg.norm(before, axis=-1).mean()
                / np.linalg.norm(after, axis=-1).mean()
            )
        ),
        "the angle in place of its cosine": _each(
            lambda before, after, x: np.arccos(np.clip(_cosine(before, after), -1, 1)).mean()
        ),
        "one minus the cosine": lambda x, layers: 1 - _solution(x, layers),
        "the cosine's square": _each(lambda before, after, x: (_cosine(before, after) ** 2).mean()),
        "one value for every token: the mean is missing": _each(lambda before, after, x: _cosine(before, after)),
        "one number for the whole network": lambda x, layers: _solution(x, layers).mean(),
        "x overwritten in place": _in_place,
    },
)
