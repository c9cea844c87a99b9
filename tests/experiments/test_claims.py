"""Every experiment makes claims, and a published number names its source. The book's build runs and checks them."""

import re
from pathlib import Path

import pytest

from lnorm import experiments

BOOK = Path(__file__).resolve().parents[2] / "book"


@pytest.mark.parametrize("name", experiments.names())
def test_claims_are_sourced(name):
    claims = experiments.stored(name).claims
    assert len(claims) >= 3
    assert len({claim.sentence for claim in claims}) == len(claims), "a sentence stands for one claim"
    for claim in claims:
        assert claim.source or claim.where or claim.published == "–", "a published number needs its source"


@pytest.mark.parametrize("name", experiments.names())
def test_a_page_runs_the_experiment_and_stops_the_build_if_a_claim_fails(name):
    cells = [
        cell
        for page in BOOK.glob("*.md")
        for cell in re.findall(r"```\{code-cell\}.*?\n```", page.read_text(), re.DOTALL)
    ]
    runs = [found[1] for cell in cells for found in re.finditer(rf'(\w+) = run\("{name}"', cell)]
    assert runs, f"no page runs {name}"
    assert any(f"{run}.check()" in cell for run in runs for cell in cells)
