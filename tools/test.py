"""Run everything that CI runs, one step after the other, and say at the end what passed.

Tests that are not slow come first among pytest's, so that a mistake shows early. The book is built late, its chapters
executed only if `make book` has not done so already; the tests that look at the finished site with a browser come last.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTEST = ["pytest", "--quiet", "--no-header"]
STEPS = {
    "format": ["ruff", "format", "--check", "--quiet", "."],
    "style": ["ruff", "check", "--quiet", "."],
    "types": ["mypy"],
    "quick tests": [*PYTEST, "-m", "not slow", "tests"],
    "slow tests": [*PYTEST, "-m", "slow and not site", "--durations=10", "tests"],
    "solution notebooks": [*PYTEST, "--nbval", "solutions"],
    "book": ["tools.book"],
    "site": [*PYTEST, "-m", "site", "tests/site"],
}


def main() -> None:
    # Let tests find nbgrader's helpers by name, as in an activated environment.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    seconds: dict[str, float] = {}
    failed: list[str] = []
    for name, command in STEPS.items():
        print(f"\n== {name}", flush=True)
        start = time.monotonic()
        if subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment).returncode:
            failed.append(name)
        seconds[name] = time.monotonic() - start
    print()
    for name, took in seconds.items():
        print(f"{'FAILED' if name in failed else 'passed'}  {name} ({took:.0f} s)")
    print(f"{len(STEPS) - len(failed)} passed, {len(failed)} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
