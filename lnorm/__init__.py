"""lnorm: normalization in deep learning, as a course whose every claim is an experiment.

Importing this package imports nothing heavy. Ask for the part that you need:

- ``lnorm.reference``: the mathematics in NumPy, forward and hand-derived backward.
- ``lnorm.experiments``: the experiments behind the book's claims.
- ``lnorm.checks``: what decides whether an answer to an exercise is right.
"""

__version__ = "0.1.0"
