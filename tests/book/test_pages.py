"""What every chapter owes its reader, checked on the text; and what happens when a cell fails."""

import re
from pathlib import Path

import pytest

from lnorm import experiments
from lnorm.checks import ASSIGNMENTS, assignment
from tools import book

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((ROOT / "book").glob("[0-9][0-9]-*.md"))


def prose(text):
    """The words that a reader reads: no front matter, code, formulas, roles or names of directives."""
    text = re.sub(r"^---\n.*?\n---\n", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"```\{[^\n]*\n.*?\n```", "", text, flags=re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$|\$[^$]+\$|\{[\w:]+\}`[^`]*`", "", text, flags=re.DOTALL)
    return re.findall(r"[^\W\d_][\w'’-]*", re.sub(r"^:::.*$", "", text, flags=re.MULTILINE))


def test_there_are_thirteen_chapters():
    assert len(CHAPTERS) == 13


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_has_its_shape(chapter):
    text = chapter.read_text()
    title = re.search(r"^# (.+)$", text, re.MULTILINE)[1]
    assert title.endswith("?"), "a chapter's title is a question"
    for part in ("In this chapter", "Predict", "The popular story, corrected", "What to remember"):
        assert part in text, part
    assert re.findall(r"^## .+$", text, re.MULTILINE)[-2:] == ["## Exercises", "## Further reading"]
    assert 1500 <= len(prose(text)) <= 2600
    remembered = text.split("## What to remember")[1].split("##")[0]
    assert len(re.findall(r"^- ", remembered, re.MULTILINE)) == 5
    assert ".check()" in text, "the build asserts the chapter's claims"


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_a_chapter_names_every_exercise_of_its_assignment(name):
    page, heading = ("capstone", "## Your turn") if name == "14-capstone" else (name, "## Exercises")
    text = (ROOT / "book" / f"{page}.md").read_text().split(heading)[1].split("\n## ")[0]
    assert f"`jupyter lab exercises/{name}`" in text
    for exercise in assignment(name):
        assert re.search(rf"`{exercise.name}\b", text), f"{exercise.name} is not named"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_every_figure_says_what_it_shows(chapter):
    for cell in re.findall(r"```\{code-cell\}[^\n]*\n(.*?)\n```", chapter.read_text(), re.DOTALL):
        if "figure(" in cell and "import" not in cell:
            alt = re.search(r"alt: >-\n(.*?)\n  \w|alt: >-\n(.*?)\n---", cell, re.DOTALL)
            assert alt, f"no alternative text: {cell[:80]}"
            assert len((alt[1] or alt[2]).split()) >= 12
            assert "caption:" in cell


@pytest.mark.parametrize("page", sorted((ROOT / "book").glob("*.md")), ids=lambda path: path.stem)
def test_no_line_of_prose_is_taken_for_a_comment_or_a_cell_break(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert not re.findall(r"^(?:%|\+ ).*", text, re.MULTILINE)


@pytest.mark.parametrize("page", sorted((ROOT / "book").glob("*.md")), ids=lambda path: path.stem)
def test_every_citation_is_in_the_bibliography(page):
    keys = set(re.findall(r"^@\w+\{([\w-]+),", (ROOT / "book" / "references.bib").read_text(), re.MULTILINE))
    for group in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", page.read_text()):
        assert {key.strip() for key in group.split(",")} <= keys


def test_every_entry_of_the_bibliography_is_cited():
    cited = {
        key.strip()
        for page in (ROOT / "book").glob("*.md")
        for group in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", page.read_text())
        for key in group.split(",")
    }
    for name in experiments.names():
        cited |= {claim.source for claim in (experiments.stored(name) or experiments.run(name, seeds=1)).claims}
    keys = set(re.findall(r"^@\w+\{([\w-]+),", (ROOT / "book" / "references.bib").read_text(), re.MULTILINE))
    assert keys - cited == set()


NOTEBOOK = """---
jupytext:
  text_representation: {{extension: .md, format_name: myst}}
kernelspec: {{display_name: Python 3, language: python, name: python3}}
---

# A page

```{{code-cell}} ipython3
x = 1
```

```{{code-cell}} ipython3
{cell}
```
"""


def test_a_failing_cell_stops_the_build_and_is_named(tmp_path):
    (tmp_path / "09-broken.md").write_text(NOTEBOOK.format(cell="1 / 0"))
    with pytest.raises(book.CellFailedError, match=r"09-broken.md, code cell 2 of 2 failed") as failure:
        book.execute_changed("package", tmp_path, tmp_path / "cache")
    assert "ZeroDivisionError" in str(failure.value)


def test_an_unchanged_chapter_is_not_executed_again_and_a_changed_package_executes_all(tmp_path):
    counter = tmp_path / "counter"
    cell = f"open({str(counter)!r}, 'a').write('x')"
    chapter = tmp_path / "09-counted.md"
    chapter.write_text(NOTEBOOK.format(cell=cell))

    def executions():
        book.execute_changed(package, tmp_path, tmp_path / "cache")
        return len(counter.read_text())

    package = "one"
    assert executions() == 1
    assert executions() == 1
    chapter.write_text(chapter.read_text().replace("# A page", "# Another title\n\nMore prose."))
    assert executions() == 1
    chapter.write_text(chapter.read_text().replace("x = 1", "x = 2"))
    assert executions() == 2
    package = "two"
    assert executions() == 3
