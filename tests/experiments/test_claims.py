"""Every claim of every experiment, on three seeds."""

import os

import pytest

from lnorm import experiments


@pytest.mark.slow
@pytest.mark.parametrize("name", experiments.names())
def test_claims_hold_on_three_seeds(name):
    results = experiments.run(name, seeds=3, workers=min(3, os.cpu_count() or 1))
    results.check()
    assert len(results.claims) >= 3
    for claim in results.claims:
        assert claim.source or claim.where or claim.published == "–", "a published number needs its source"
