"""What decides whether an answer to an exercise is right, and what to say when it is not.

A check is three functions: ``cases(seed, level)`` makes inputs, ``probe(answer, inputs)`` runs the answer on one of
them and returns plain arrays, ``judge(case, outputs)`` decides. Only ``probe`` ever touches a student's code, so a
grader can run it in a sandbox of its own and keep the other two, with all right results, outside.

In a notebook, ``check("layer_norm", layer_norm)`` runs all three, prints the verdict and returns the points.
"""

from lnorm.checks.catalogue import ASSIGNMENTS, assignment, exercise
from lnorm.checks.exercise import Case, Exercise
from lnorm.checks.marking import Verdict, check, mark

__all__ = ["ASSIGNMENTS", "Case", "Exercise", "Verdict", "assignment", "check", "exercise", "mark"]
