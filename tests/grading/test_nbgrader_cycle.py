"""A whole course in a temporary folder: release, submit, autograde, feedback, with nbgrader's own commands."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook

from lnorm.checks import assignment
from tools import exercises

ROOT = Path(__file__).resolve().parents[2]
NAME = "03-layer-norm"
POINTS = {each.name: each.points for each in assignment(NAME)}

pytestmark = pytest.mark.slow


def nbgrader(course, *arguments):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {key: value for key, value in os.environ.items() if key != "LNORM_GRADING_SEED"} | {"PATH": path}
    command = [sys.executable, "-m", "nbgrader", *arguments]
    done = subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def submit(course, student, source, edit=lambda nb: None):
    folder = course / "submitted" / student / NAME
    folder.mkdir(parents=True)
    nb = nbformat.read(source / NAME / f"{NAME}.ipynb", as_version=4)
    edit(nb)
    nbformat.write(nb, folder / f"{NAME}.ipynb")


def cell(nb, grade_id):
    return next(each for each in nb.cells if each.metadata.nbgrader.grade_id == grade_id)


def one_mistake(nb):
    """Divide by D - 1: the exercise is wrong, the others stay right."""
    write = cell(nb, "write-layer_norm")
    write.source = write.source.replace(
        "np.mean(centred**2, axis=axes, keepdims=True)", "x.var(axis=axes, keepdims=True, ddof=1)", 1
    )


def eps_mistake(nb):
    """Put eps outside the root: only what asks about eps is lost."""
    write = cell(nb, "write-layer_norm")
    write.source = write.source.replace("np.sqrt(var + eps)", "(np.sqrt(var) + eps)")


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A graded course of four students."""
    course = tmp_path_factory.mktemp("course")
    shutil.copy(ROOT / "nbgrader_config.py", course)
    shutil.copytree(ROOT / "solutions", course / "solutions")
    nbgrader(course, "generate_assignment", NAME, "--create")
    submit(course, "solution", course / "solutions")
    submit(course, "untouched", course / "exercises")
    submit(course, "one-mistake", course / "solutions", one_mistake)
    submit(course, "eps-mistake", course / "solutions", eps_mistake)
    nbgrader(course, "autograde", NAME)
    nbgrader(course, "generate_feedback", NAME)
    return course


def scores(course, student):
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        submission = gradebook.find_submission(NAME, student)
        return {
            grade.name.removeprefix("check-"): grade.score for book in submission.notebooks for grade in book.grades
        }


def feedback(course, student):
    return (course / "feedback" / student / NAME / f"{NAME}.html").read_text()


def test_the_solution_gets_full_marks(course):
    assert scores(course, "solution") == POINTS


def test_the_untouched_release_gets_nothing(course):
    assert scores(course, "untouched") == dict.fromkeys(POINTS, 0)


def test_a_mistake_loses_points_on_its_exercise_only(course):
    ours = scores(course, "one-mistake")
    assert ours.pop("layer_norm") < POINTS["layer_norm"]
    assert ours == {name: points for name, points in POINTS.items() if name != "layer_norm"}


def test_credit_is_partial_and_comes_with_its_reason(course):
    assert scores(course, "eps-mistake")["layer_norm"] == POINTS["layer_norm"] - 2
    page = feedback(course, "eps-mistake")
    assert "8 of 10 points (graded cases)" in page
    assert "eps added to the standard deviation, outside the square root" in page


def test_the_seed_is_secret_and_made_once(course):
    seed = course / ".grading-seed"
    assert re.fullmatch("[0-9a-f]{32}", seed.read_text())
    assert seed.stat().st_mode & 0o077 == 0
    assert seed.read_text() not in "".join(feedback(course, student) for student in ("solution", "untouched"))


def solution_lines():
    text = (ROOT / "solutions" / NAME / f"{NAME}.md").read_text()
    blocks = re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", text, re.DOTALL)
    lines = {line.strip() for block in blocks for line in block.splitlines()} - {""}
    assert len(lines) > 15
    return lines


def test_no_solution_line_in_the_release_or_the_feedback(course):
    release = (course / "exercises" / NAME / f"{NAME}.ipynb").read_text()
    page = re.sub(r"<[^>]+>", "", feedback(course, "untouched"))
    for line in solution_lines():
        assert line not in release
        assert line not in page
    assert list((course / "exercises" / NAME).iterdir()) == [course / "exercises" / NAME / f"{NAME}.ipynb"]


def test_no_grader_code_in_the_release_or_the_feedback(course):
    release = (course / "exercises" / NAME / f"{NAME}.ipynb").read_text()
    for text in (release, feedback(course, "one-mistake")):
        for word in ("BEGIN HIDDEN", "_cases(", "default_rng", "judge"):
            assert word not in text


def test_a_student_can_validate_the_notebook(course):
    said = nbgrader(course, "validate", str(course / "solutions" / NAME / f"{NAME}.ipynb"))
    assert "failed" not in said.lower()


def test_exercises_are_what_solutions_make(tmp_path):
    """`make exercises` was run after the last change, and running it again changes nothing."""
    source, release = tmp_path / "solutions", tmp_path / "exercises"
    shutil.copytree(ROOT / "solutions", source)
    exercises.make(source, release)
    for made, kept in ((source, ROOT / "solutions"), (release, ROOT / "exercises")):
        made_files = {path.relative_to(made): path.read_bytes() for path in made.rglob("*.ipynb")}
        kept_files = {path.relative_to(kept): path.read_bytes() for path in kept.rglob("*.ipynb")}
        assert made_files == kept_files, "run `make exercises` and commit what it changes"


def test_the_points_in_the_text_are_those_of_the_checks():
    text = (ROOT / "solutions" / NAME / f"{NAME}.md").read_text()
    announced = [int(points) for points in re.findall(r"^\*(\d+) points", text, re.MULTILINE)]
    assert announced == list(POINTS.values())
