"""Exercise 7.1: one residual block, four placements."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array
from lnorm.checks.placement.inputs import SIZES, as_branch, as_norm, draw_branch, draw_norm, stream

PLACES = ("none", "post", "pre", "peri")


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 701)
    tokens, d = SIZES[level]

    def case(tests: str, place: str, *shape: int, **more: Any) -> Case:
        inputs = {"x": stream(rng, *shape), "branch": draw_branch(rng, d), "affine": draw_norm(rng, d)}
        return Case(tests, {**inputs, "place": place, **more})

    return [
        *(case(place, place, tokens, d) for place in PLACES),
        *(case(place, place, 2, tokens, d) for place in PLACES),
        *(case("leaves x alone", place, tokens, d, asks="x") for place in PLACES),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    x = inputs["x"].copy()
    y = array("y", answer(x, as_branch(inputs["branch"]), as_norm(inputs["affine"]), inputs["place"]))
    return {"y": y} | ({"x after the call": x} if "asks" in inputs else {})


RIGHT: dict[str, Answer] = {
    "none": lambda x, f, norm: x + f(x),
    "post": lambda x, f, norm: norm(x + f(x)),
    "pre": lambda x, f, norm: x + f(norm(x)),
    "peri": lambda x, f, norm: x + norm(f(norm(x))),
}


def _with(**changed: Answer) -> Answer:
    """Return the right block but for these placements."""
    return lambda x, f, norm, place: (RIGHT | changed)[place](x, f, norm)


def _everywhere(step: Answer) -> Answer:
    """Return a block that does the same with every placement."""
    return lambda x, f, norm, place: step(x, f, norm)


def _in_place(x: Any, f: Answer, norm: Answer, place: str) -> Any:
    x += RIGHT[place](x, f, norm) - x
    return x


BLOCK = Exercise(
    name="block",
    signature="block(x, f, norm, place)",
    properties={"none": 1, "post": 2, "pre": 2, "peri": 2, "leaves x alone": 1},
    cases=_cases,
    probe=_probe,
    solution=_with(),
    forbids=("lnorm.nn.ResidualBlock",),
    mistakes={
        "'pre' and 'post' swapped": _with(pre=RIGHT["post"], post=RIGHT["pre"]),
        "in 'pre' the norm stands after the addition": _with(pre=RIGHT["post"]),
        "in 'pre' the norm is on the shortcut, too": _with(pre=lambda x, f, norm: norm(x) + f(norm(x))),
        "in 'pre' the norm is on the shortcut, and the branch reads the raw stream": _with(
            pre=lambda x, f, norm: norm(x) + f(x)
        ),
        "in 'pre' the branch's output is normalized, not its input": _with(pre=lambda x, f, norm: x + norm(f(x))),
        "in 'pre' one more norm after the addition": _with(pre=lambda x, f, norm: norm(x + f(norm(x)))),
        "in 'post' the shortcut is normalized, not the sum: norm(x) + f(x)": _with(
            post=lambda x, f, norm: norm(x) + f(x)
        ),
        "in 'post' only the branch is normalized: x + norm(f(x))": _with(post=lambda x, f, norm: x + norm(f(x))),
        "in 'post' the two summands are normalized one by one": _with(post=lambda x, f, norm: norm(x) + norm(f(x))),
        "in 'post' the shortcut is missing": _with(post=lambda x, f, norm: norm(f(x))),
        "in 'pre' the shortcut is missing": _with(pre=lambda x, f, norm: f(norm(x))),
        "in 'peri' the norm on the branch's output is missing": _with(peri=RIGHT["pre"]),
        "in 'peri' the norm on the branch's input is missing": _with(peri=lambda x, f, norm: x + norm(f(x))),
        "in 'peri' the second norm stands after the addition": _with(peri=lambda x, f, norm: norm(x + f(norm(x)))),
        "in 'peri' the sum of shortcut and branch starts at the normalized stream": _with(
            peri=lambda x, f, norm: norm(x) + norm(f(norm(x)))
        ),
        "in 'peri' both norms before the branch": _with(peri=lambda x, f, norm: x + f(norm(norm(x)))),
        "in 'none' the shortcut is missing": _with(none=lambda x, f, norm: f(x)),
        "in 'none' the branch's input is normalized": _with(none=RIGHT["pre"]),
        "no shortcut anywhere": _with(
            none=lambda x, f, norm: f(x),
            post=lambda x, f, norm: norm(f(x)),
            pre=lambda x, f, norm: f(norm(x)),
            peri=lambda x, f, norm: norm(f(norm(x))),
        ),
        "Pre-LN, whatever place says": _everywhere(RIGHT["pre"]),
        "Post-LN, whatever place says": _everywhere(RIGHT["post"]),
        "x overwritten in place": _in_place,
    },
)
