"""The built site on a server of its own, under a sub-path as on GitHub Pages, and visits to it."""

import functools
import gzip
import http.server
import io
import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SUB_PATH = "/some/where/"


def missing(what):
    """A test that cannot run is skipped; where LNORM_BROWSER says "required", as in CI, it fails."""
    (pytest.fail if os.environ.get("LNORM_BROWSER") == "required" else pytest.skip)(what)


class Server(http.server.ThreadingHTTPServer):
    """Serves the site compressed, as hosts do, and remembers what it sent."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(HTML)))
        self.sent = []  # (path, bytes over the wire)
        self.url = f"http://127.0.0.1:{self.server_address[1]}{SUB_PATH}"


class Handler(http.server.SimpleHTTPRequestHandler):
    def translate_path(self, path):
        return super().translate_path("/" + path.removeprefix(SUB_PATH) if path.startswith(SUB_PATH) else "/nowhere")

    def send_head(self):
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            self.send_error(404)
            return None
        body = gzip.compress(path.read_bytes())
        self.server.sent.append((self.path, len(body)))
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return io.BytesIO(body)

    def log_message(self, *args):
        pass


class Visit:
    """A page in a fresh browser, and everything that went wrong or left the site while it was open."""

    def __init__(self, browser, url, width=1280, scheme="light", **settings):
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **settings)
        self.page = self.context.new_page()
        self.errors, self.outside = [], []
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type in {"error", "warning"} else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda r: None if r.url.startswith((url[:17], "data:")) else self.outside.append(r.url))
        self.page.goto(url, wait_until="load")
        self.page.wait_for_load_state("networkidle")

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        self.context.close()
