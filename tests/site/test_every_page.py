"""What every page owes every reader: nothing from elsewhere, no errors, light to load, and usable by everyone."""

import itertools
from urllib.parse import unquote, urldefrag

import pytest
import yaml
from bs4 import BeautifulSoup
from site_helpers import HTML, ROOT

TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
PAGES = [TOC["root"], *(chapter["file"] for part in TOC["parts"] for chapter in part["chapters"])]
EVERY_PAGE = pytest.mark.parametrize("path", [*(f"{page}.html" for page in PAGES), "search.html", "404.html"])

RAW_TEX = r"""() => {
  const text = document.body.cloneNode(true);
  text.querySelectorAll("pre, code, script, style").forEach((each) => each.remove());
  return text.textContent.match(/\\[a-zA-Z]{2,}|\\\(|\$\$|\$\\/g) || [];
}"""
FIGURES = """async () => {
  const images = [...document.querySelectorAll("main img")];
  for (const image of images) { image.loading = "eager"; await image.decode(); }
  return images.map((image) => {
    const style = getComputedStyle(image);
    return {src: image.src, drawn: image.naturalWidth > 0, box: style.backgroundColor + style.filter,
            alt: image.alt.split(" ").length, sized: image.hasAttribute("width") && image.hasAttribute("height")};
  });
}"""


@EVERY_PAGE
def test_axe_finds_nothing_and_nothing_goes_wrong(visit, path):
    from axe_playwright_python.sync_playwright import Axe

    with visit(path) as here:
        assert here.page.evaluate(RAW_TEX) == []
        for figure in here.page.evaluate(FIGURES):
            assert figure["drawn"] and figure["sized"], figure
            assert figure["alt"] >= 12, figure
        for scheme, width in itertools.product(("light", "dark"), (390, 1280)):
            here.page.emulate_media(color_scheme=scheme)
            here.page.set_viewport_size({"width": width, "height": 900})
            assert here.page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
            boxes = here.page.evaluate(f"({FIGURES})().then((all) => all.map((figure) => figure.box))")
            assert set(boxes) <= {"rgba(0, 0, 0, 0)none"}, "figures are drawn for both schemes: no box, no filter"
            # Formulas are there twice; the boxes for the eye are hidden from screen readers, the MathML is examined.
            results = Axe().run(here.page, context={"exclude": [[".katex-html"]]})
            assert results.violations_count == 0, f"{scheme}, {width} px\n{results.generate_report()}"
        assert here.errors == []
        assert here.outside == []


@EVERY_PAGE
def test_a_first_visit_is_light(visit, site, path):
    site.sent.clear()
    with visit(path, width=390):
        assert len(site.sent) <= 15, site.sent
        assert sum(size for _, size in site.sent) <= 250_000, site.sent


@EVERY_PAGE
def test_a_page_says_what_it_is(path):
    page = BeautifulSoup((HTML / path).read_text(), "html.parser")
    assert page.html["lang"] == "en"
    assert len(page.find_all("h1")) == 1
    assert page.title.string.strip()
    assert len(page.find_all("meta", attrs={"name": "viewport"})) == 1
    if path.startswith("book/"):
        assert page.find("meta", attrs={"name": "description"})["content"]


def test_every_link_and_every_file_that_a_page_names_is_there():
    pages = {file: BeautifulSoup(file.read_text(), "html.parser") for file in sorted(HTML.rglob("*.html"))}
    names = {file: {each["id"] for each in page.select("[id]")} for file, page in pages.items()}
    for file, page in pages.items():
        if file.name == "404.html":
            continue
        for each in page.select("[href], [src], form[action]"):
            target, anchor = urldefrag(each.get("href") or each.get("src") or each.get("action"))
            if ":" in target:
                continue
            there = (file.parent / unquote(target)).resolve() if target else file
            assert there.is_file(), f"{file.name}: {target}"
            if anchor and there in names:
                assert unquote(anchor) in names[there], f"{file.name}: {target}#{anchor}"


def test_nothing_is_built_that_no_page_asks_for():
    text = "".join(file.read_text() for file in HTML.rglob("*.html"))
    for file in (HTML / "_static").iterdir():
        assert file.name in text or file.suffix in {".svg", ".png"}, file.name
    assert not list(HTML.rglob("*.woff*"))
