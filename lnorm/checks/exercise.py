"""What an exercise consists of, and how one case of it is run and judged."""

import linecache
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

Level = Literal["visible", "graded"]
Answer = Callable[..., Any]
Inputs = Mapping[str, Any]  # arrays and plain settings
Outputs = Mapping[str, np.ndarray]  # arrays by name


@dataclass(frozen=True)
class Failure:
    """What is left when an answer raised an error or returned something that is no array: plain text."""

    kind: str  # the name of the exception
    message: str


@dataclass(frozen=True)
class Case:
    """One input, the property that it tests, and how far from the right result an answer may be.

    ``tolerance`` is relative to the largest right value or 1, whichever is larger. It stays with the grader.
    """

    tests: str
    inputs: Inputs
    tolerance: float = 1e-9


@dataclass(frozen=True)
class Finding:
    """What one case shows: whether the answer passed, if not why, and which known mistakes give the same outputs."""

    ok: bool
    reason: str = ""
    same_as: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Exercise:
    """An exercise: what it asks about, for how many points, and how an answer is checked.

    ``properties`` maps what is tested, in the student's words, to points. ``mistakes`` is the catalogue of known wrong
    answers, by the name that the feedback uses. ``verify``, for exercises with many right answers, returns the reason
    why outputs are wrong, or an empty string; without it outputs are compared with those of ``solution``. ``explain``
    may add a sentence about outputs that differ.
    """

    name: str
    properties: Mapping[str, int]
    cases: Callable[[int, Level], list[Case]]
    probe: Callable[[Answer, Inputs], Outputs]
    solution: Answer
    mistakes: Mapping[str, Answer] = field(default_factory=dict)
    verify: Callable[[Case, Outputs], str] | None = None
    explain: Callable[[Case, Outputs], str] = lambda case, outputs: ""

    @property
    def points(self) -> int:
        """The most that an answer can earn."""
        return sum(self.properties.values())

    def judge(self, case: Case, outputs: Outputs | Failure) -> Finding:
        """Decide whether ``outputs`` are right for ``case``. Knows the answer; never runs a student's code."""
        same_as = frozenset(
            name for name, wrong in self.mistakes.items() if _same(run(self.probe, wrong, case.inputs), outputs, case)
        )
        if isinstance(outputs, Failure):
            return Finding(False, outputs.message, same_as)
        if self.verify is not None:
            reason = self.verify(case, outputs)
        else:
            reason = difference(self.probe(self.solution, case.inputs), outputs, case.tolerance)
            if reason and (more := self.explain(case, outputs)):
                reason = f"{reason}; {more}"
        return Finding(not reason, reason, same_as)


def run(probe: Callable[[Answer, Inputs], Outputs], answer: Answer, inputs: Inputs) -> Outputs | Failure:
    """Run ``answer`` on one input and return plain arrays, or what went wrong. All that a sandbox has to do."""
    try:
        return probe(answer, inputs)
    except NotImplementedError:
        return Failure("NotImplementedError", "nothing here yet: replace the line that raises NotImplementedError")
    except Exception as error:  # whatever a student's code raises belongs in the feedback
        return Failure(type(error).__name__, f"{type(error).__name__}: {error}{_line_of(answer, error)}")


def array(name: str, value: Any) -> np.ndarray:
    """Return what an answer returned as a plain array of numbers; TypeError that says what came."""
    if value is None:
        raise TypeError(f"{name}: expected an array, got None; is there a `return`?")
    try:
        result = np.asarray(value)
    except Exception:
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}") from None
    if result.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected an array of numbers, got {type(value).__name__}")
    return np.array(result)  # a plain copy: no subclass, no memory shared with the student's code


def arrays(names: tuple[str, ...], value: Any) -> dict[str, np.ndarray]:
    """Return a tuple that an answer returned as named plain arrays; TypeError that says what came."""
    if not isinstance(value, (tuple, list)) or len(value) != len(names):
        came = f"{len(value)} values" if isinstance(value, (tuple, list)) else type(value).__name__
        raise TypeError(f"expected {len(names)} return values ({', '.join(names)}), got {came}")
    return {name: array(name, each) for name, each in zip(names, value, strict=True)}


def difference(expected: Outputs, outputs: Outputs, tolerance: float) -> str:
    """Say how ``outputs`` differ from ``expected``: name, shape, size of the error. Empty if they agree."""
    for name, right in expected.items():
        came = outputs[name]
        if came.shape != right.shape:
            return f"{name} has shape {came.shape}, expected {right.shape}"
        allowed = tolerance * max(1.0, float(np.max(np.abs(right), initial=0.0, where=np.isfinite(right))))
        with np.errstate(invalid="ignore"):
            error = np.abs(came.astype(float) - right)
        # NaN is never within the tolerance; it agrees only with NaN, and only mistakes expect that.
        wrong = ~((error <= allowed) | (np.isnan(came) & np.isnan(right)))
        if wrong.any():
            if not np.isfinite(came).all():
                return f"{name} contains {int((~np.isfinite(came)).sum())} values that are not finite"
            return (
                f"{name} is off by up to {error.max():.2g} (allowed {allowed:.1g}), "
                f"in {int(wrong.sum())} of {wrong.size} places"
            )
    return ""


def _same(mistake: Outputs | Failure, outputs: Outputs | Failure, case: Case) -> bool:
    if isinstance(mistake, Failure) or isinstance(outputs, Failure):
        return isinstance(mistake, Failure) and isinstance(outputs, Failure) and mistake.kind == outputs.kind
    return not difference(mistake, outputs, case.tolerance)


def _line_of(answer: Answer, error: Exception) -> str:
    """Return the deepest line of the student's own file in the traceback, as text to append."""
    own = getattr(getattr(answer, "__code__", None), "co_filename", None)
    line, traceback = "", error.__traceback__
    while own and traceback is not None:
        if Path(traceback.tb_frame.f_code.co_filename) == Path(own):
            line = linecache.getline(own, traceback.tb_lineno).strip()
        traceback = traceback.tb_next
    return f", in your line `{line}`" if line else ""
