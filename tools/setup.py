"""Make .venv with everything that requirements.txt pins. Runs on a bare Python 3.11 to 3.13; `make` calls it by itself.

torch is the one package that needs thought: on Linux its default build brings gigabytes of CUDA libraries. Without an
NVIDIA GPU the CPU build is taken instead, from wherever pip already looks (an index, a mirror, a folder of wheels named
in PIP_FIND_LINKS) or, failing that, from PyTorch's own index, which uv knows.
"""

import json
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements.txt"
LOG = VENV / "install.log"
KATEX = "djangocms-katex==1.0.2"  # has KaTeX 0.16.40, its style and its fonts; of the rest of it nothing is used


def stop(message: str) -> None:
    """End with a message instead of a traceback."""
    sys.exit(f"\nset-up: {message}")


def pip(*arguments: str, show_progress: bool = False) -> bool:
    """Run pip in the environment, its output into a log file; say which package it is at. True if it succeeded."""
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    seen = 0
    with LOG.open("a", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for line in process.stdout or ():
            log.write(line)
            if show_progress and line.startswith("Collecting "):
                seen += 1
                print(f"\r  {seen} packages found, at {line.split()[1][:40]:40}", end="", flush=True)
            elif show_progress and line.startswith("Installing collected"):
                print("\r  all found; unpacking them, about a minute" + " " * 30, end="", flush=True)
    if show_progress:
        print()
    return process.wait() == 0


def reason() -> str:
    """Return the last lines of the log that say what went wrong."""
    errors = [line for line in LOG.read_text(encoding="utf-8").splitlines() if line.startswith("ERROR")]
    return "\n".join(errors[-3:]) or "pip gave no reason"


def torch_build() -> str:
    """Return the version that pip would take for the pinned torch, such as 2.13.0+cpu; empty if it finds none."""
    report = VENV / "torch.json"
    if not pip("--dry-run", "--no-deps", "--ignore-installed", "--report", str(report), torch_pin()):
        return ""
    found: str = json.loads(report.read_text(encoding="utf-8"))["install"][0]["metadata"]["version"]
    return found


def torch_pin() -> str:
    """Return the requirement, such as torch==2.13.0."""
    return re.findall(r"^torch==\S+", REQUIREMENTS.read_text(encoding="utf-8"), re.MULTILINE)[0]


def install_cpu_torch() -> None:
    """On Linux without a GPU, put torch's CPU build in place before pip can choose the CUDA one."""
    needs_choice = platform.system() == "Linux" and platform.machine() == "x86_64" and not shutil.which("nvidia-smi")
    if not needs_choice or torch_build() in ("", torch_pin().removeprefix("torch==") + "+cpu"):
        return  # pip takes the right one by itself, or will say why it finds none
    uv = re.findall(r"^uv==\S+", REQUIREMENTS.read_text(encoding="utf-8"), re.MULTILINE)[0]
    if pip(uv):
        command = [
            str(PYTHON),
            "-m",
            "uv",
            "pip",
            "install",
            "--python",
            str(PYTHON),
            "--torch-backend",
            "cpu",
            torch_pin(),
        ]
        with LOG.open("a", encoding="utf-8") as log:
            if subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT).returncode == 0:
                return
    print(
        "  torch's CPU build is not to be had here; taking the CUDA build, several gigabytes.\n"
        "  To avoid that, stop now, put the +cpu wheel of torch into a folder and set PIP_FIND_LINKS to it."
    )


def main() -> None:
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        stop(f"expected Python 3.11, 3.12 or 3.13, got {platform.python_version()}; try: make book PYTHON=python3.12")
    print("Setting up .venv (once; one to five minutes, mostly downloads)")
    if not PYTHON.exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError:
            shutil.rmtree(VENV, ignore_errors=True)
            stop("this Python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv")
    LOG.write_text("", encoding="utf-8")
    install_cpu_torch()
    if not pip("-r", str(REQUIREMENTS), show_progress=True):
        stop(
            f"pip could not install the requirements. It said:\n{reason()}\n"
            "If there is no network, connect once and run the same command again, or set PIP_INDEX_URL or\n"
            f"PIP_FIND_LINKS to a mirror or a folder of wheels. The whole log: {LOG.relative_to(ROOT)}"
        )
    if not pip("--no-deps", KATEX):
        stop(f"pip could not install {KATEX}, which renders the book's formulas:\n{reason()}")
    if not pip("--no-deps", "--no-build-isolation", "--editable", str(ROOT)):
        stop(f"the package itself could not be installed:\n{reason()}\nThe whole log: {LOG.relative_to(ROOT)}")
    (VENV / "ready").touch()


if __name__ == "__main__":
    main()
