"""Using the site: by keyboard, from the disk, without scripts, on paper, and looking for something."""

import pytest

CHAPTER = "book/03-layer-norm.html"
BOXES = "document.querySelectorAll('.katex-html .base').length"


def test_formulas_are_there_for_the_eye_and_for_screen_readers(visit):
    with visit(CHAPTER) as here:
        formulas, read, hidden = here.page.evaluate(
            "['.katex', '.katex-mathml math', '.katex-html[aria-hidden=true]']"
            ".map((each) => document.querySelectorAll(each).length)"
        )
        assert formulas == read == hidden > 80
        here.page.evaluate("document.fonts.ready")
        assert here.page.evaluate("[...document.fonts].filter((font) => font.status === 'error').length") == 0
        fonts = "['KaTeX_Main', 'KaTeX_Math', 'KaTeX_Size2'].every((font) => document.fonts.check(`16px ${font}`, '∑'))"
        assert here.page.evaluate(fonts)


def test_a_reference_to_an_equation_leads_to_it_and_shows_its_number(visit):
    with visit(CHAPTER) as here:
        link = here.page.locator("a.reference[href='#equation-eq-ln-backward']").first
        number = link.inner_text()
        link.click()
        equation = here.page.locator("#equation-eq-ln-backward")
        assert equation.locator(".eqno").inner_text().startswith(number)
        header = here.page.locator("header").bounding_box()
        assert equation.bounding_box()["y"] >= header["height"] - 1, "the header hides the equation"


@pytest.mark.parametrize("width", [390, 1280])
def test_the_keyboard_reaches_the_text_and_everything_that_scrolls(visit, width):
    with visit(CHAPTER, width=width) as here:
        here.page.keyboard.press("Tab")
        assert here.page.evaluate("document.activeElement.className") == "skip"
        here.page.keyboard.press("Enter")
        assert here.page.evaluate("document.activeElement.id") == "text"
        unreachable = here.page.evaluate(
            "[...document.querySelectorAll('.scrolls')].filter((box) => "
            "(box.scrollWidth > box.clientWidth + 1) !== (box.tabIndex === 0)).map((box) => box.textContent)"
        )
        assert unreachable == []


def test_light_and_dark_are_chosen_by_keyboard_and_remembered(visit):
    with visit(CHAPTER, scheme="light") as here:
        page = here.page
        colour = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(colour)
        page.locator("#scheme").focus()
        page.keyboard.press("Enter")
        dark = page.evaluate(colour)
        assert light == "rgb(255, 255, 255)" != dark
        assert page.locator("#scheme").inner_text() == "Light"
        page.reload()
        assert page.evaluate(colour) == dark
        page.locator("#scheme").press("Space")
        assert page.evaluate(colour) == light


def test_search_finds_words_in_text_and_code(visit):
    with visit("book/index.html") as here:
        here.page.locator("header input").fill("hyperplane")
        here.page.keyboard.press("Enter")
        here.page.locator("#search-results a", has_text="LayerNorm").first.wait_for()
        here.page.goto(here.page.url.replace("hyperplane", "layer_norm_backward"))
        here.page.locator("#search-results a", has_text="LayerNorm").first.wait_for()
        assert here.errors == []


def test_a_page_from_the_disk_has_text_formulas_and_figures(visit_file):
    with visit_file(CHAPTER) as here:
        assert here.page.evaluate(BOXES) > 80
        assert here.page.evaluate("[...document.fonts].some((font) => font.status === 'loaded')")
        image = here.page.locator("main img").first
        image.scroll_into_view_if_needed()
        assert image.evaluate("async (image) => { await image.decode(); return image.naturalWidth }") > 0
        assert here.errors == []


def test_without_scripts_nothing_of_the_content_is_missing(visit):
    with visit(CHAPTER, java_script_enabled=False) as here:
        assert here.page.locator("#contents a").count() > 5
        assert here.page.locator("#scheme").is_hidden()
        here.page.locator("summary", has_text="If you chose another answer").click()
        assert here.page.locator("details.more[open] p").first.is_visible()
        assert here.page.locator(".katex").first.is_visible()


def test_paper_shows_the_text_alone_and_what_was_folded(visit):
    with visit(CHAPTER, scheme="dark") as here:
        here.page.emulate_media(media="print")
        here.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert here.page.locator("header").is_hidden()
        assert here.page.locator("details:not([open])").count() == 0
        assert here.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert here.page.pdf()[:4] == b"%PDF"
