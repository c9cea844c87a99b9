"""The `lnorm` command."""

import json

from typer.testing import CliRunner

from lnorm.cli import app

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
