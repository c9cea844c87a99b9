"""What an exercise consists of, and how one case of it is run and judged."""

import linecache
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lnorm.checks.forbidden import ForbiddenCallError
from lnorm.checks.guard import OutOfTimeError, guard, signature_of
from lnorm.checks.outputs import Failure, Level, Outputs, UnusableError, array, arrays, difference

Answer = Callable[..., Any]
Inputs = Mapping[str, Any]  # arrays and plain settings


@dataclass(frozen=True)
class Case:
    """One input, the property that it tests, and how far from the right result an answer may be.

    ``tolerance`` is relative to the largest right value or 1, whichever is larger. It stays with the grader.
    """

    tests: str
    inputs: Inputs
    tolerance: float = 1e-9


@dataclass(frozen=True, eq=False)
class Exercise:
    """An exercise: what it asks about, for how many points, and how an answer is checked.

    ``signature`` is how the text asks for the function, ``"centre(x)"``. ``properties`` maps what is tested, in the
    student's words, to points. ``mistakes`` is the catalogue of known wrong answers, by the name that the feedback
    uses. ``verify``, for exercises with many right answers, returns the reason why outputs are wrong, or an empty
    string; without it outputs are compared with those of ``solution``. ``explain`` may add a sentence about outputs
    that differ. ``forbids`` are the dotted names that a student may not call; an answer has ``seconds`` for each case.
    """

    name: str
    signature: str
    properties: Mapping[str, int]
    cases: Callable[[int, Level], list[Case]]
    probe: Callable[[Answer, Inputs], Outputs]
    solution: Answer
    mistakes: Mapping[str, Answer] = field(default_factory=dict)
    verify: Callable[[Case, Outputs], str] | None = None
    explain: Callable[[Case, Outputs], str] = lambda case, outputs: ""
    forbids: tuple[str, ...] = ()
    seconds: float = 5.0

    @property
    def points(self) -> int:
        """The most that an answer can earn."""
        return sum(self.properties.values())

    def run(self, answer: Answer, inputs: Inputs) -> Outputs | Failure:
        """Run a student's answer on one input, watched: within the time, without forbidden calls."""
        came = run(self.probe, answer, inputs, guard(answer, self.forbids, self.seconds))
        if isinstance(came, Failure) and came.kind == "TypeError" and not came.line and signature_of(answer):
            message = f"TypeError: {came.said}; expected {self.signature}, yours is {signature_of(answer)}"
            return Failure("TypeError", message)
        return came

    def judge(self, case: Case, outputs: Outputs | Failure, level: Level = "graded") -> str:
        """Return why ``outputs`` are wrong for ``case``, empty if right. Knows the answer; runs no student's code."""
        if isinstance(outputs, Failure):
            return outputs.text(level)
        if self.verify is not None:
            return self.verify(case, outputs)
        right = self.probe(self.solution, case.inputs)
        reason = difference(right, outputs, case.tolerance, show_values=level == "visible")
        more = self.explain(case, outputs) if reason else ""
        return f"{reason}; {more}" if more else reason


def run(
    probe: Callable[[Answer, Inputs], Outputs],
    answer: Answer,
    inputs: Inputs,
    guard: AbstractContextManager[Any] | None = None,
) -> Outputs | Failure:
    """Run ``answer`` on one input and return plain arrays, or what went wrong. All that a sandbox has to do."""
    try:
        with guard or nullcontext(), np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is not finite shows in the outputs
            return probe(answer, inputs)
    except (ForbiddenCallError, OutOfTimeError, UnusableError) as error:
        return Failure(type(error).__name__, str(error), line=_line_of(answer, error))
    except (Exception, SystemExit) as error:  # whatever a student's code raises belongs in the feedback
        if isinstance(error, NotImplementedError) and not str(error):
            return Failure(NOT_STARTED, "nothing here yet: replace the line that raises NotImplementedError")
        return Failure(type(error).__name__, said=str(error), line=_line_of(answer, error))


NOT_STARTED = "not started"


def _line_of(answer: Answer, error: BaseException) -> str:
    """Return the deepest line of the student's own file in the traceback; empty if there is none."""
    code = getattr(answer, "__code__", None)
    if isinstance(answer, type):
        code = next((each.__code__ for each in vars(answer).values() if hasattr(each, "__code__")), None)
    line, traceback = "", error.__traceback__
    while code is not None and traceback is not None:
        if Path(traceback.tb_frame.f_code.co_filename) == Path(code.co_filename):
            line = linecache.getline(code.co_filename, traceback.tb_lineno).strip()
        traceback = traceback.tb_next
    return line


__all__ = [
    "NOT_STARTED",
    "Answer",
    "Case",
    "Exercise",
    "Failure",
    "Inputs",
    "Level",
    "Outputs",
    "UnusableError",
    "array",
    "arrays",
    "run",
]
