"""Which exercises there are, by assignment."""

import importlib

from lnorm.checks.exercise import Exercise

ASSIGNMENTS = {
    "01-signals": "lnorm.checks.signals",
    "02-batch-norm": "lnorm.checks.batch_norm",
    "03-layer-norm": "lnorm.checks.layer_norm",
    "04-why-it-works": "lnorm.checks.why_it_works",
    "05-batch-size": "lnorm.checks.batch_size",
    "06-sequences": "lnorm.checks.sequences",
    "07-placement": "lnorm.checks.placement",
    "08-going-deep": "lnorm.checks.going_deep",
    "09-rms-norm": "lnorm.checks.rms_norm",
    "10-sixteen-bits": "lnorm.checks.sixteen_bits",
    "11-fused-kernels": "lnorm.checks.fused_kernels",
    "12-life-without": "lnorm.checks.life_without",
    "13-after-training": "lnorm.checks.after_training",
    "14-capstone": "lnorm.checks.capstone",
}
"""Name of the assignment → module with its ``EXERCISES``."""


def assignment(name: str) -> tuple[Exercise, ...]:
    """Return the exercises of an assignment; LookupError, naming what exists, if there is none."""
    if name not in ASSIGNMENTS:
        raise LookupError(f"no assignment is called {name!r}; there are: {', '.join(ASSIGNMENTS)}")
    exercises: tuple[Exercise, ...] = importlib.import_module(ASSIGNMENTS[name]).EXERCISES
    return exercises


def exercise(name: str) -> Exercise:
    """Return the exercise ``name``; LookupError, naming what exists, if there is none."""
    others = []
    for title in ASSIGNMENTS:  # one after the other: a check loads no more assignments than it needs
        for each in assignment(title):
            if each.name == name:
                return each
            others.append(each.name)
    raise LookupError(f"no exercise is called {name!r}; there are: {', '.join(others)}")
