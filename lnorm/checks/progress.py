"""What a student has done so far: .lnorm/progress.json in the folder where they work."""

import json
import os
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from lnorm.checks.notebook import Result

FILE = Path(".lnorm", "progress.json")


def load(file: Path = FILE) -> dict[str, Any]:
    """Return what is remembered by assignment; nothing if there is no file or it cannot be read."""
    try:
        remembered = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return remembered if isinstance(remembered, dict) else {}


def remember(name: str, results: Sequence[Result], file: Path = FILE) -> dict[str, int]:
    """Add the results of an assignment to the file; return how often each exercise has failed since it last passed.

    An exercise that was not started yet has not failed.
    """
    remembered = load(file)
    before = remembered.get(name, {}).get("exercises", {})
    failed = {}
    for each in results:
        tries = before.get(each.name, {}).get("failed", 0)
        failed[each.name] = 0 if each.points == each.possible else tries + each.started
    remembered[name] = {
        "points": sum(each.points for each in results),
        "possible": sum(each.possible for each in results),
        "checked": datetime.now().astimezone().isoformat(timespec="seconds"),
        "exercises": {
            each.name: {"points": each.points, "possible": each.possible, "failed": failed[each.name]}
            for each in results
        },
    }
    _write(file, json.dumps(remembered, indent=2) + "\n")
    return failed


def _write(file: Path, text: str) -> None:
    """Write all or nothing: a file that was half-written would lose what is remembered."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=file.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        Path(scratch).replace(file)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
