"""The pages of the site: small, complete, and usable by everyone. The frame around them is `_templates/layout.html`.

As a page is written, what the theme and the notebooks leave in its text is put right. When all are written, the
formulas' fonts are cut down to the glyphs in use, and everything that no page asks for is deleted.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup
from sphinx.application import Sphinx
from styles import code_colours, formula_style

OURS = Path(__file__).parent.parent / "_static"
FROM_SPHINX = {"documentation_options.js", "doctools.js", "searchtools.js", "language_data.js"}  # for the search page
MOTTO = "a course whose every claim is an experiment"
PIXELS = {"": 1.0, "px": 1.0, "pt": 4 / 3, "in": 96.0}


def clean(body: str, images: dict[str, Path]) -> str:
    """Return the text of a page with what readers, keyboards and screen readers need; ``images`` has files by name."""
    page: Any = BeautifulSoup(body, "html.parser")
    for image in page.find_all("img"):
        file = images.get(image["src"].rsplit("/", 1)[-1])
        if file and file.suffix == ".svg":
            head = file.read_text(encoding="utf-8")[:2000]
            sides = [re.search(rf'<svg[^>]*?\s{side}="([\d.]+)(\w*)"', head) for side in ("width", "height")]
            image["width"], image["height"] = (round(float(side[1]) * PIXELS[side[2]]) for side in sides if side)
            if int(image["width"]) > 600:  # text would be too small on a phone: scroll instead
                image.wrap(page.new_tag("div", attrs={"class": "scrolls wide"}))
        image["loading"], image["decoding"] = "lazy", "async"
    for summary in page.find_all("summary"):
        hidden_code = "hide" in summary.parent.get("class", [])
        text = "Code" if hidden_code else summary.get_text(" ", strip=True)
        summary.attrs = {}
        summary.string = text
        summary.parent["class"] = "code" if hidden_code else "more"
    for box in page.select("div.pst-scrollable-table-container"):
        box["class"] = "scrolls"
    for head in page.find_all("th"):
        if not head.get_text(strip=True):
            head.name = "td"  # the empty corner of a table is no heading
    for table in page.find_all("table"):
        as_cards(table)
    for block in page.select("div.highlight"):
        block["class"] = "highlight scrolls"
    for entry in page.select("[role=doc-biblioentry]"):
        entry["role"] = "listitem"  # the list is there; the old role is deprecated and is not allowed in it
    for link in page.select("a.external"):
        link["rel"] = "noopener"
    return str(page)


def as_cards(table: Any) -> None:
    """Prepare a wide table to be shown as cards on a phone: each cell knows its heading, and keeps its role."""
    heads = [cell.get_text(" ", strip=True) for cell in table.select("thead tr > *")]
    if len(heads) < 4:
        return
    table["class"] = "table cards"
    table["role"] = "table"
    for part, role in (("thead, tbody", "rowgroup"), ("tr", "row"), ("th", "columnheader"), ("td", "cell")):
        for each in table.select(part):
            each["role"] = role
    for row in table.select("tbody tr"):
        for head, cell in zip(heads, row.find_all("td", recursive=False), strict=False):
            cell["data-head"] = head


def description(body: str) -> str:
    """Return the page's first paragraphs of prose, at most about 160 characters."""
    page = BeautifulSoup(body, "html.parser")
    for formula in page.select(".katex, .admonition"):
        formula.extract()
    text = re.sub(r"\s+", " ", " ".join(p.get_text() for p in page.find_all("p", limit=3))).strip()
    return text if len(text) <= 160 else text[:157].rsplit(" ", 1)[0] + " …"


def numbered(contents: str, page: str) -> str:
    """Write the chapters' numbers, which are in their files' names, before their titles in the table of contents."""

    def with_number(link: re.Match[str]) -> str:
        number = re.match(r"(?:.*/)?(\d\d)-", page if link[1] == "#" else link[1])
        return f'{link[0]}<span class="number">{int(number[1])}</span> ' if number else link[0]

    contents = re.sub(r'<a class="[^"]*" href="([^"]*)">', with_number, contents)
    contents = re.sub(r'<p[^>]*class="caption"[^>]*>(.*?)</p>', r"<h2>\1</h2>", contents)
    return contents.replace('<a class="current', '<a aria-current="page" class="current')


def add_to_page(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Give the template what it shows."""
    number = re.match(r"book/(\d\d)-", page)
    context["html_baseurl"] = app.config.html_baseurl or ""
    context["chapter"] = int(number[1]) if number else None
    if body := context.get("body"):
        images = {name: Path(app.srcdir) / file for file, name in app.builder.images.items()}
        context["description"] = description(body)
        context["body"] = clean(body, images)
        context["has_formulas"] = 'class="katex' in body
    toctree = context.get("toctree")
    context["contents"] = numbered(toctree(collapse=True, maxdepth=1, titles_only=True), page) if toctree else ""


def finish(app: Sphinx, error: Exception | None) -> None:
    """Write the shared styles, delete what no page uses, and tell search engines where the pages are."""
    if error or app.builder.name != "html":
        return
    out = Path(app.outdir)
    static = out / "_static"
    pages = [file for file in sorted(out.rglob("*.html")) if static not in file.parents]
    text = "".join(file.read_text(encoding="utf-8") for file in pages)
    (static / "formulas.css").write_text(formula_style(text), encoding="utf-8")
    site = (OURS / "site.css").read_text(encoding="utf-8")
    (static / "site.css").write_text(site + code_colours(), encoding="utf-8")
    own = {path.name for path in OURS.iterdir()}
    for path in static.iterdir():
        if path.name not in own | FROM_SPHINX | {"formulas.css"}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (out / ".nojekyll").touch()  # GitHub Pages would drop folders whose names begin with an underscore
    if base := app.config.html_baseurl:
        names = [file.relative_to(out).as_posix() for file in pages if file.parent.name == "book"]
        lines = [f"<url><loc>{base}{name}</loc></url>" for name in names]
        head = '<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
        (out / "sitemap.xml").write_text(head + "\n".join(lines) + "\n</urlset>\n", encoding="utf-8")
        preview(static / "preview.png")


def preview(file: Path) -> None:
    """Draw the picture that other sites show beside a link to this one: its name and its promise."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(12, 6.3), facecolor="white")
    for y, size, text in ((0.6, 72, "lnorm"), (0.42, 30, "normalization in deep learning"), (0.24, 22, MOTTO)):
        picture.text(0.5, y, text, ha="center", size=size, color="#00694d" if size > 50 else "#1d2329")
    picture.savefig(file, dpi=100)


def configure(app: Sphinx, config: Any) -> None:
    """Where the site will be published is known to whoever publishes it: canonical addresses are written then."""
    if base := os.environ.get("SITE_URL") or config.html_baseurl:
        config.html_baseurl = base.rstrip("/") + "/"
    config.html_additional_pages = {"404": "404.html"}
    config.html_copy_source = False
    config.html_use_index = False


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the steps to the build."""
    app.connect("config-inited", configure)
    app.connect("html-page-context", add_to_page, priority=900)
    app.connect("build-finished", finish, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
