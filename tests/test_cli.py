"""The `lnorm` command."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lnorm.checks import assignment
from lnorm.checks.notebook import Result, check_notebook
from lnorm.checks.progress import remember
from lnorm.cli import app

ROOT = Path(__file__).resolve().parents[1]
runner = CliRunner()


def test_an_unknown_experiment_lists_what_exists():
    result = runner.invoke(app, ["run", "nosuch"])
    assert result.exit_code == 2
    assert "nosuch" in result.output
    for name in ("signal_propagation", "undo", "unselectable_keys"):
        assert name in result.output


def test_without_a_name_it_lists_what_exists():
    result = runner.invoke(app, ["run"])
    assert result.exit_code == 0
    assert "undo" in result.output


def test_a_run_prints_the_table_and_writes_the_file(tmp_path):
    result = runner.invoke(app, ["run", "undo", "--seeds", "2", "--workers", "1", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "holds" in result.output
    assert json.loads((tmp_path / "undo.json").read_text())["seeds"] == 2


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    result = runner.invoke(app, ["run", "undo", "--out", str(tmp_path / "file")])
    assert result.exit_code == 2
    assert "--out" in result.output


# --- check and progress ---------------------------------------------------------------

NAME = "03-layer-norm"


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """The released notebook in an empty folder; returns what writes other code into its cells."""
    monkeypatch.chdir(tmp_path)
    nb = json.loads((ROOT / "exercises" / NAME / f"{NAME}.ipynb").read_text())

    def write(**code):
        for cell in nb["cells"]:
            name = cell["metadata"]["nbgrader"]["grade_id"].removeprefix("write-")
            if name in code:
                cell["source"] = code[name]
        path = tmp_path / f"{NAME}.ipynb"
        path.write_text(json.dumps(nb))
        return path

    write()
    return write


def checked(*arguments):
    result = runner.invoke(app, ["check", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def remembered():
    return json.loads(Path(".lnorm/progress.json").read_text())[NAME]


@pytest.mark.slow
def test_an_untouched_notebook_has_no_points_and_gives_no_hints(notebook):
    said = checked(NAME)
    assert said.count("not started yet") == len(assignment(NAME))
    assert "Hint" not in said
    assert remembered()["points"] == 0


@pytest.mark.slow
def test_each_failed_try_shows_the_next_hint(notebook):
    notebook(collide="def collide(x):\n    return x + 3\n")
    for number in (1, 2, 3, 3):
        said = checked(NAME)
        assert f"Hint {number}:" in said
        assert said.count("Hint") == 1
    assert "only shifted: the standard deviation is the same" in said
    notebook(collide="def collide(x):\n    return 2 * x + 100\n")
    assert "Hint" not in checked(f"{NAME}.ipynb")
    assert remembered()["exercises"]["collide"] == {"points": 5, "possible": 5, "failed": 0}
    said = " ".join(runner.invoke(app, ["progress"], env={"COLUMNS": "200"}).output.split())
    assert f"{NAME} │ 5 of {remembered()['possible']} │ 1 of {len(assignment(NAME))}" in said


@pytest.mark.slow
def test_what_is_wrong_with_one_cell_costs_its_exercise_only(notebook):
    notebook(
        layer_norm="def layer_norm(x, normalized_shape:\n    retu",
        layer_norm_backward="def renamed(dy):\n    return dy\n",
        best_affine_r2="def best_affine_r2(z, x):\n    print('noise' * 1000)\n    return unknown\n",
        rms_from_ln="import os\n%matplotlib inline\ndef rms_from_ln(W, b):\n    return W - W.mean(0), b - b.mean()\n",
        largest_value="1 / 0\ndef largest_value(d):\n    return d\n",
        collide="def collide(x):\n    return 3 * x + 50\n",
    )
    said = checked(NAME)
    assert "the cell of `layer_norm` does not run: SyntaxError" in said
    assert "the notebook has no `layer_norm_backward`: was it renamed, or its cell deleted?" in said
    assert "NameError: name 'unknown' is not defined, in your line `return unknown`" in said
    assert "the cell of `largest_value` does not run: ZeroDivisionError" in said
    assert "noise" not in said
    assert remembered()["points"] == 6 + 5


@pytest.mark.slow
def test_endless_loops_are_cut(notebook, monkeypatch):
    path = notebook(
        collide="def collide(x):\n    while True:\n        pass\n",
        rms_from_ln="def rms_from_ln(W, b):\n    return W - W.mean(0), b - b.mean()\n",
    )
    results = {each.name: each for each in check_notebook(NAME, path)}
    assert "did not finish within 5 s" in results["collide"].reasons[0]
    assert results["rms_from_ln"].points == 6

    path = notebook(collide="while True:\n    try:\n        while True: pass\n    except BaseException: pass\n")
    results = check_notebook(NAME, path, seconds=4)
    assert all("did not finish within 4 s" in each.reasons[0] for each in results)


def test_a_wrong_name_lists_what_exists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, ["check", "04-nosuch"])
    assert result.exit_code == 2
    assert NAME in result.output
    assert runner.invoke(app, ["check", NAME]).exit_code == 2, "no notebook here"
    Path(f"{NAME}.ipynb").write_text("no notebook")
    result = runner.invoke(app, ["check", NAME])
    assert result.exit_code == 2
    assert "not a notebook" in result.output


def test_progress_without_a_file_and_with_one_that_is_broken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "not yet" in runner.invoke(app, ["progress"]).output
    Path(".lnorm").mkdir()
    Path(".lnorm/progress.json").write_text("{ half")
    assert runner.invoke(app, ["progress"]).exit_code == 0
    remember(NAME, [Result("collide", 5, 5, [], True)])
    assert remembered()["points"] == 5
    assert [path.name for path in Path(".lnorm").iterdir()] == ["progress.json"]
