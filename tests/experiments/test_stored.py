"""What the book prints for five seeds was measured by the code that is here, and its claims hold."""

import pytest

from lnorm import experiments
from lnorm.experiments.results import STORED, fingerprint


@pytest.mark.parametrize("name", experiments.names())
def test_five_seeds_are_stored_and_their_claims_hold(name):
    results = experiments.stored(name)
    assert results is not None, "run `make results`"
    assert experiments.made(name)["code"] == fingerprint(name), f"{name} changed since it was stored: `make results`"
    assert len(results.runs) == 5
    assert not results.settings
    results.check()


def test_nothing_is_stored_of_experiments_that_are_gone():
    assert {path.stem for path in STORED.glob("*")} == set(experiments.names())
