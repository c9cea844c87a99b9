"""Exercise 14.6: what is wrong with this model?"""

from typing import Any

import numpy as np

from lnorm.checks.capstone.patients import Patient, patient
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, UnusableError

FINITE, MODES = "numbers that are none, and company", "padding and memory"
INTERVENE, FINE = "what only an intervention shows", "one that is well, and one that almost is"
RUNS = {FINITE: ("C", "F"), MODES: ("A", "D"), INTERVENE: ("B", "E"), FINE: ("healthy", "example")}
PADDING, WORDS = 32, 32


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 5)
    worn = rng.permutation([False, True] * 4) if level == "graded" else [False] * 8
    out = [
        Case(tests, {"run": run, "seed": int(rng.integers(1, 10**6)), "worn": bool(worn[2 * i + j])})
        for i, (tests, runs) in enumerate(RUNS.items())
        for j, run in enumerate(runs)
    ]
    return [out[k] for k in rng.permutation(len(out))]  # the order says nothing


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    from lnorm.broken_runs import DIAGNOSES

    said = answer(patient(inputs["run"], inputs["seed"], inputs["worn"]))
    if not isinstance(said, str) or said not in DIAGNOSES:
        came = f"{said!r:.40}" if isinstance(said, str) else type(said).__name__
        raise UnusableError(f"expected one of the {len(DIAGNOSES)} diagnoses, word for word; got {came}")
    return {"diagnosis": np.array(DIAGNOSES.index(said))}


def _verify(case: Case, outputs: Outputs) -> str:
    from lnorm.broken_runs import DIAGNOSES, diagnosis

    said, right = DIAGNOSES[int(outputs["diagnosis"])], diagnosis(case.inputs["run"])
    if said == right:
        return ""
    if right == "healthy":
        return f'a model that is well was called ill: "{said}"'
    return "a model that is ill was called healthy" if said == "healthy" else f'a wrong diagnosis: "{said}"'


def _diagnose(
    *,
    finite: bool = True,
    padded: bool = True,
    padding_in_training: bool = True,
    company_in_training: bool = False,
    memory_training: bool = True,
    louder: str = "blocks.7",
    eps_first: bool = True,
    tolerance: float = 1e-3,
) -> Answer:
    """Return the right answer, or one that differs in a choice."""

    def differ(a: np.ndarray, b: np.ndarray) -> bool:
        return bool(np.abs(a - b).max() > tolerance * np.abs(a).max())

    def diagnose(run: Patient) -> str:
        rng = np.random.default_rng(0)
        tokens = rng.integers(WORDS, size=(4, 24))
        if padded:
            tokens[np.arange(24) >= np.array([[5], [24], [11], [18]])] = PADDING

        def logits(batch: np.ndarray, training: bool = False, change: Any = None) -> np.ndarray:
            return run(batch, training, change)["head"]

        found = run(tokens)
        if finite and not np.isfinite(found["head"]).all():
            return "eps is lost in half precision"
        longer = np.pad(tokens, ((0, 0), (0, 24)), constant_values=PADDING) if padded else tokens
        if differ(logits(tokens, padding_in_training), logits(longer, padding_in_training)):
            return "padding counts in the statistics"
        if differ(logits(tokens, company_in_training)[:1], logits(tokens[:1], company_in_training)):
            return "statistics over the wrong axis"
        before = logits(tokens)
        for word in range(2):
            logits(np.full((2, 8), word), memory_training)
        found = run(tokens)
        if not differ(before, found["head"]):
            return "running statistics are never updated"
        normed = found["blocks.1.norm"][tokens != PADDING]
        if eps_first and np.sqrt(np.mean(normed**2)) < 0.3:
            return "eps is much too large"
        if differ(found["head"], logits(tokens, change={louder: lambda x: 100 * x})):
            return "the final norm is missing"
        scaled = run(tokens, change={"norm_input": lambda x: 100 * x})
        if differ(*(signals["blocks.0"] - signals["norm_input"] for signals in (found, scaled))):
            return "the skip path is normalized"
        return "healthy"

    return diagnose


DIAGNOSE = Exercise(
    name="diagnose",
    signature="diagnose(patient)",
    properties={FINITE: 4, MODES: 4, INTERVENE: 4, FINE: 4},
    cases=_cases,
    probe=_probe,
    solution=_diagnose(),
    verify=_verify,
    seconds=20.0,
    mistakes={
        "no look whether logits are numbers: no comparison with NaN is ever true": _diagnose(finite=False),
        "sentences without padding only, which neither NaN nor padding betrays": _diagnose(padded=False),
        "more padding tried in evaluation mode, where statistics are constant": _diagnose(padding_in_training=False),
        "sentences alone and in company compared in training mode, where BatchNorm always listens": _diagnose(
            company_in_training=True
        ),
        "other batches shown in evaluation mode, in which nothing is remembered": _diagnose(memory_training=False),
        "the first block made louder instead of the last, which changes what the others hear": _diagnose(
            louder="blocks.0"
        ),
        "an eps that is too large taken for a normalized skip path: what a block adds grows in both": _diagnose(
            eps_first=False
        ),
        "no tolerance: rounding counts as a difference": _diagnose(tolerance=0.0),
        "a tolerance so wide that little differs": _diagnose(tolerance=2.0),
        "healthy, whatever the model is": lambda run: "healthy",
        "the same fault for every model": lambda run: "statistics over the wrong axis",
    },
)
