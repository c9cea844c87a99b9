"""All assignments together."""

import ast
import re
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from lnorm.checks import ASSIGNMENTS, assignment, exercise, mark
from lnorm.checks.exercise import run
from tools import exercises

ROOT = Path(__file__).resolve().parents[2]
EVERY = [each for name in ASSIGNMENTS for each in assignment(name)]


def test_every_assignment_has_a_text_and_a_test_of_its_graders():
    assert exercises.assignments() == sorted(ASSIGNMENTS)
    tested = []
    for path in (ROOT / "tests" / "graders").glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "assignment":
                tested.append(ast.literal_eval(node.value))
    assert sorted(tested) == sorted(ASSIGNMENTS)


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_an_assignment_has_four_to_eight_exercises_and_two_questions_and_says_so(name):
    text = (ROOT / "solutions" / name / f"{name}.md").read_text()
    count = len(assignment(name))
    assert 4 <= count <= 8
    assert re.findall(r'^check\("(\w+)"', text, re.MULTILINE) == [each.name for each in assignment(name)]
    assert len(re.findall(r'^\+\+\+ \{.*"written".*\}$', text, re.MULTILINE)) == 2
    assert f"{['four', 'five', 'six', 'seven', 'eight'][count - 4]} exercises and two questions" in text
    assert f"`lnorm check {name}`" in text


def test_there_are_thirteen_assignments_and_a_capstone_with_75_exercises():
    assert [int(name[:2]) for name in ASSIGNMENTS] == list(range(1, 15))
    assert len(EVERY) >= 75


def test_names_are_unique():
    assert [name for name, count in Counter(each.name for each in EVERY).items() if count > 1] == []
    for each in EVERY:
        assert exercise(each.name) is each


def test_there_are_enough_known_mistakes():
    assert sum(len(each.mistakes) for each in EVERY) >= 300


@pytest.mark.parametrize(
    "mistake",
    [
        "evaluation uses the batch's own statistics",
        "evaluation updates the running statistics",
        "evaluation forgets eps",
        "evaluation forgets gamma and beta",
        "variance as E[x²] − E[x]², which cancels far from zero",
    ],
)
def test_the_five_mistakes_in_batch_norm_that_survive_published_graders_are_caught_and_named(mistake):
    layer = exercise("BatchNorm1d")
    for seed in range(5):
        verdict = mark(layer, partial(run, layer.probe, layer.mistakes[mistake]), seed, "graded")
        assert verdict.points < verdict.possible
        assert mistake in str(verdict)
