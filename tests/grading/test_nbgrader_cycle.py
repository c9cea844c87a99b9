"""A whole course in a temporary folder: release, submit, autograde, feedback, with nbgrader's own commands.

Two students hand in every assignment, one the solution and one the untouched release; three more hand in assignment 3
with mistakes. All is graded in one run.
"""

import ast
import dis
import html
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook

from lnorm.checks import ASSIGNMENTS, assignment
from tools import exercises

ROOT = Path(__file__).resolve().parents[2]
NAME = "03-layer-norm"  # whose mistakes are looked at closely
POINTS = {name: {each.name: each.points for each in assignment(name)} for name in ASSIGNMENTS}

pytestmark = pytest.mark.slow
every_assignment = pytest.mark.parametrize("name", ASSIGNMENTS)


def nbgrader(course, *arguments):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {key: value for key, value in os.environ.items() if key != "LNORM_GRADING_SEED"} | {"PATH": path}
    command = [sys.executable, "-m", "nbgrader", *arguments]
    done = subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def submit(course, student, name, source, edit=lambda nb: None):
    folder = course / "submitted" / student / name
    folder.mkdir(parents=True)
    nb = nbformat.read(source / name / f"{name}.ipynb", as_version=4)
    edit(nb)
    nbformat.write(nb, folder / f"{name}.ipynb")


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
    nbgrader(course, "generate_assignment", "*", "--create")
    for name in ASSIGNMENTS:
        submit(course, "solution", name, course / "solutions")
        submit(course, "untouched", name, course / "exercises")
    submit(course, "one-mistake", NAME, course / "solutions", one_mistake)
    submit(course, "eps-mistake", NAME, course / "solutions", eps_mistake)
    submit(course, "every-kind", NAME, course / "exercises", answers_of_every_kind)
    nbgrader(course, "autograde", "*")
    nbgrader(course, "generate_feedback", "*")
    return course


def grades(course, student, name=NAME):
    """Score and whether a person has to grade, by the name of the cell."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        submission = gradebook.find_submission(name, student)
        return {
            grade.name: (grade.score, grade.needs_manual_grade)
            for book in submission.notebooks
            for grade in book.grades
        }


def scores(course, student, name=NAME):
    return {
        cell.removeprefix("check-"): score
        for cell, (score, _) in grades(course, student, name).items()
        if cell.startswith("check-")
    }


def feedback(course, student, name=NAME):
    return (course / "feedback" / student / name / f"{name}.html").read_text()


def release(course, name):
    """All that the students' notebook says."""
    nb = nbformat.read(course / "exercises" / name / f"{name}.ipynb", as_version=4)
    assert not any(each.get("outputs") for each in nb.cells)
    return "\n".join(each.source for each in nb.cells)


# --- every assignment: two students ---


@every_assignment
def test_the_solution_gets_full_marks(course, name):
    assert scores(course, "solution", name) == POINTS[name]


@every_assignment
def test_the_untouched_release_gets_nothing(course, name):
    assert scores(course, "untouched", name) == dict.fromkeys(POINTS[name], 0)


@every_assignment
def test_written_questions_wait_for_a_person_unless_nobody_wrote(course, name):
    for question in ("written-1", "written-2"):
        assert grades(course, "untouched", name)[question] == (0, False)
        assert grades(course, "solution", name)[question] == (0, True)
    waiting = [cell for cell, (_, waits) in grades(course, "solution", name).items() if waits]
    assert waiting == ["written-1", "written-2"]


def solution_lines(name):
    """The lines of all answers, of the rubrics and of the sample answers."""
    text = (ROOT / "solutions" / name / f"{name}.md").read_text()
    blocks = re.findall(r"BEGIN SOLUTION[^\n]*\n(.*?)[^\n]*END SOLUTION", text, re.DOTALL)
    lines = {line.strip() for block in blocks for line in block.splitlines()}
    lines = {line for line in lines if len(line) > 12}
    assert len(lines) > 40
    assert len([line for line in lines if "Rubric" in line]) == 2
    return lines


def grader_lines(name):
    """The lines of the assignment's checks that draw cases, run answers and judge; only long ones."""
    for path in (ROOT / ASSIGNMENTS[name].replace(".", "/")).glob("*.py"):
        source = path.read_text()
        for function in (each for each in ast.walk(ast.parse(source)) if isinstance(each, ast.FunctionDef)):
            if re.search("cases|probe|verify|explain", function.name):
                lines = source.splitlines()[function.lineno - 1 : function.end_lineno]
                yield from (line.strip() for line in lines if len(line.strip()) > 30)


@every_assignment
def test_no_solution_line_in_the_release_or_the_feedback(course, name):
    text = release(course, name)
    pages = [feedback(course, "untouched", name)] + ([feedback(course, "every-kind")] if name == NAME else [])
    pages = [re.sub(r"<[^>]+>", "", page) for page in pages]
    for line in solution_lines(name):
        assert line not in text
        assert not [page for page in pages if html.escape(line, quote=False) in page], line
    assert text.count("YOUR ANSWER HERE") == 2
    assert text.count("raise NotImplementedError") >= len(POINTS[name])
    assert list((course / "exercises" / name).iterdir()) == [course / "exercises" / name / f"{name}.ipynb"]


