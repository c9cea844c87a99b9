"""The ledger: all rows are there, their evidence exists and holds, and each experiment has its place in the book."""

import re
from pathlib import Path

import pytest

from lnorm import experiments
from lnorm.experiments.claim import Claim
from lnorm.experiments.ledger import Ledger, Row, ledger

BOOK = Path(__file__).resolve().parents[2] / "book"


def test_sixty_four_rows_each_with_a_verdict_and_evidence_that_holds():
    book = ledger()
    assert len(book.rows) == 64
    assert {row.verdict for row in book.rows} == {"holds", "holds when", "does not hold", "not testable here"}
    for row in book.rows:
        assert row.evidence or row.see, f"row {row.number} shows nothing"
        assert row.finding or row.verdict == "holds", f"row {row.number} needs a finding"
    book.check()


def test_at_least_thirty_experiments_have_claims_that_all_pass():
    passing = [
        name
        for name in experiments.names()
        if (results := experiments.stored(name)) and all(claim.verdict != "does not hold" for claim in results.claims)
    ]
    assert len(passing) >= 30


def test_a_row_whose_evidence_fails_stops_the_build_and_is_named():
    claim = Claim("measured", (3.0,), 0, 2)
    rows = (Row(7, "Norms are magic.", "history", "holds", "", (("undo", claim),)),)
    with pytest.raises(AssertionError, match=r"row 7, Norms are magic.*expected 0 to 2, measured 3"):
        Ledger(rows).check()


def test_every_experiment_is_labelled_at_one_place_of_the_book():
    labels = [
        label
        for page in sorted(BOOK.glob("*.md"))
        for label in re.findall(r"^\(experiment-([\w-]+)\)=$", page.read_text(), re.MULTILINE)
    ]
    assert sorted(labels) == sorted(name.replace("_", "-") for name in experiments.names())


def test_every_page_that_a_row_points_to_exists():
    for row in ledger().rows:
        assert not row.see or (BOOK / f"{row.see}.md").exists()
