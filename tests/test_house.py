"""The rules of the house: what imports what, what importing costs, what the repository may contain."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()

# Each part of the package, and what of the package it may import.
MAY_IMPORT = {
    "reference": {"reference"},
    "nn": {"nn"},
    "kernels": {"kernels"},
    "data": set(),
    "training": {"training", "nn"},
    "plotting": set(),
    "probing": {"plotting"},
    "experiments": {"experiments", "reference", "nn", "kernels", "data", "training", "probing"},
    "museum": {"reference"},
    "broken_runs": {"nn", "data", "training", "probing"},
    "checks": {"checks", "reference", "museum", "broken_runs"},
    "cli": {"experiments", "checks", "kernels"},
}
HEAVY = {"torch", "matplotlib", "sklearn", "scipy", "numba", "triton", "nbgrader"}
NUMPY_ONLY = {"reference", "checks"}  # checks: but for what an exercise in PyTorch imports inside a function


def modules():
    for path in sorted((ROOT / "lnorm").rglob("*.py")):
        part = path.relative_to(ROOT / "lnorm").parts[0].removesuffix(".py")
        if part != "__init__":
            yield part, path


def imported(path, *, everywhere=True):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(("part", "path"), list(modules()), ids=lambda each: str(getattr(each, "name", each)))
def test_imports_point_downwards(part, path):
    assert part in MAY_IMPORT, f"say in MAY_IMPORT what {part} may import"
    for name in imported(path):
        words = name.split(".")
        if words[0] == "lnorm" and len(words) > 1:
            assert words[1] in MAY_IMPORT[part] or words[1] == "__version__", f"{path} imports {name}"
    if part in NUMPY_ONLY:
        for name in imported(path, everywhere=part != "checks"):
            assert name.split(".")[0] not in HEAVY, f"{path} imports {name}"


@pytest.mark.parametrize("module", ["lnorm", "lnorm.reference", "lnorm.checks", "lnorm.cli"])
def test_importing_loads_nothing_heavy(module):
    code = f"import sys, {module}; print(*sorted(set(sys.modules) & {HEAVY}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_importing_the_package_costs_next_to_nothing():
    """Counted in modules, not in seconds, which depend on the machine: one, the package itself."""
    code = "import sys; before = set(sys.modules); import lnorm; print(len(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 1


def test_requirements_pin_all_that_the_package_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(each for group in project["optional-dependencies"].values() for each in group)]
    names = {re.match(r"[\w-]+", each)[0] for each in asked} - {"lnorm"}
    pins = (ROOT / "requirements.txt").read_text()
    for name in names:
        assert re.search(rf"^{name}==", pins, re.MULTILINE), f"{name} is not pinned: run `make lock`"
    assert "nvidia" not in pins
    assert re.search(r"^torch==2\.13\.0$", pins, re.MULTILINE)


def test_every_citation_key_of_the_experiments_is_in_the_bibliography():
    keys = set(re.findall(r"^@\w+\{([\w-]+),", (ROOT / "book" / "references.bib").read_text(), re.MULTILINE))
    used = set()
    for path in (ROOT / "lnorm" / "experiments").glob("*.py"):
        used |= set(re.findall(r'source="([\w-]+)"', path.read_text()))
    assert used <= keys
    assert len(used) >= 4


@pytest.mark.skipif(not TRACKED, reason="not a git checkout: nothing says which files belong to the project")
def test_no_generated_files_and_no_paths_of_a_machine_are_tracked():
    for name in TRACKED:
        assert not re.search(r"(^|/)(_build|results|__pycache__|\.venv)/|gradebook\.db|\.pyc$", name), name
        path = ROOT / name
        if path.is_file() and path.suffix in {".py", ".md", ".yml", ".toml", ".txt", ".ipynb", ".cfg", ""}:
            assert not re.search(r"(?<![\w.])/(home|root|work|Users)/\w", path.read_text(errors="ignore")), name
