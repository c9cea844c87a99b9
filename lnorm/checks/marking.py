"""From findings to points: a verdict with the reason for every point that was lost."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass

from lnorm.checks.catalogue import exercise
from lnorm.checks.exercise import Answer, Exercise, Failure, Finding, Inputs, Level, Outputs, run

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
    mistake: str = ""  # the known mistake that explains the whole outcome, if there is one

    @property
    def points(self) -> int:
        return sum(line.points for line in self.lines)

    @property
    def possible(self) -> int:
        return sum(line.possible for line in self.lines)

    def __str__(self) -> str:
        out = [f"{self.name}: {self.points} of {self.possible} points ({self.level} cases)"]
        if self.mistake:
            out.append(f"  Your results equal those of a known mistake: {self.mistake}.")
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
    answer on every case.
    """
    findings: dict[str, list[Finding]] = {name: [] for name in exercise.properties}
    for case in exercise.cases(seed, level):
        findings[case.tests].append(exercise.judge(case, outputs_of(case.inputs)))

    everywhere = [finding.same_as for each in findings.values() for finding in each]
    all_ok = all(finding.ok for each in findings.values() for finding in each)
    explains_all = frozenset.intersection(*everywhere) if not all_ok else frozenset()
    lines = []
    for name, possible in exercise.properties.items():
        failed = [finding for finding in findings[name] if not finding.ok]
        reason = failed[0].reason if failed else ""
        if failed and not explains_all:
            explains_some = frozenset.intersection(*(finding.same_as for finding in findings[name]))
            if explains_some:
                reason = f"{reason}; here your results equal those of a known mistake: {min(explains_some)}"
        lines.append(Line(name, 0 if failed else possible, possible, reason))
    return Verdict(exercise.name, level, tuple(lines), _first(exercise, explains_all))


def check(name: str, answer: Answer) -> int:
    """Check an answer in this process: print the verdict, return the points.

    With LNORM_GRADING_SEED set, as graders set it, the cases are the graded ones, drawn from that secret.
    """
    secret = os.environ.get("LNORM_GRADING_SEED")
    found = exercise(name)
    level: Level = "graded" if secret else "visible"
    seed = int.from_bytes(hashlib.sha256(secret.encode()).digest()[:8]) if secret else VISIBLE_SEED
    verdict = mark(found, lambda inputs: run(found.probe, answer, inputs), seed, level)
    print(verdict)
    return verdict.points


def _first(exercise: Exercise, names: frozenset[str]) -> str:
    return next((name for name in exercise.mistakes if name in names), "")
