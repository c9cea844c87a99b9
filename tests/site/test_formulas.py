"""Formulas become HTML at build time."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "book" / "_ext"))


def test_a_formula_is_written_for_the_eye_and_as_mathml_without_its_source():
    from formulas import to_html

    html = to_html(r"\frac{x - \mu}{\sqrt{\mathrm{var} + \varepsilon}}", True)
    assert 'class="katex-display"' in html
    assert "<mfrac>" in html and "<msqrt>" in html
    assert 'aria-hidden="true"' in html
    assert "\\" not in html


def test_what_katex_cannot_read_is_an_error_that_says_where():
    import quickjs
    from formulas import to_html

    with pytest.raises(quickjs.JSException, match=r"Undefined control sequence: \\nosuch at position 5"):
        to_html(r"x + \nosuch{y}", False)


def test_environments_that_would_number_themselves_do_not():
    from formulas import to_html

    assert "eqn-num" not in to_html("\\begin{align}a &= b\\\\ c &= d\\end{align}", True)
