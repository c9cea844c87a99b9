"""The ledger: every claim that the course met in popular texts, its verdict, and the experiment that decides.

The rows stand in ledger.toml. Their evidence is looked up among the claims of the stored experiments.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lnorm.experiments.claim import Claim
from lnorm.experiments.results import stored

LedgerVerdict = Literal["holds", "holds when", "does not hold", "not testable here"]


@dataclass(frozen=True)
class Row:
    """A claim as one meets it, what became of it, and the measured claims that say so."""

    number: int
    claim: str
    heard: str
    verdict: LedgerVerdict
    finding: str
    evidence: tuple[tuple[str, Claim], ...]  # the name of an experiment, and its claim
    see: str = ""  # the page that tells it, where no experiment does


@dataclass(frozen=True)
class Ledger:
    """All rows. As a notebook's value it is the table of the book."""

    rows: tuple[Row, ...]

    def count(self, verdict: LedgerVerdict) -> int:
        """Return how many rows have this verdict."""
        return sum(row.verdict == verdict for row in self.rows)

    def check(self) -> None:
        """Raise AssertionError naming every row whose evidence does not hold. The book's build stops here."""
        broken = [
            f"- row {row.number}, {row.claim} ({name}: {claim.sentence}: "
            f"expected {claim.condition}, measured {claim.ours})"
            for row in self.rows
            for name, claim in row.evidence
            if claim.verdict == "does not hold"
        ]
        if broken:
            raise AssertionError(f"{len(broken)} piece(s) of evidence do not hold\n" + "\n".join(broken))

    def _repr_markdown_(self) -> str:
        lines = ["| | The claim | Verdict | Measured |", "|--:|---|---|---|"]
        for row in self.rows:
            stop = (
                "" if row.finding and not row.finding[0].isupper() else "."
            )  # a finding completes the sentence or follows
            verdict = f"**{row.verdict}{stop}** {row.finding}".strip()
            measured = [_measured(name, claim) for name, claim in row.evidence]
            measured += [f"Told in {{doc}}`{row.see}`"] if row.see else []
            cells = [str(row.number), f"{row.claim} *({row.heard})*", verdict, "<br>".join(measured)]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)


def _measured(name: str, claim: Claim) -> str:
    """The measured claim in a line: a link to the cell that measures it, our value, the published one."""
    link = f"{{ref}}`{claim.sentence} <experiment-{name.replace('_', '-')}>`"
    published = "" if claim.citation == "–" else f"; published: {claim.citation}"
    return f"{link}: {claim.ours}{published}" + ("" if claim.verdict == "holds" else f" ({claim.verdict})")


def ledger() -> Ledger:
    """Read the rows and look up their evidence.

    Raises LookupError, naming row and sentences, for evidence that is not exactly one claim of a stored experiment.
    """
    text = (Path(__file__).parent / "ledger.toml").read_text(encoding="utf-8")
    rows = []
    for number, row in enumerate(tomllib.loads(text)["row"], start=1):
        evidence = tuple(_look_up(number, words) for words in row.pop("evidence", ()))
        rows.append(Row(number, **row, evidence=evidence))
    return Ledger(tuple(rows))


def _look_up(row: int, words: str) -> tuple[str, Claim]:
    name, _, part = words.partition(": ")
    results = stored(name)
    if results is None:
        raise LookupError(f"ledger, row {row}: nothing is stored of the experiment {name!r}; run `make results`")
    found = [claim for claim in results.claims if part in claim.sentence]
    if len(found) != 1:
        sentences = "\n".join(f"- {claim.sentence}" for claim in results.claims)
        raise LookupError(
            f"ledger, row {row}: expected one claim of {name} with {part!r}, found {len(found)} among:\n{sentences}"
        )
    return name, found[0]
