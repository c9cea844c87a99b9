"""A whole course in a temporary folder: release, submit, autograde, feedback, with nbgrader's own commands."""

import html
import json
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
TEXT = (ROOT / "solutions" / NAME / f"{NAME}.md").read_text()

pytestmark = pytest.mark.slow


def nbgrader(course, *arguments):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {key: value for key, value in os.environ.items() if key != "LNORM_GRADING_SEED"} | {"PATH": path}
    command = [sys.executable, "-m", "nbgrader", *arguments]
    done = subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


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


def answers_of_every_kind(nb):
    """An endless loop, a half-written cell, prints to stderr, a short cut; and one question answered."""
    cell(nb, "write-collide").source = "def collide(x):\n    while True:\n        print('noise')\n"
    cell(nb, "write-layer_norm_backward").source = "def layer_norm_backward(dy, x:\n    return"
    cell(nb, "write-rms_from_ln").source = (
        "def rms_from_ln(W, b):\n    import sys\n    print('noise', file=sys.stderr)\n"
        "    return W - W.mean(0), b - b.mean()\n"
    )
    cell(nb, "write-layer_norm").source = (
        "import lnorm\nfrom lnorm.reference import layer_norm as short_cut\n"
        "def layer_norm(x, normalized_shape, gamma, beta, eps):\n"
        "    return short_cut(x, normalized_shape, gamma, beta, eps)[0]\n"
    )
    question = cell(nb, "written-1")
    question.source = question.source.replace("YOUR ANSWER HERE", "They are the same, up to eps.")


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A graded course of five students."""
    course = tmp_path_factory.mktemp("course")
    shutil.copy(ROOT / "nbgrader_config.py", course)
    shutil.copytree(ROOT / "solutions", course / "solutions")
    nbgrader(course, "generate_assignment", NAME, "--create")
    submit(course, "solution", course / "solutions")
    submit(course, "untouched", course / "exercises")
    submit(course, "one-mistake", course / "solutions", one_mistake)
    submit(course, "eps-mistake", course / "solutions", eps_mistake)
    submit(course, "every-kind", course / "exercises", answers_of_every_kind)
    nbgrader(course, "autograde", NAME)
    nbgrader(course, "generate_feedback", NAME)
    return course


def grades(course, student):
    """Score and whether a person has to grade, by the name of the cell."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        submission = gradebook.find_submission(NAME, student)
        return {
            grade.name: (grade.score, grade.needs_manual_grade)
            for book in submission.notebooks
            for grade in book.grades
        }


def scores(course, student):
    return {
        name.removeprefix("check-"): score
        for name, (score, _) in grades(course, student).items()
        if name.startswith("check-")
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


def test_answers_of_every_kind_cost_their_own_exercise_only(course):
    ours = scores(course, "every-kind")
    assert {name: score for name, score in ours.items() if score} == {"rms_from_ln": POINTS["rms_from_ln"]}
    page = feedback(course, "every-kind")
    assert "did not finish within 5 s; is there an endless loop?" in page
    assert "calls lnorm.reference.layer_norm, which this exercise asks you to write" in page
    assert "SyntaxError" in page
    assert "noise" not in re.sub(r"<[^>]+>", "", page).replace("'noise'", "")


def test_written_questions_wait_for_a_person_unless_nobody_wrote(course):
    assert grades(course, "every-kind")["written-1"] == (0, True)
    for name in ("written-1", "written-2"):
        assert grades(course, "untouched")[name] == (0, False)
        assert grades(course, "solution")[name][1]


def solution_lines():
    """The lines of all answers, of the rubrics and of the sample answers."""
    blocks = re.findall(r"BEGIN SOLUTION[^\n]*\n(.*?)[^\n]*END SOLUTION", TEXT, re.DOTALL)
    lines = {line.strip() for block in blocks for line in block.splitlines()}
    lines = {line for line in lines if len(line) > 12}
    assert len(lines) > 50
    assert len([line for line in lines if "Rubric" in line]) == 2
    return lines


def test_no_solution_line_in_the_release_or_the_feedback(course):
    release = (course / "exercises" / NAME / f"{NAME}.ipynb").read_text()
    release = "".join("".join(each["source"]) + "\n" for each in json.loads(release)["cells"])
    pages = [re.sub(r"<[^>]+>", "", feedback(course, student)) for student in ("untouched", "every-kind")]
    for line in solution_lines():
        assert line not in release
        for page in pages:
            assert html.escape(line, quote=False) not in page
    assert release.count("YOUR ANSWER HERE") == 2
    assert list((course / "exercises" / NAME).iterdir()) == [course / "exercises" / NAME / f"{NAME}.ipynb"]


def test_no_grader_code_in_the_release_or_the_feedback(course):
    release = (course / "exercises" / NAME / f"{NAME}.ipynb").read_text()
    for text in (release, feedback(course, "one-mistake")):
        for word in ("BEGIN HIDDEN", "_cases(", "_probe(", "uneven_rows", "judge"):
            assert word not in text


def test_a_student_can_validate_the_notebook(course):
    assert "Success" in nbgrader(course, "validate", str(course / "solutions" / NAME / f"{NAME}.ipynb"))
    for student, failed in (("untouched", len(POINTS) + 2), ("eps-mistake", 1)):
        said = nbgrader(course, "validate", str(course / "submitted" / student / NAME / f"{NAME}.ipynb"))
        assert f"VALIDATION FAILED ON {failed} CELL" in said


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
    announced = [int(points) for points in re.findall(r"^\*(\d+) points", TEXT, re.MULTILINE)]
    assert announced == list(POINTS.values())
