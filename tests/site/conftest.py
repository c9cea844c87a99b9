"""A server for the built site, a browser, and ways to visit a page."""

import threading

import pytest
from site_helpers import CHROMIUM, HTML, Server, Visit, missing


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/site" in str(item.path):
            item.add_marker(pytest.mark.site)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def site():
    if not (HTML / "index.html").exists():
        missing("there is no site to test: run `make book` first")
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        missing("no Chromium or Chrome is installed; on Debian and Ubuntu: apt install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def visit(browser, site):
    """``visit("book/index.html", width=390)`` opens a page of the served site."""
    return lambda path, **settings: Visit(browser, site.url + path, **settings)


@pytest.fixture
def visit_file(browser, site):
    """The same from the disk, as after unpacking a download."""
    return lambda path, **settings: Visit(browser, (HTML / path).as_uri(), **settings)
