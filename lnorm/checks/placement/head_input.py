"""Exercise 7.2: a whole stack of blocks, up to what the head reads."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array
from lnorm.checks.placement.block import PLACES, RIGHT
from lnorm.checks.placement.inputs import SIZES, as_branch, as_norm, draw_branches, draw_norm, stream

DEPTHS = {"visible": 3, "graded": 4}


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 702)
    tokens, d = SIZES[level]

    def case(tests: str, place: str, depth: int, **more: Any) -> Case:
        inputs = {"x": stream(rng, tokens, d), "branches": draw_branches(rng, level, depth)}
        return Case(tests, {**inputs, "affine": draw_norm(rng, d), "place": place, **more}, tolerance=1e-8)

    return [
        *(case(place, place, DEPTHS[level]) for place in PLACES),
        *(case("one block", place, 1) for place in PLACES),
        *(case("leaves x alone", place, 2, asks="x") for place in PLACES),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    x, branches = inputs["x"].copy(), [as_branch(each) for each in inputs["branches"]]
    y = array("y", answer(x, branches, as_norm(inputs["affine"]), inputs["place"]))
    return {"y": y} | ({"x after the call": x} if "asks" in inputs else {})


def _stack(final: Callable[[str], bool], step: Answer | None = None) -> Answer:
    """Return a stack with a final norm where ``final(place)``; ``step(x, f, norm, place)`` is a block."""
    step = step or (lambda x, f, norm, place: RIGHT[place](x, f, norm))

    def head_input(x: Any, branches: Any, norm: Answer, place: str) -> Any:
        for f in branches:
            x = step(x, f, norm, place)
        return norm(x) if final(place) else x

    return head_input


def _grows(place: str) -> bool:
    return place in ("pre", "peri")


_solution = _stack(_grows)


def _norm_first(x: Any, branches: Any, norm: Answer, place: str) -> Any:
    return _stack(lambda place: False)(norm(x) if _grows(place) else x, branches, norm, place)


def _embeddings_normalized(x: Any, branches: Any, norm: Answer, place: str) -> Any:
    return _solution(norm(x), branches, norm, place)


def _norm_before_last(x: Any, branches: Any, norm: Answer, place: str) -> Any:
    x = _stack(lambda place: False)(x, branches[:-1], norm, place)
    return RIGHT[place](norm(x) if _grows(place) else x, branches[-1], norm)


def _parallel(x: Any, branches: Any, norm: Answer, place: str) -> Any:
    y = x + sum(RIGHT[place](x, f, norm) - x for f in branches)
    return norm(y) if _grows(place) else y


def _shortcut_from_the_start(x: Any, branches: Any, norm: Answer, place: str) -> Any:
    y = x
    for f in branches:
        inside = f(norm(y)) if _grows(place) else f(y)
        y = x + (norm(inside) if place == "peri" else inside)
        y = norm(y) if place == "post" else y
    return norm(y) if _grows(place) else y


def _in_place(x: Any, branches: Any, norm: Answer, place: str) -> Any:
    y = _solution(x, branches, norm, place)
    for f in branches:
        x += f(x)
    return y


HEAD_INPUT = Exercise(
    name="head_input",
    signature="head_input(x, branches, norm, place)",
    properties={"none": 1, "post": 1, "pre": 2, "peri": 1, "one block": 1, "leaves x alone": 1},
    cases=_cases,
    probe=_probe,
    solution=_solution,
    mistakes={
        "the final norm is missing": _stack(lambda place: False),
        "the final norm is missing in 'peri'": _stack(lambda place: place == "pre"),
        "the final norm is missing in 'pre'": _stack(lambda place: place == "peri"),
        "a second norm at the end of 'post', where the last block has just normalized": _stack(
            lambda place: place != "none"
        ),
        "a final norm in 'none', which has no norms at all": _stack(lambda place: place != "post"),
        "a final norm with every placement": _stack(lambda place: True),
        "the final norm in 'post' and nowhere else": _stack(lambda place: place == "post"),
        "the final norm at the start, on the embeddings": _norm_first,
        "one more norm on the embeddings": _embeddings_normalized,
        "the final norm before the last block instead of after it": _norm_before_last,
        "a norm on the stream after every block": _stack(
            lambda place: False,
            lambda x, f, norm, place: norm(RIGHT[place](x, f, norm)) if _grows(place) else RIGHT[place](x, f, norm),
        ),
        "the blocks in the opposite order": lambda x, branches, norm, place: _solution(x, branches[::-1], norm, place),
        "every block reads the embeddings: side by side, not one after the other": _parallel,
        "every shortcut starts at the embeddings": _shortcut_from_the_start,
        "the last block is left out": lambda x, branches, norm, place: _solution(x, branches[:-1], norm, place),
        "only the last block runs": lambda x, branches, norm, place: _solution(x, branches[-1:], norm, place),
        "Pre-LN, whatever place says": lambda x, branches, norm, place: _solution(x, branches, norm, "pre"),
        "x overwritten in place": _in_place,
    },
)