@every_assignment
def test_no_grader_code_in_the_release_or_the_feedback(course, name):
    lines = set(grader_lines(name))
    assert len(lines) > 10
    for text in (release(course, name), html.unescape(re.sub(r"<[^>]+>", "", feedback(course, "untouched", name)))):
        assert not [line for line in lines if line in text]
        assert not [word for word in ("BEGIN HIDDEN", "_cases(", "_probe(") if word in text]


@every_assignment
def test_the_points_in_the_text_are_those_of_the_checks(name):
    text = (ROOT / "solutions" / name / f"{name}.md").read_text()
    announced = [int(points) for points in re.findall(r"^\*(\d+) points?", text, re.MULTILINE)]
    assert announced == [POINTS[name][each] for each in re.findall(r'^check\("(\w+)"', text, re.MULTILINE)]
    assert sum(announced) == sum(POINTS[name].values())


def global_names(code):
    """The names that a piece of code looks up outside its functions."""
    yield from (each.argval for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from global_names(each)


@every_assignment
def test_no_exercise_needs_the_answer_of_another(name):
    """A mistake costs its own exercise only: no answer uses a name that another answer defines."""
    nb = exercises.notebook(ROOT / "solutions" / name / f"{name}.md")
    answers = [each.source for each in nb.cells if each.metadata.nbgrader.grade_id.startswith("write-")]
    assert len(answers) == len(POINTS[name])
    defined = [{node.name for node in ast.parse(source).body if hasattr(node, "name")} for source in answers]
    for source, own in zip(answers, defined, strict=True):
        assert not set(global_names(compile(source, name, "exec"))) & (set().union(*defined) - own)


# --- one assignment: other students ---


def test_a_mistake_loses_points_on_its_exercise_only(course):
    ours, points = scores(course, "one-mistake"), POINTS[NAME]
    assert ours.pop("layer_norm") < points["layer_norm"]
    assert ours == {name: each for name, each in points.items() if name != "layer_norm"}


def test_credit_is_partial_and_comes_with_its_reason(course):
    score, possible = scores(course, "eps-mistake")["layer_norm"], POINTS[NAME]["layer_norm"]
    assert 0 < score <= possible - 2  # a row of two features that are nearly equal loses another point, on a rare seed
    page = feedback(course, "eps-mistake")
    assert f"{score:.0f} of {possible} points (graded cases)" in page
    assert "eps added to the standard deviation, outside the square root" in page


def test_the_seed_is_secret_and_made_once(course):
    seed = course / ".grading-seed"
    assert re.fullmatch("[0-9a-f]{32}", seed.read_text())
    assert seed.stat().st_mode & 0o077 == 0
    assert not [page for page in (course / "feedback").rglob("*.html") if seed.read_text() in page.read_text()]


def test_answers_of_every_kind_cost_their_own_exercise_only(course):
    ours = scores(course, "every-kind")
    assert {name: score for name, score in ours.items() if score} == {"rms_from_ln": POINTS[NAME]["rms_from_ln"]}
    page = feedback(course, "every-kind")
    assert "did not finish within 5 s; is there an endless loop?" in page
    assert "calls lnorm.reference.layer_norm, which this exercise asks you to write" in page
    assert "SyntaxError" in page
    assert "noise" not in re.sub(r"<[^>]+>", "", page).replace("'noise'", "")
    assert grades(course, "every-kind")["written-1"] == (0, True)


def test_a_student_can_validate_the_notebook(course):
    solutions = [str(path) for path in sorted((course / "solutions").glob("*/*.ipynb"))]
    assert nbgrader(course, "validate", *solutions).count("Success") == len(ASSIGNMENTS)
    for student, failed in (("untouched", len(POINTS[NAME]) + 2), ("eps-mistake", 1)):
        said = nbgrader(course, "validate", str(course / "submitted" / student / NAME / f"{NAME}.ipynb"))
        assert f"VALIDATION FAILED ON {failed} CELL" in said


# --- what `make exercises` made is what it would make now ---

STALE = "run `make exercises` and commit what it changes"


@every_assignment
def test_the_notebook_is_that_of_the_text(name):
    """All but the outputs, which nbval compares when it runs the notebook (`make test`)."""
    kept = ROOT / "solutions" / name / f"{name}.ipynb"
    old, new = nbformat.read(kept, as_version=4), exercises.notebook(kept.with_suffix(".md"))
    for before, now in zip(old.cells, new.cells, strict=False):
        if now.cell_type == "code":
            now.outputs, now.execution_count = before.get("outputs", []), before.get("execution_count")
    assert nbformat.writes(new) + "\n" == kept.read_text(), STALE


def test_the_release_is_that_of_the_notebooks(course):
    made, kept = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (course / "exercises", ROOT / "exercises")
    )
    assert made == kept, STALE


def test_making_an_assignment_again_changes_nothing(tmp_path):
    source, destination = tmp_path / "solutions", tmp_path / "exercises"
    shutil.copytree(ROOT / "solutions" / NAME, source / NAME)
    (destination / "99-removed").mkdir(parents=True)
    exercises.make(source, destination)
    assert [path.name for path in destination.iterdir()] == [NAME]
    for made, kept in ((source, ROOT / "solutions"), (destination, ROOT / "exercises")):
        file = Path(NAME, f"{NAME}.ipynb")
        assert (made / file).read_bytes() == (kept / file).read_bytes(), STALE
