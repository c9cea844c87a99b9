"""A claim: one sentence, a number from the literature, ours, and the interval that decides."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Measurements = dict[str, Any]
"""What one run of an experiment returns: plain numbers and NumPy arrays by name."""

Verdict = Literal["holds", "not robust", "does not hold"]


@dataclass(frozen=True)
class Claim:
    """A statement that holds when the mean of ``values`` over seeds lies in ``[low, high]``, well inside.

    Well inside means at least three standard deviations from the nearer end; otherwise the verdict is "not robust".
    ``source`` is a key of book/references.bib, or empty for what the book derives itself; ``where`` is the place in it.
    """

    sentence: str
    values: tuple[float, ...]
    low: float = -math.inf
    high: float = math.inf
    published: str = "–"
    source: str = ""
    where: str = ""

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def spread(self) -> float:
        """Sample standard deviation over seeds; 0 for a single seed."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else 0.0

    @property
    def margin(self) -> float:
        """Distance from the mean to the nearer end of the interval, in standard deviations; negative if outside."""
        distance = min(self.mean - self.low, self.high - self.mean)
        if self.spread == 0:
            return math.copysign(math.inf, distance)
        return distance / self.spread

    @property
    def verdict(self) -> Verdict:
        if not self.margin >= 0:  # a mean that is not a number decides nothing
            return "does not hold"
        return "holds" if self.margin >= 3 else "not robust"

    @property
    def ours(self) -> str:
        """Mean, spread and range over seeds, as the book prints them."""
        if self.spread == 0:
            return number(self.mean)
        low, high = min(self.values), max(self.values)
        return f"{number(self.mean)} ± {number(self.spread, digits=2)} [{number(low)}, {number(high)}]"

    @property
    def citation(self) -> str:
        """The published number with its source as a MyST role."""
        source = f"{{cite:t}}`{self.source}`" if self.source else ""
        return f"{self.published} ({', '.join(filter(None, (source, self.where)))})" if source or self.where else "–"

    @property
    def condition(self) -> str:
        """The interval that decides, in words."""
        if self.low == self.high:
            return f"exactly {number(self.low)}"
        if math.isinf(self.low):
            return f"at most {number(self.high)}"
        if math.isinf(self.high):
            return f"at least {number(self.low)}"
        return f"{number(self.low)} to {number(self.high)}"


def number(value: float, digits: int = 4) -> str:
    """Format a number with ``digits`` significant digits, and a real minus sign."""
    text = f"{value:.{digits}g}"
    if abs(value) >= 10**digits and math.isfinite(value) and abs(value) < 1e6:
        text = f"{value:.0f}"
    return text.replace("-", "−")


def over_seeds(runs: Sequence[Measurements], name: str) -> tuple[float, ...]:
    """Return the measurement ``name`` of every run."""
    return tuple(float(run[name]) for run in runs)
