"""Exercises of the kind "write the test that catches the bug": the student's test is tried on wrong and right code.

The student writes ``test(implementation)``, which raises AssertionError if the implementation has the bug and passes if
it has not. Every case is a pair, one of each, and the test has to tell them apart: one that accepts or rejects
everything earns nothing.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs

CATCHES = "fails on the bug, passes on the right code"
MORE_BUGS = "fails on other forms of the bug"
ACCEPTS = "passes on right code that is written differently"


def failing_test(
    name: str,
    *,
    signature: str,
    buggy: Mapping[str, Answer],
    correct: Mapping[str, Answer],
    solution: Answer,
    mistakes: Mapping[str, Answer],
    points: tuple[int, int, int] = (2, 1, 2),
    forbids: tuple[str, ...] = (),
) -> Exercise:
    """Return the exercise: the student's test must fail on all that is ``buggy`` and pass on all that is ``correct``.

    The first of each is the visible pair; the visible level has one more of each kind, the graded level has all.
    ``buggy`` and ``correct`` go from a description, in the words of the feedback, to a function; ``mistakes`` are tests
    that do not do it. ``points`` are those of the three properties above.
    """
    (first_bug, *more_bugs), (first_right, *more_right) = buggy, correct
    code = {**buggy, **correct}

    def cases(seed: int, level: Level) -> list[Case]:
        shown = level == "visible"
        pairs = [(CATCHES, first_bug, first_right)]
        pairs += [(MORE_BUGS, bug, first_right) for bug in (more_bugs[:1] if shown else more_bugs)]
        pairs += [(ACCEPTS, first_bug, right) for right in (more_right[:1] if shown else more_right)]
        return [Case(tests, {"bug": bug, "right": right, "shown": shown}) for tests, bug, right in pairs]

    def probe(answer: Answer, inputs: Inputs) -> Outputs:
        return {each: np.array(_raises(answer, code[inputs[each]])) for each in ("bug", "right")}

    def verify(case: Case, outputs: Outputs) -> str:
        bug, right = (f" ({case.inputs[each]})" if case.inputs["shown"] else "" for each in ("bug", "right"))
        if not outputs["bug"]:
            return f"your test passes on an implementation that has the bug{bug}"
        return f"your test fails on an implementation that is right{right}" if outputs["right"] else ""

    return Exercise(
        name=name,
        signature=signature,
        properties=dict(zip((CATCHES, MORE_BUGS, ACCEPTS), points, strict=True)),
        cases=cases,
        probe=probe,
        solution=solution,
        mistakes=mistakes,
        verify=verify,
        forbids=forbids,
    )


def _raises(test: Answer, implementation: Answer) -> bool:
    """Return whether the test raises AssertionError; what else it raises goes through."""

    def anonymous(*args: Any, **kwargs: Any) -> Any:
        return implementation(*args, **kwargs)

    try:
        test(anonymous)
    except AssertionError:
        return True
    return False
