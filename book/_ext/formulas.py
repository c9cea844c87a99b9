"""Formulas become HTML when the book is built, so that a page needs no script, and no network, to show them.

KaTeX runs in QuickJS. Every formula is written twice: as boxes for the eye, and as MathML, which screen readers read.
"""

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

import quickjs
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

# KaTeX's script, style and fonts; no other wheel has all three. tools/setup.py installs it without its dependencies.
KATEX = files("djangocms_katex").joinpath("static/djangocms_katex/vendor/katex")
logger = logging.getLogger(__name__)


@cache
def _katex() -> quickjs.Context:
    context = quickjs.Context()
    context.eval(KATEX.joinpath("katex.min.js").read_text(encoding="utf-8"))
    # Through JSON, because QuickJS cannot hand over a string that it has not yet joined from its parts.
    context.eval("const render = (tex, options) => JSON.stringify(katex.renderToString(tex, options))")
    return context


@cache
def to_html(tex: str, display: bool) -> str:
    """Return the HTML of a formula. Raises quickjs.JSException, which says what KaTeX does not understand."""
    tex = re.sub(r"\\(begin|end)\{(align|gather|equation)\}", r"\\\1{\2*}", tex)  # Sphinx numbers equations, not KaTeX
    options = {"displayMode": display, "throwOnError": True, "strict": "ignore"}
    html: str = json.loads(_katex().eval(f"render({json.dumps(tex)}, {json.dumps(options)})"))
    return re.sub(r"<annotation.*?</annotation>", "", html, flags=re.DOTALL)


def _html_of(node: Any, display: bool) -> str:
    try:
        return to_html(node.astext(), display)
    except quickjs.JSException as error:
        message = str(error).splitlines()[0]
        logger.warning("KaTeX cannot read the formula %r: %s", node.astext(), message, location=node)
        return f"<code>{node.astext()}</code>"


def visit_inline(self: Any, node: nodes.math) -> None:
    """Write a formula that stands in a line of text."""
    self.body.append(_html_of(node, display=False))
    raise nodes.SkipNode


def visit_display(self: Any, node: nodes.math_block) -> None:
    """Write a formula that stands alone, with its number if it has one."""
    self.body.append(self.starttag(node, "div", CLASS="equation"))
    self.body.append(f'<div class="scrolls">{_html_of(node, display=True)}</div>')
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Make this the way in which HTML pages get their formulas."""
    app.add_html_math_renderer("katex", (visit_inline, None), (visit_display, None))
    app.connect("config-inited", lambda _, config: setattr(config, "html_math_renderer", "katex"))
    return {"parallel_read_safe": True, "parallel_write_safe": False}
