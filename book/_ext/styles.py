"""The styles that are computed from what the pages show: of formulas, with their fonts, and of highlighted code."""

import base64
import io
import logging
import re

from fontTools import subset
from fontTools.ttLib import TTFont
from formulas import KATEX
from pygments.styles import get_style_by_name
from pygments.token import STANDARD_TYPES


def code_colours() -> str:
    """Return the style of highlighted code, with one colour for light pages and one for dark ones."""
    light, dark = (get_style_by_name(f"a11y-high-contrast-{scheme}") for scheme in ("light", "dark"))
    names: dict[str, list[str]] = {}
    for token, name in STANDARD_TYPES.items():
        colours = [style.style_for_token(token)["color"] for style in (light, dark)]
        if name and all(colours):
            names.setdefault("#{}, #{}".format(*colours), []).append(f".{name}")
    return "".join(
        f".highlight :is({', '.join(each)}) {{ color: light-dark({colours}); }}\n" for colours, each in names.items()
    )


def formula_style(pages: str) -> str:
    """Return KaTeX's style with those of its fonts, and of their glyphs, that the text of the ``pages`` uses."""
    style = KATEX.joinpath("katex.min.css").read_text(encoding="utf-8")
    faces = re.findall(r"@font-face\{[^}]*\}", style)
    rules = re.sub(r"@font-face\{[^}]*\}", "", style)
    glyphs: dict[str, set[str]] = {}  # by name of the font's file
    everything = set("".join(re.findall(r'class="katex-html".*?(?=<math|</p>|</div>\n|</td>)', pages, re.DOTALL)))
    for selectors, settings in re.findall(r"([^{}]+)\{([^{}]*KaTeX_[^{}]*)\}", rules):
        family = re.search(r"KaTeX_\w+", settings)[0]  # type: ignore[index]
        variant = ("Bold" if "weight:700" in settings else "") + ("Italic" if "style:italic" in settings else "")
        for name in re.findall(r"\.([\w-]+)(?:>span)?(?:,|$)", selectors):
            inner = re.findall(rf'<span class="[^"]*\b{name}\b[^"]*"[^>]*>(?:<span>)?([^<]*)<', pages)
            used = everything if name == "katex" else set("".join(inner))
            glyphs.setdefault(f"{family}-{variant or 'Regular'}", set()).update(used)
    kept = []
    for face in faces:
        name = re.search(r"KaTeX_\w+-\w+", face)[0]  # type: ignore[index]
        if glyphs.get(name):
            data = base64.b64encode(subset_font(KATEX.joinpath(f"fonts/{name}.woff2").read_bytes(), glyphs[name]))
            source = f'src:url(data:font/woff2;base64,{data.decode()}) format("woff2")'
            kept.append(re.sub(r"src:[^}]*", source, face))
    return "".join(kept) + rules


def subset_font(font: bytes, glyphs: set[str]) -> bytes:
    """Return a WOFF2 font with these glyphs only, its copyright and licence still in it."""
    logging.getLogger("fontTools.subset").setLevel(logging.WARNING)
    options = subset.Options(flavor="woff2", name_IDs=[0, 13, 14], notdef_outline=False, hinting=False)
    cut, file = TTFont(io.BytesIO(font), recalcTimestamp=False), io.BytesIO()
    subsetter = subset.Subsetter(options)
    subsetter.populate(text="".join(glyphs))
    subsetter.subset(cut)
    cut.flavor = "woff2"
    cut.save(file)
    return file.getvalue()
