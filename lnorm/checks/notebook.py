"""Check the notebook of an assignment outside Jupyter.

The cells run in a process of their own, one after the other; an error in one is kept and the next ones run. Then the
visible checks are made on what is there. So a cell that is half-written costs its own exercise and no other.
"""

import ast
import json
import linecache
import os
import re
import subprocess
import sys
import tempfile
import types
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lnorm.checks.catalogue import ASSIGNMENTS, assignment
from lnorm.checks.exercise import Exercise
from lnorm.checks.guard import OutOfTimeError, time_limit
from lnorm.checks.marking import VISIBLE_SEED, mark, quiet

CELL_SECONDS = 20.0
ALL_SECONDS = 300.0


@dataclass(frozen=True)
class Result:
    """What the visible check of one exercise said."""

    name: str
    points: int
    possible: int
    reasons: Sequence[str]
    started: bool


def find(name_or_path: str) -> tuple[str, Path]:
    """Return an assignment's name and notebook; LookupError that says what was expected.

    The name alone means exercises/NAME/NAME.ipynb or NAME.ipynb in the current folder.
    """
    name = Path(name_or_path).stem if name_or_path.endswith(".ipynb") else name_or_path
    if name not in ASSIGNMENTS:
        raise LookupError(f"no assignment is called {name!r}; there are: {', '.join(ASSIGNMENTS)}")
    places = [Path(name_or_path)] if name_or_path.endswith(".ipynb") else []
    places = places or [Path("exercises", name, f"{name}.ipynb"), Path(f"{name}.ipynb")]
    for path in places:
        if path.is_file():
            return name, path
    raise LookupError(f"no notebook found: expected {' or '.join(map(str, places))}")


def check_notebook(name: str, path: Path, seconds: float = ALL_SECONDS) -> list[Result]:
    """Run the notebook in a process of its own and return what the visible checks say, for every exercise."""
    environment = {key: value for key, value in os.environ.items() if key != "LNORM_GRADING_SEED"}
    environment["MPLBACKEND"] = "Agg"
    why = "the notebook's process ended before this exercise was checked"
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "results.jsonl"
        command = [sys.executable, "-m", "lnorm.checks.notebook", name, str(path.resolve()), str(out)]
        try:
            subprocess.run(
                command,
                cwd=path.resolve().parent,
                env=environment,
                timeout=seconds,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            why = f"the notebook did not finish within {seconds:g} s; is there an endless loop?"
        lines = out.read_text().splitlines() if out.exists() else []
    came = {result.name: result for result in (Result(**json.loads(line)) for line in lines)}
    return [came.get(each.name, Result(each.name, 0, each.points, [why], True)) for each in assignment(name)]


def hints(path: Path) -> dict[str, list[str]]:
    """Return the hints of every exercise, in order: the folded blocks between its heading and its check."""
    found: dict[str, list[str]] = {}
    text = ""
    for kind, source in _cells(path):
        if kind == "markdown":
            text = source if source.startswith("## ") else text + source
        elif check := re.search(r'^check\("(\w+)"', source, re.MULTILINE):
            found[check[1]] = re.findall(r"<summary>Hint \d+</summary>\s*(.*?)\s*</details>", text, re.DOTALL)
    return found


def _cells(path: Path) -> list[tuple[str, str]]:
    """Return kind and text of every cell; LookupError if the file is no notebook."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return [(str(cell["cell_type"]), "".join(cell["source"])) for cell in cells]
    except (ValueError, KeyError, TypeError) as error:
        raise LookupError(f"{path} is not a notebook that can be read ({type(error).__name__}: {error})") from error


def _run_and_check(name: str, path: Path, out: Path) -> None:
    """Run all cells but the checks, then check; one line of JSON an exercise. The child process."""
    space = types.ModuleType("__main__")
    sys.modules["__main__"] = space
    namespace = vars(space)
    namespace["display"] = lambda *objects, **options: None
    answers: dict[str, ast.expr] = {}
    broken: dict[str, str] = {}  # text of a cell → the error that it raised
    sources = [source for kind, source in _cells(path) if kind == "code"]
    for number, source in enumerate(sources, start=1):
        source = re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.MULTILINE)  # IPython's commands
        error = _run_cell(source, f"<cell {number}>", namespace, answers)
        if error:
            broken[source] = error
    for each in assignment(name):
        expression = answers.get(each.name) or ast.Name(each.name, ast.Load())
        result = _check(each, expression, namespace, sources, broken)
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")


def _run_cell(source: str, filename: str, namespace: dict[str, Any], answers: dict[str, ast.expr]) -> str:
    """Run a cell, or note which answers it checks; return its error, empty if there is none."""
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    try:
        tree = ast.parse(source, filename)
        checks = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "check"]
        for call in checks:
            if len(call.args) == 2 and isinstance(call.args[0], ast.Constant):
                answers[str(call.args[0].value)] = call.args[1]
        if not checks:
            with quiet(), time_limit(CELL_SECONDS):
                exec(compile(tree, filename, "exec"), namespace)
    except SyntaxError as error:
        return f"SyntaxError: {error.msg}, in line {error.lineno} of the cell"
    except OutOfTimeError as error:
        return str(error)
    except (Exception, SystemExit) as error:
        return f"{type(error).__name__}: {error}"[:300]
    return ""


def _check(
    exercise: Exercise, expression: ast.expr, namespace: dict[str, Any], sources: list[str], broken: dict[str, str]
) -> Result:
    try:
        code = compile(ast.fix_missing_locations(ast.Expression(expression)), "<check>", "eval")
        answer = eval(code, namespace)
    except Exception as error:
        missing = getattr(error, "name", None) or exercise.name
        definition = re.compile(rf"^(def|class) {re.escape(str(missing))}\b", re.MULTILINE)
        why = f"the notebook has no `{missing}`: was it renamed, or its cell deleted?"
        if its := next((text for source, text in broken.items() if definition.search(source)), ""):
            why = f"the cell of `{missing}` does not run: {its}"
        return Result(exercise.name, 0, exercise.points, [why], True)
    with quiet():
        verdict = mark(exercise, lambda inputs: exercise.run(answer, inputs), VISIBLE_SEED)
    return Result(exercise.name, verdict.points, verdict.possible, verdict.reasons, verdict.started)


if __name__ == "__main__":
    _run_and_check(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
