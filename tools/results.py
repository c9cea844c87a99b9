"""Measure on five seeds what the book prints, and store it in lnorm/experiments/stored with where it comes from.

Only experiments whose module changed since, or that were never stored, are run; names on the command line force them.
"""

import os
import sys

from lnorm import experiments
from lnorm.experiments.results import STORED, fingerprint

SEEDS = 5


def stale() -> list[str]:
    """Return the experiments without a stored result of their present code."""
    return [name for name in experiments.names() if experiments.made(name).get("code") != fingerprint(name)]


def main(names: list[str]) -> None:
    for name in names:
        results = experiments.run(name, seeds=SEEDS, workers=min(SEEDS, os.cpu_count() or 1))
        results.check()
        results.save(STORED / f"{name}.json")
        weak = [claim.sentence for claim in results.claims if claim.verdict != "holds"]
        print(
            f"  {name}: {len(results.claims)} claims" + (f"; not robust: {'; '.join(weak)}" if weak else ""), flush=True
        )
    print(f"{len(names)} experiment(s) measured; the stored results are those of the present code")


if __name__ == "__main__":
    main(sys.argv[1:] or stale())
