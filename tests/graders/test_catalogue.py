"""All assignments together."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from lnorm.checks import ASSIGNMENTS, assignment, exercise
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
def test_an_assignment_has_four_to_eight_exercises(name):
    assert 4 <= len(assignment(name)) <= 8


def test_names_are_unique():
    assert [name for name, count in Counter(each.name for each in EVERY).items() if count > 1] == []
    for each in EVERY:
        assert exercise(each.name) is each


def test_there_are_enough_known_mistakes():
    assert sum(len(each.mistakes) for each in EVERY) >= 85
