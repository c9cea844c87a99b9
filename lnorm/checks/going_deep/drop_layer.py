"""Exercise 8.6: what it costs to skip a layer."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array
from lnorm.checks.going_deep.inputs import LAYERS, as_layer
from lnorm.checks.placement.inputs import SIZES, draw_branches, stream


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 806)
    tokens, d = SIZES[level]
    n = LAYERS[level] + 1

    def case(tests: str, which: tuple[int, ...], **more: Any) -> Case:
        head, labels = 0.5 * rng.normal(size=(d, d + 3)), rng.integers(d + 3, size=tokens)
        model = {"layers": draw_branches(rng, level, n), "head": head, "labels": labels}
        return Case(tests, {**model, "x": stream(rng, tokens, d), "which": which, **more})

    return [
        *(case("the rise of the loss", (i,)) for i in range(1, n - 1)),
        case("the first layer", (0,)),
        case("the last layer", (n - 1,)),
        case("called for every layer in turn", tuple(range(n))),
        case("called for every layer in turn", tuple(range(n))[::-1]),
        case("leaves the layers and x alone", (1,), asks="inputs"),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    x, layers = inputs["x"].copy(), [as_layer(each) for each in inputs["layers"]]
    before = list(layers)

    def loss(y: Any) -> float:
        logits = np.asarray(y, dtype=float) @ inputs["head"]
        logits = logits - logits.max(axis=-1, keepdims=True)
        chosen = np.take_along_axis(logits, inputs["labels"][:, None], axis=-1)[:, 0]
        return float(np.mean(np.log(np.exp(logits).sum(axis=-1)) - chosen))

    effects = [array("the rise of the loss", answer(layers, i, x, loss)) for i in inputs["which"]]
    out = {"the rise of the loss": np.array(effects)}
    if "asks" not in inputs:
        return out
    same = [a is b for a, b in zip(layers, before, strict=False)]
    return out | {"layers that are still there": np.array([len(layers), sum(same)]), "x after the call": x}


def _through(layers: Any, x: Any) -> Any:
    for layer in layers:
        x = layer(x)
    return x


def _skipping(choose: Callable[[list, int], list]) -> Answer:
    """Return an answer whose network without layer i has the layers ``choose(layers, i)``."""
    return lambda layers, i, x, loss: loss(_through(choose(list(layers), i), x)) - loss(_through(layers, x))


def _without(layers: list, i: int) -> list:
    return [*layers[:i], *layers[i + 1 :]]


_solution = _skipping(_without)


def _removes(layers: Any, i: int, x: Any, loss: Any) -> Any:
    whole = loss(_through(layers, x))
    del layers[i]
    return loss(_through(layers, x)) - whole


def _removes_before(layers: Any, i: int, x: Any, loss: Any) -> Any:
    kept = layers  # no copy
    kept.pop(i)
    return loss(_through(kept, x)) - loss(_through(layers, x))


def _replaces(layers: Any, i: int, x: Any, loss: Any) -> Any:
    whole = loss(_through(layers, x))
    layers[i] = lambda stream: stream
    return loss(_through(layers, x)) - whole


def _appends_again(layers: Any, i: int, x: Any, loss: Any) -> Any:
    whole = loss(_through(layers, x))
    taken = layers.pop(i)
    rise = loss(_through(layers, x)) - whole
    layers.append(taken)
    return rise


def _in_place(layers: Any, i: int, x: Any, loss: Any) -> Any:
    rise = _solution(layers, i, x, loss)
    x[...] = _through(layers, x)
    return rise


DROP_LAYER_EFFECT = Exercise(
    name="drop_layer_effect",
    signature="drop_layer_effect(layers, i, x, loss)",
    properties={
        "the rise of the loss": 2,
        "the first layer": 1,
        "the last layer": 1,
        "called for every layer in turn": 2,
        "leaves the layers and x alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_solution,
    mistakes={
        "the layer is gone for good: it is removed from the list that was handed over": _removes,
        "the layer is replaced for good by one that does nothing": _replaces,
        "the layer is put back at the end of the list": _appends_again,
        "a second name is no copy: both losses are those without the layer": _removes_before,
        "the sign: the loss of the whole model minus that without the layer": lambda *args: -_solution(*args),
        "the loss without the layer, nothing subtracted": lambda layers, i, x, loss: loss(
            _through(_without(layers, i), x)
        ),
        "the ratio of the two losses": lambda layers, i, x, loss: (
            loss(_through(_without(layers, i), x)) / loss(_through(layers, x))
        ),
        "the difference divided by the loss": lambda layers, i, x, loss: (
            _solution(layers, i, x, loss) / loss(_through(layers, x))
        ),
        "the absolute value, which hides a layer that does harm": lambda *args: abs(_solution(*args)),
        "layers counted from 1": _skipping(lambda layers, i: _without(layers, (i - 1) % len(layers))),
        "the layer after it is skipped": _skipping(lambda layers, i: _without(layers, (i + 1) % len(layers))),
        "layers counted from the end": _skipping(lambda layers, i: _without(layers, len(layers) - 1 - i)),
        "the layer and all after it are skipped": _skipping(lambda layers, i: layers[:i]),
        "the layer and all before it are skipped": _skipping(lambda layers, i: layers[i + 1 :]),
        "everything but this layer is skipped": _skipping(lambda layers, i: [layers[i]]),
        "the layer hands on zeros in place of what it was given": _skipping(
            lambda layers, i: [*layers[:i], np.zeros_like, *layers[i + 1 :]]
        ),
        "the layer runs twice in place of not at all": _skipping(lambda layers, i: [*layers[: i + 1], *layers[i:]]),
        "what comes out if the layer is skipped is compared with the input": lambda layers, i, x, loss: (
            loss(_through(_without(layers, i), x)) - loss(x)
        ),
        "x overwritten in place": _in_place,
    },
)
