"""Exercise 8.1: DeepNorm's two constants, from the number of branches."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, arrays

KINDS = {"encoder": 2, "decoder": 2, "encoder-decoder": 3}  # branches a layer


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 801)
    shown = level == "visible"
    depths = (6, 12) if shown else tuple(int(n) for n in rng.integers(3, 1000, size=3))
    one = (3,) if shown else (1, 7)
    return [
        *(Case("encoders and decoders", {"N": n, "kind": kind}) for n in depths for kind in ("encoder", "decoder")),
        *(Case("three branches a layer", {"N": n, "kind": "encoder-decoder"}) for n in (*one, *depths)),
        *(Case("few layers", {"N": n, "kind": "decoder"}) for n in ((1,) if shown else (1, 2))),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    return arrays(("alpha", "beta"), answer(inputs["N"], inputs["kind"]))


def _explain(case: Case, outputs: Outputs) -> str:
    """Say how far the two are from the chapter's condition, if they are numbers."""
    alpha, beta = outputs["alpha"], outputs["beta"]
    if alpha.shape or beta.shape or not alpha:
        return ""
    ratio = 2 * KINDS[case.inputs["kind"]] * case.inputs["N"] * float(beta / alpha) ** 2
    return f"(number of matrices)·β²/α² is {ratio:.2g}, should be 1" if abs(ratio - 1) > 1e-6 else ""


def _constants(
    branches: Any = lambda n, kind: KINDS[kind] * n, power: float = 0.25, beta: Any = lambda b: (4 * b) ** -0.25
) -> Answer:
    """Return an answer that counts branches and takes these powers of them; right by default."""
    return lambda N, kind: (branches(N, kind) ** power, beta(branches(N, kind)))


def _swapped(N: int, kind: str) -> Any:
    return _constants()(N, kind)[::-1]


DEEPNORM_CONSTANTS = Exercise(
    name="deepnorm_constants",
    signature="deepnorm_constants(N, kind)",
    properties={"encoders and decoders": 2, "three branches a layer": 2, "few layers": 1},
    cases=_cases,
    probe=_probe,
    solution=_constants(),
    explain=_explain,
    forbids=("lnorm.nn.deepnorm_constants",),
    mistakes={
        "alpha and beta swapped": _swapped,
        "the constants of two branches a layer for every kind": _constants(lambda n, kind: 2 * n),
        "three branches a layer for every kind": _constants(lambda n, kind: 3 * n),
        "one branch a layer: the layers are counted, not the branches": _constants(lambda n, kind: n),
        "twice as many branches as there are: the matrices are counted": _constants(
            lambda n, kind: 2 * KINDS[kind] * n, beta=lambda b: (4 * b) ** -0.25
        ),
        "α is a square root, where a fourth root belongs": _constants(power=0.5),
        "α² and β² in place of α and β": lambda N, kind: tuple(c**2 for c in _constants()(N, kind)),
        "β grows with depth: the sign of its exponent": _constants(beta=lambda b: (4 * b) ** 0.25),
        "1/α as β: the factor 4 under the root is missing": _constants(beta=lambda b: b**-0.25),
        "α = 1: all of the burden on β": lambda N, kind: (1.0, (2 * KINDS[kind] * N) ** -0.5),
        "β = 1: all of the burden on α": lambda N, kind: ((2 * KINDS[kind] * N) ** 0.5, 1.0),
        "an encoder counted as half of the network": _constants(
            lambda n, kind: (1 if kind == "encoder" else KINDS[kind]) * n
        ),
    },
)
