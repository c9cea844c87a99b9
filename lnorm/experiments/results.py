"""Running an experiment over seeds, and what comes out: measurements, claims, a table, a file."""

import ast
import datetime
import functools
import hashlib
import json
import math
import multiprocessing
import platform
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import lnorm
from lnorm.experiments.catalogue import MACHINERY, load, names
from lnorm.experiments.claim import Claim, Measurements

STORED = Path(__file__).parent / "stored"
"""What `make results` measured on five seeds, one file an experiment, with where it comes from."""


@dataclass(frozen=True)
class Results:
    """What an experiment measured over seeds 0, 1, …, and what follows for its claims."""

    name: str
    settings: dict[str, Any]
    runs: list[Measurements]
    claims: list[Claim]

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a measurement stacked over seeds: shape ``(seeds, ...)``."""
        if name not in self.runs[0]:
            raise KeyError(f"{self.name} measures no {name!r}; it measures: {', '.join(self.runs[0])}")
        return np.stack([run[name] for run in self.runs])

    def mean(self, name: str) -> Any:
        """Return a measurement averaged over seeds."""
        return self[name].mean(axis=0)

    def spread(self, name: str) -> Any:
        """Return a measurement's sample standard deviation over seeds."""
        return self[name].std(axis=0, ddof=1)

    def check(self) -> None:
        """Raise AssertionError naming every claim that does not hold. The book's build stops here."""
        broken = [claim for claim in self.claims if claim.verdict == "does not hold"]
        if broken:
            lines = [f"- {c.sentence}: expected {c.condition}, measured {c.ours}" for c in broken]
            raise AssertionError(f"{self.name}: {len(broken)} claim(s) do not hold\n" + "\n".join(lines))

    def _repr_markdown_(self) -> str:
        """The claims as a table, with citations as MyST roles: how a chapter shows them.

        Beside what this run measured stands what is stored for the same settings, and the verdict is on that.
        """
        kept = stored(self.name) if not self.settings and self.name in names() else None
        columns = [kept, self] if kept else [self]
        heads = [f"Ours, {len(each.runs)} seeds" for each in columns]
        if kept:
            heads[-1] = f"This build, {len(self.runs)} seeds"
        lines = ["| Claim | Published | " + " | ".join(heads) + " | Verdict |", "|---" * (3 + len(heads)) + "|"]
        for index, c in enumerate(self.claims):
            decides = columns[0].claims[index]
            ours = [each.claims[index].ours for each in columns]
            cells = [c.sentence, c.citation, *ours, f"{decides.verdict} ({decides.condition})"]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def save(self, path: Path) -> None:
        """Write measurements, claims and where they come from as JSON. An existing file is replaced in one step."""
        record = {
            "experiment": self.name,
            "settings": self.settings,
            "seeds": len(self.runs),
            "made": {
                "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "lnorm": lnorm.__version__,
                "code": fingerprint(self.name),
                "python": platform.python_version(),
                "numpy": np.__version__,
                "machine": f"{platform.system()} {platform.machine()}",
            },
            "claims": [
                {**asdict(c), "ours": c.ours, "condition": c.condition, "verdict": c.verdict} for c in self.claims
            ],
            "runs": self.runs,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".tmp")
        text = json.dumps(_plain(record), indent=1, ensure_ascii=False, allow_nan=False)
        text = re.sub(r"\[[^][{}]*\]", lambda row: re.sub(r"\s+", " ", row[0]), text)  # an array's row on one line
        unfinished.write_text(text + "\n", encoding="utf-8")
        unfinished.replace(path)


def run(
    name: str,
    seeds: int = 3,
    workers: int = 1,
    on_done: Callable[[int], None] = lambda finished: None,
    **settings: Any,
) -> Results:
    """Run the experiment ``name`` on seeds 0 … ``seeds`` - 1.

    ``settings`` go to the module's ``run``. With several ``workers``, seeds run in that many processes, one thread
    each. ``on_done`` is called with the number of finished seeds. Raises LookupError for an unknown name.
    """
    module = load(name)
    if seeds < 1:
        raise ValueError(f"seeds: expected at least 1, got {seeds}")
    if workers == 1:
        runs = []
        for seed in range(seeds):
            runs.append(module.run(seed, **settings))
            on_done(seed + 1)
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
            futures = [pool.submit(module.run, seed, **settings) for seed in range(seeds)]
            for finished, _ in enumerate(as_completed(futures), start=1):
                on_done(finished)
            runs = [future.result() for future in futures]
    return Results(name, settings, runs, module.claims(runs))


def fingerprint(name: str) -> str:
    """Return a short hash of the code that measures: the experiment's module and all of the package that it imports."""
    path = load(name).__file__
    assert path is not None  # a module in this package is a file
    found, new = set[Path](), {Path(path)}
    while new:
        found |= new
        new = {other for each in new for other in _imports(each)} - found
    code = [_measuring_code(each) for each in sorted(found)]
    return hashlib.sha256("\n".join(code).encode()).hexdigest()[:12]


@functools.cache
def _imports(path: Path) -> frozenset[Path]:
    """Return the files of the package that a file imports; those that only state and store claims are left out."""
    package = Path(lnorm.__file__).parent
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "lnorm":
            names |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
    bases = [package.parent.joinpath(*name.split(".")) for name in names]
    files = {file for base in bases for file in (base.with_suffix(".py"), base / "__init__.py") if file.exists()}
    machinery = {package / "__init__.py", *(package / "experiments" / f"{each}.py" for each in MACHINERY)}
    return frozenset(files - machinery)


def _measuring_code(path: Path) -> str:
    """Return the lines of a file, less claims, docstrings, comments and blank lines.

    Lines, because what `ast` makes of a program differs between versions of Python.
    """
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.stmt) and (docstring or (isinstance(node, ast.FunctionDef) and node.name == "claims")):
            last = node.end_lineno or node.lineno
            lines[node.lineno - 1 : last] = [""] * (last - node.lineno + 1)
    return "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))


def stored(name: str) -> Results | None:
    """Return what `make results` stored for the experiment, with today's claims on it; None if there is nothing."""
    path = STORED / f"{name}.json"
    if not path.exists():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    runs = [{key: _measured(value) for key, value in each.items()} for each in record["runs"]]
    return Results(name, record["settings"], runs, load(name).claims(runs))


def made(name: str) -> dict[str, str]:
    """Return the date, code and machine of a stored result; empty if there is none."""
    path = STORED / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))["made"] if path.exists() else {}


def _one_thread() -> None:
    """One thread a process: as many processes as cores, and sums in the same order on every machine."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    import torch

    torch.set_num_threads(1)


def _plain(value: Any) -> Any:
    """Turn a record into what JSON can hold: arrays become lists, inf and nan words."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    raise TypeError(f"a measurement of type {type(value).__name__} cannot be stored; return numbers and NumPy arrays")


def _measured(value: Any) -> Any:
    """Turn a stored measurement back into a number or an array; the words inf and nan become numbers again."""
    if isinstance(value, list):
        array = np.array(value)
        return array.astype(float) if array.dtype.kind == "U" else array
    return float(value) if value in ("inf", "-inf", "nan") else value
