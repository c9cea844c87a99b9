"""Write requirements.txt: every package of pyproject.toml, pinned, for Python 3.11 to 3.13 on any system.

The CUDA packages are left out on purpose. On Linux, torch's default build asks for them by exact version itself,
so whoever installs that build still gets the right ones, and whoever installs the CPU build gets none.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CUDA_ONLY = re.compile(r"^((?:nvidia|cuda)-[\w-]+|triton)==", re.MULTILINE)

HEAD = """\
# Everything that the build, the tests and the grading need, pinned. Generated from pyproject.toml:
#     make lock        (tools/lock.py, which runs `uv pip compile`)
# Install with plain pip. torch's CPU build (2.13.0+cpu) satisfies the pin and is preferred wherever pip can see it;
# `make` looks for it by itself (tools/setup.py). CUDA packages are not listed: torch's CUDA build asks for its own.
"""


def resolve(*options: str) -> str:
    """Return uv's universal resolution of all extras, as the text of a requirements file."""
    command = ["uv", "pip", "compile", "pyproject.toml", "--all-extras", "--universal", "--fork-strategy", "fewest"]
    command += ["--no-header", "--no-annotate", "--quiet", *options]
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def main() -> None:
    gpu_only = CUDA_ONLY.findall(resolve())
    pins = resolve(*(f"--no-emit-package={name}" for name in gpu_only))
    (ROOT / "requirements.txt").write_text(HEAD + pins)
    print(f"requirements.txt: {len(pins.splitlines())} packages pinned, {len(gpu_only)} CUDA-only ones left to torch")


if __name__ == "__main__":
    main()
