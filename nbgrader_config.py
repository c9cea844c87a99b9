"""nbgrader's configuration: solutions/ is its source, exercises/ its release. Read by every `nbgrader` command here."""

import os
import secrets
import sys
from pathlib import Path

c = get_config()  # noqa: F821  (nbgrader puts it there)

c.CourseDirectory.course_id = "lnorm"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "exercises"
c.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", ".pytest_cache", "*.md"]

c.ClearSolutions.code_stub = {"python": "raise NotImplementedError  # replace this line with your code"}
c.HTMLExporter.sanitize_html = True  # a student's output must not run as a script in a reader's browser
c.ExecutePreprocessor.timeout = 60  # seconds a cell
c.Execute.extra_arguments = ["--IPKernelApp.log_level=ERROR"]

# The graded cases are drawn from a secret that this course alone knows; it is made when it is first needed.
if "autograde" in sys.argv and "LNORM_GRADING_SEED" not in os.environ:
    seed_file = Path(__file__).parent / ".grading-seed"
    if not seed_file.exists() or not seed_file.stat().st_size:  # empty: stopped between the next two lines
        seed_file.touch(mode=0o600)
        seed_file.write_text(secrets.token_hex(16))
    os.environ["LNORM_GRADING_SEED"] = seed_file.read_text()
