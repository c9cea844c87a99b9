"""Make the notebooks of the assignments from their text.

An assignment is written as text, solutions/NN-topic/NN-topic.md. From it come the executed notebook beside it, which
nbgrader grades by, and the students' notebook in exercises/, from which nbgrader has taken the solutions and outputs.
Points are not typed anywhere: a check cell is worth what `lnorm.checks` says.

`python -m tools.exercises` makes all assignments, `python -m tools.exercises 03-layer-norm` some.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCE, RELEASE = ROOT / "solutions", ROOT / "exercises"
CHECK = re.compile(r'^check\("(\w+)"', re.MULTILINE)
NAME = re.compile(r"^(?:def|class) (\w+)", re.MULTILINE)
WRITTEN_POINTS = 4


def notebook(text: Path) -> Any:
    """Return the text as a notebook with nbgrader's metadata: what may be edited, what is graded, for what points.

    A cell that calls a check is graded by itself; a text cell with the tag ``written`` is graded by a person.
    """
    import jupytext

    from lnorm.checks import exercise

    nb = jupytext.read(text)
    nb.metadata = {"kernelspec": nb.metadata["kernelspec"], "language_info": {"name": "python"}}
    written = 0
    for number, cell in enumerate(nb.cells):
        tags = cell.metadata.pop("tags", [])
        role: dict[str, Any] = {"grade": False, "locked": True, "solution": False, "task": False}
        name = f"text-{number:02d}"
        if cell.cell_type == "code" and (found := CHECK.search(cell.source)):
            name = f"check-{found[1]}"
            role |= {"grade": True, "points": exercise(found[1]).points}
        elif "solution" in tags:
            name = f"write-{NAME.findall(cell.source)[-1]}"
            role |= {"solution": True, "locked": False}
        elif "written" in tags:
            written += 1
            name = f"written-{written}"
            role |= {"grade": True, "solution": True, "locked": False, "points": WRITTEN_POINTS}
        cell.metadata = {"nbgrader": {"grade_id": name, "schema_version": 3, "cell_type": cell.cell_type, **role}}
        cell.id = name
    return nb


def execute(nb: Any) -> Any:
    """Run the notebook in the visible way, as a student would, and keep its outputs."""
    from nbclient import NotebookClient

    os.environ.pop("LNORM_GRADING_SEED", None)
    NotebookClient(nb, timeout=60, record_timing=False, extra_arguments=["--IPKernelApp.log_level=ERROR"]).execute()
    nb.metadata["language_info"] = {"name": "python"}  # the interpreter's own version would change with the machine
    return nb


def release(names: Sequence[str], source: Path, destination: Path) -> None:
    """Let nbgrader make the students' version of these assignments."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            command = [sys.executable, "-m", "nbgrader", "generate_assignment", name, "--force", "--create"]
            command += [f"--CourseDirectory.root={ROOT}", f"--CourseDirectory.source_directory={source}"]
            command += [f"--CourseDirectory.release_directory={destination}", f"--db=sqlite:///{scratch}/gradebook.db"]
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # nbgrader calls alembic by name
            done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"exercises: nbgrader could not release {name}:\n{done.stderr}")


def assignments(source: Path = SOURCE) -> list[str]:
    """Return the names of all assignments, in order."""
    return sorted(folder.name for folder in source.iterdir() if (folder / f"{folder.name}.md").exists())


def make(source: Path, destination: Path, names: Sequence[str] = ()) -> None:
    """Write the executed notebooks into ``source`` and the students' version into ``destination``; without names, all.

    Folders of ``destination`` that no assignment stands behind are removed.
    """
    import nbformat

    for name in names or assignments(source):
        print(f"  {name}", flush=True)
        text = source / name / f"{name}.md"
        if not text.exists():
            sys.exit(f"exercises: expected {text}; the assignments are: {', '.join(assignments(source))}")
        nbformat.write(execute(notebook(text)), text.with_suffix(".ipynb"))
        shutil.rmtree(destination / name, ignore_errors=True)
    for folder in destination.iterdir() if destination.exists() else ():
        if folder.name not in assignments(source):
            shutil.rmtree(folder)
    release(names or assignments(source), source, destination)


if __name__ == "__main__":
    make(SOURCE, RELEASE, sys.argv[1:])
