"""`lnorm check`, which needs no course, on every assignment: as released, and with the solutions in."""

from pathlib import Path

import pytest

from lnorm.checks import ASSIGNMENTS, assignment
from lnorm.checks.notebook import check_notebook, hints

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow
every_assignment = pytest.mark.parametrize("name", ASSIGNMENTS)


@every_assignment
def test_the_release_is_not_started_and_has_three_hints_for_each_exercise(name):
    path = ROOT / "exercises" / name / f"{name}.ipynb"
    results = check_notebook(name, path)
    assert [each.name for each in results] == [each.name for each in assignment(name)]
    assert not [each for each in results if each.points or each.started]
    folded = hints(path)
    assert {each.name: len(folded[each.name]) for each in results} == dict.fromkeys(folded, 3)
    assert all(hint.strip() for each in folded.values() for hint in each)


@every_assignment
def test_the_solution_has_all_points(name):
    results = check_notebook(name, ROOT / "solutions" / name / f"{name}.ipynb")
    assert [(each.name, each.points) for each in results] == [(each.name, each.points) for each in assignment(name)]
