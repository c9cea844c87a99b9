"""Counts the cases of other projects that the conformance tests ran, prints them, and compares them with the README."""

import textwrap
from collections import Counter, defaultdict
from contextlib import contextmanager
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"


class Tally:
    """How many cases of each kind were run and passed, in which tests, and which cases were left out and why."""

    def __init__(self):
        self.total = Counter()
        self.passed = Counter()
        self.tests = defaultdict(set)
        self.excluded = defaultdict(list)

    def exclude(self, name, reason):
        self.excluded[reason].append(name)

    def counts(self, kind):
        return f"{self.passed[kind]} of {self.total[kind]} {kind}"

    def check_readme(self, kind, tests):
        """Require the README to tell what was counted for ``kind``; skip if not all of its ``tests`` were run."""
        if len(self.tests[kind]) < tests:
            pytest.skip(f"only {len(self.tests[kind])} of the {tests} tests that count {kind} were run")
        line = next(each for each in README.read_text().splitlines() if each.startswith("Conformance: "))
        assert self.counts(kind) in line
        assert self.passed[kind] == self.total[kind] > 0


TALLY = pytest.StashKey[Tally]()


def pytest_configure(config):
    config.stash[TALLY] = Tally()


@pytest.fixture(scope="session")
def tally(pytestconfig):
    return pytestconfig.stash[TALLY]


@pytest.fixture
def case(tally, subtests, request):
    """``with case(kind, name):`` is one case. A failing one is reported by name, and the next one is run."""

    @contextmanager
    def run(kind, name):
        tally.tests[kind].add(request.node.nodeid)
        tally.total[kind] += 1
        with subtests.test(name):
            yield
            tally.passed[kind] += 1

    return run


def pytest_terminal_summary(terminalreporter, config):
    tally = config.stash[TALLY]
    if not tally.total:
        return
    terminalreporter.section("conformance")
    for kind in tally.total:
        terminalreporter.line(tally.counts(kind))
    for reason, names in tally.excluded.items():
        terminalreporter.line(f"left out, {len(names)}: {reason}")
        indent = {"initial_indent": "    ", "subsequent_indent": "    "}
        terminalreporter.line(textwrap.fill(", ".join(names), width=120, break_on_hyphens=False, **indent))
