"""Which experiments there are."""

import ast
import importlib
from pathlib import Path
from types import ModuleType

_FOLDER = Path(__file__).parent
MACHINERY = {"__init__", "catalogue", "claim", "results", "ledger"}


def names() -> list[str]:
    """Return the names of all experiments, in alphabetical order."""
    return sorted({path.stem for path in _FOLDER.glob("*.py")} - MACHINERY)


def load(name: str) -> ModuleType:
    """Return the experiment's module; LookupError, naming what exists, if there is none."""
    if name not in names():
        raise LookupError(f"no experiment is called {name!r}; there are: {', '.join(names())}")
    return importlib.import_module(f"lnorm.experiments.{name}")


def title(name: str) -> str:
    """Return what the experiment measures, in a sentence, without importing what it needs."""
    docstring = ast.get_docstring(ast.parse((_FOLDER / f"{name}.py").read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]
