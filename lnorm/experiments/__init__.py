"""The experiments behind the book's claims, one module each.

A module holds ``run(seed, **settings) -> Measurements`` and ``claims(runs) -> list[Claim]``; the first line of its
docstring says what it measures. Nothing is registered by hand: a module in this package that has both is an experiment.
"""

from lnorm.experiments.catalogue import load, names
from lnorm.experiments.claim import Claim, Measurements
from lnorm.experiments.results import Results, made, run, stored

__all__ = ["Claim", "Measurements", "Results", "load", "made", "names", "run", "stored"]
