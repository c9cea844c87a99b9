"""From outputs to points: a verdict with the reason for every point that was lost."""

import contextlib
import functools
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lnorm.checks.catalogue import exercise
from lnorm.checks.exercise import NOT_STARTED, Answer, Exercise, Failure, Inputs, Level, Outputs, run
from lnorm.checks.guard import OutOfTimeError
from lnorm.checks.outputs import same

VISIBLE_SEED = 0


@dataclass(frozen=True)
class Line:
    """One property of an exercise: the points earned and possible, and the reason if they differ."""

    tests: str
    points: int
    possible: int
    reason: str = ""


@dataclass(frozen=True)
class Verdict:
    """The outcome of an exercise."""

    name: str
    level: Level
    lines: tuple[Line, ...]
    mistake: str = ""  # the known mistakes that each explain the whole outcome, if there are any
    started: bool = True

    @property
    def points(self) -> int:
        return sum(line.points for line in self.lines)

    @property
    def possible(self) -> int:
        return sum(line.possible for line in self.lines)

    @property
    def reasons(self) -> list[str]:
        """What to tell the student about the points that were lost, each thing once."""
        out = [f"Your results equal those of a known mistake: {self.mistake}."] if self.mistake else []
        if len({line.reason for line in self.lines}) == 1:
            return out + ([self.lines[0].reason] if self.lines[0].reason else [])
        return out + [f"{line.tests}: {line.reason}" for line in self.lines if line.reason]

    def __str__(self) -> str:
        out = [f"{self.name}: {self.points} of {self.possible} points ({self.level} cases)"]
        if not self.points and len(self.reasons) == 1:
            return "\n".join([*out, f"  ✗ {self.reasons[0]}"])
        if self.mistake:
            out.append(f"  {self.reasons[0]}")
        for line in self.lines:
            mark = "✓" if line.points == line.possible else "✗"
            out.append(
                f"  {mark} {line.points}/{line.possible}  {line.tests}" + (f": {line.reason}" if line.reason else "")
            )
        return "\n".join(out)


def mark(
    exercise: Exercise, outputs_of: Callable[[Inputs], Outputs | Failure], seed: int, level: Level = "visible"
) -> Verdict:
    """Mark an answer that is known only through ``outputs_of``: a function from inputs to what the answer made of them.

    A property's points are earned when all of its cases pass. A mistake is named when it gives the same outputs as the
    answer on every case. An answer that ran out of time is not run again.
    """
    cases = exercise.cases(seed, level)
    came: list[Outputs | Failure] = []
    for case in cases:
        late = next((each for each in came if _is_late(each)), None)
        came.append(late or outputs_of(case.inputs))
    wrong = [exercise.judge(case, outputs, level) for case, outputs in zip(cases, came, strict=True)]

    explains_all: set[str] = set()
    explains: dict[str, set[str]] = {}
    if any(wrong):
        explains_all, explains = (
            set(exercise.mistakes),
            {tests: set(exercise.mistakes) for tests in exercise.properties},
        )
        for case, outputs, known in zip(cases, came, _of_mistakes(exercise, seed, level), strict=True):
            twins = {name for name, its in known.items() if same(its, outputs, case.tolerance)}
            explains_all &= twins
            explains[case.tests] &= twins

    lines = []
    for tests, possible in exercise.properties.items():
        reason = next((why for case, why in zip(cases, wrong, strict=True) if case.tests == tests and why), "")
        points = 0 if reason else possible
        if reason and not explains_all and explains[tests]:
            reason = f"{reason}; here your results equal those of a known mistake: {_names(exercise, explains[tests])}"
        lines.append(Line(tests, points, possible, reason))
    started = not all(isinstance(each, Failure) and each.kind == NOT_STARTED for each in came)
    return Verdict(exercise.name, level, tuple(lines), _names(exercise, explains_all), started)


def check(name: str, answer: Answer) -> int:
    """Check an answer in this process: print the verdict, return the points.

    With LNORM_GRADING_SEED set, as graders set it, the cases are the graded ones, drawn from that secret. What the
    answer prints is kept out of the verdict; on visible cases its beginning is shown below.
    """
    secret = os.environ.get("LNORM_GRADING_SEED")
    found = exercise(name)
    level: Level = "graded" if secret else "visible"
    seed = int.from_bytes(hashlib.sha256(secret.encode()).digest()[:8]) if secret else VISIBLE_SEED
    with quiet() as printed:
        verdict = mark(found, lambda inputs: found.run(answer, inputs), seed, level)
    print(verdict)
    if level == "visible" and (lines := printed.getvalue().splitlines()):
        print("  Your code printed, among other things:" if len(lines) > 3 else "  Your code printed:")
        print(*(f"    {line[:100]}" for line in lines[:3]), sep="\n")
    return verdict.points


class _Beginning(io.StringIO):
    """Keep the first 2000 characters of what is written, forget the rest."""

    def write(self, text: str) -> int:
        super().write(text[: max(0, 2000 - self.tell())])
        return len(text)


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Keep what is printed in the block; only its beginning."""
    kept = _Beginning()
    with contextlib.redirect_stdout(kept), contextlib.redirect_stderr(kept):
        yield kept


@functools.lru_cache(maxsize=4)
def _of_mistakes(exercise: Exercise, seed: int, level: Level) -> list[dict[str, Outputs | Failure]]:
    """Return, for every case, what each known mistake makes of it."""
    return [
        {name: run(exercise.probe, wrong, case.inputs) for name, wrong in exercise.mistakes.items()}
        for case in exercise.cases(seed, level)
    ]


def _is_late(outputs: Outputs | Failure) -> bool:
    return isinstance(outputs, Failure) and outputs.kind == OutOfTimeError.__name__


def _names(exercise: Exercise, names: set[str]) -> str:
    return ", or: ".join(name for name in exercise.mistakes if name in names)
