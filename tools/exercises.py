"""Make the notebooks of the assignments from their text.

An assignment is written as text, solutions/NN-topic/NN-topic.md. From it come the executed notebook beside it, which
nbgrader grades by, and the students' notebook in exercises/, from which nbgrader has taken the solutions and outputs.
Points are not typed anywhere: a check cell is worth what `lnorm.checks` says.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCE, RELEASE = ROOT / "solutions", ROOT / "exercises"
CHECK = re.compile(r'^check\("(\w+)"', re.MULTILINE)


def notebook(text: Path) -> Any:
    """Return the text as a notebook with nbgrader's metadata: what may be edited, what is graded, for what points."""
    import jupytext

    from lnorm.checks import exercise

    nb = jupytext.read(text)
    nb.metadata = {"kernelspec": nb.metadata["kernelspec"], "language_info": {"name": "python"}}
    for number, cell in enumerate(nb.cells):
        tags = cell.metadata.pop("tags", [])
        role: dict[str, Any] = {"grade": False, "locked": True, "solution": False, "task": False}
        name = f"text-{number:02d}"
        if found := CHECK.search(cell.source):
            name = f"check-{found[1]}"
            role |= {"grade": True, "points": exercise(found[1]).points}
        elif "solution" in tags:
            name = "write-" + re.findall(r"def (\w+)", cell.source)[0]
            role |= {"solution": True, "locked": False}
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


def release(source: Path, destination: Path) -> None:
    """Let nbgrader make the students' version of every assignment in ``source``."""
    with tempfile.TemporaryDirectory() as scratch:
        for folder in assignments(source):
            command = [sys.executable, "-m", "nbgrader", "generate_assignment", folder.name, "--force", "--create"]
            command += [f"--CourseDirectory.root={ROOT}", f"--CourseDirectory.source_directory={source}"]
            command += [f"--CourseDirectory.release_directory={destination}", f"--db=sqlite:///{scratch}/gradebook.db"]
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # nbgrader calls alembic by name
            done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"exercises: nbgrader could not release {folder.name}:\n{done.stderr}")


def assignments(source: Path = SOURCE) -> list[Path]:
    """Return the folders of all assignments, in order."""
    return sorted(folder for folder in source.iterdir() if (folder / f"{folder.name}.md").exists())


def make(source: Path, destination: Path) -> None:
    """Write the executed notebooks into ``source`` and the students' version into ``destination``."""
    import nbformat

    for folder in assignments(source):
        print(f"  {folder.name}", flush=True)
        nb = execute(notebook(folder / f"{folder.name}.md"))
        nbformat.write(nb, folder / f"{folder.name}.ipynb")
    if destination.exists():
        shutil.rmtree(destination)
    release(source, destination)


if __name__ == "__main__":
    make(SOURCE, RELEASE)
