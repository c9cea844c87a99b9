"""Build the site: execute the chapters that changed, several at once, then render everything with Jupyter Book.

A chapter's outputs are kept in _build/.jupyter_cache under a hash of its code cells, so that changed prose costs no
execution. Outputs also depend on the package: when its code or the pinned versions change, the whole cache goes.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
CACHE = ROOT / "_build" / ".jupyter_cache"
READER = {"name": "myst_nb_md", "type": "plugin"}
CHAPTER_SECONDS = 600


class CellFailedError(Exception):
    """A cell of a chapter raised an error; the message names both."""


def fingerprint() -> str:
    """Return a hash of all that the chapters' outputs depend on besides their own code."""
    package = [path for kind in ("py", "toml", "json") for path in sorted((ROOT / "lnorm").rglob(f"*.{kind}"))]
    files = [*package, ROOT / "requirements.txt"]
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def fingerprint_of_frame() -> str:
    """Return a hash of what every page depends on besides its own text: Sphinx looks at that text alone."""
    folders = (BOOK / name for name in ("_ext", "_static", "_templates"))
    files = [
        ROOT / "_config.yml",
        ROOT / "_toc.yml",
        *(file for folder in folders for file in sorted(folder.glob("*.*"))),
    ]
    digest = hashlib.sha256(os.environ.get("SITE_URL", "").encode())
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def execute(cache: Any, record: Any) -> float:
    """Run one chapter in a kernel of its own and store its outputs; return the seconds it took."""
    from jupyter_cache.executors.utils import create_cache_bundle, single_nb_execution

    chapter = cache.get_project_notebook(record.pk)
    result = single_nb_execution(
        chapter.nb,
        cwd=str(Path(record.uri).parent),
        timeout=CHAPTER_SECONDS,
        allow_errors=False,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
    )
    if result.err:
        code_cells = [cell for cell in chapter.nb.cells if cell.cell_type == "code"]
        failed = next((n for n, cell in enumerate(code_cells, 1) if _has_error(cell)), len(code_cells))
        raise CellFailedError(
            f"{Path(record.uri).name}, code cell {failed} of {len(code_cells)} failed:\n\n{result.err}"
        )
    cache.cache_notebook_bundle(
        create_cache_bundle(chapter, None, None, result.time, None), check_validity=False, overwrite=True
    )
    return float(result.time)


def _has_error(cell: Any) -> bool:
    return any(output.output_type == "error" for output in cell.outputs)


def execute_changed(package: str, book: Path = BOOK, kept: Path = CACHE) -> None:
    """Execute every chapter of ``book`` whose outputs, made with this state of the package, are not in ``kept``."""
    from jupyter_cache import get_cache
    from myst_nb.core.read import is_myst_markdown_notebook

    made_with = kept / "package.sha256"
    if not made_with.exists() or made_with.read_text() != package:
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        made_with.write_text(package)
    cache = get_cache(str(kept))
    for chapter in sorted(book.glob("*.md")):
        if is_myst_markdown_notebook(chapter.read_text(encoding="utf-8")):
            cache.add_nb_to_project(str(chapter), read_data=READER)
    waiting = [record for record in cache.list_unexecuted() if Path(record.uri).exists()]

    workers = os.cpu_count() or 1
    if waiting:
        print(f"Executing {len(waiting)} chapter(s), {min(workers, len(waiting))} at a time", flush=True)
    with ThreadPoolExecutor(workers) as pool:
        running = {pool.submit(execute, cache, record): Path(record.uri).stem for record in waiting}
        for done, future in enumerate(as_completed(running), 1):
            try:
                print(f"  {done}/{len(waiting)} {running[future]}: {future.result():.0f} s", flush=True)
            except CellFailedError:
                pool.shutdown(cancel_futures=True)
                raise


def main() -> None:
    # One thread a kernel: as many kernels as cores run at once, and sums come out the same on every machine.
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    start = time.monotonic()
    package = fingerprint()
    try:
        execute_changed(package)
    except CellFailedError as error:
        sys.exit(f"book: {error}")
    print("Rendering", flush=True)
    rendered_with = ROOT / "_build" / "rendered.sha256"  # Sphinx itself does not see that outputs changed
    made_of = package + fingerprint_of_frame()
    rebuild = not rendered_with.exists() or rendered_with.read_text() != made_of
    if rebuild:
        shutil.rmtree(ROOT / "_build" / "html", ignore_errors=True)  # no page stays that nothing makes any more
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    command = [str(jupyter_book), "build", str(ROOT), "-W", "--keep-going", "--quiet", *(["--all"] if rebuild else [])]
    rendered = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if rendered.returncode:
        sys.exit(f"book: Jupyter Book stopped; warnings count as errors.\n{rendered.stdout}\n{rendered.stderr}")
    rendered_with.write_text(made_of)
    print(f"The site is in _build/html, open _build/html/index.html ({time.monotonic() - start:.0f} s)")


if __name__ == "__main__":
    main()
