"""Exercise 12.5: Fixup's initial values."""

from itertools import pairwise
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, UnusableError, array

WIDTHS = {"visible": (4, 7, 3, 5), "graded": (5, 8, 4, 6)}


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 4)
    widths = WIDTHS[level]
    deep = 9 if level == "visible" else int(rng.integers(20, 40))

    def case(tests: str, blocks: int, layers: int, **asks: str) -> Case:
        """Branches lead through these widths and back to the first."""
        sizes = (*widths[:layers], widths[0])
        z = tuple(rng.normal(size=(blocks, fan_out, fan_in)) for fan_in, fan_out in pairwise(sizes))
        return Case(tests, {"z": z, **asks})

    return [
        case("the last layer of every branch", deep, 2, asks="last"),
        case("the last layer of every branch", deep, 3, asks="last"),
        case("one block: He's initial values", 1, 2, asks="others"),
        case("one block: He's initial values", 1, 4, asks="others"),
        case("branches of two layers", deep, 2, asks="others"),
        case("branches of more layers", deep, 3, asks="others"),
        case("branches of more layers", deep // 2, 4, asks="others"),
        case("leaves its input alone", deep, 2, asks="input"),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    z = [each.copy() for each in inputs["z"]]
    result = answer(z)
    if not isinstance(result, (tuple, list)) or len(result) != len(z):
        came = f"{len(result)} of them" if isinstance(result, (tuple, list)) else type(result).__name__
        raise UnusableError(f"expected a list with one array a layer of the branch, {len(z)} here, got {came}")
    out = {f"the weights of layer {i}": array(f"the weights of layer {i}", each) for i, each in enumerate(result, 1)}
    if inputs["asks"] == "input":
        return out | {f"z of layer {i} after the call": each for i, each in enumerate(z, 1)}
    *others, last = out
    return {name: out[name] for name in ([last] if inputs["asks"] == "last" else others)}


def _fixup(kind: str = "") -> Answer:
    """Return initial values that are right but for one thing; ``kind`` empty for the right ones."""

    def fixup_init(z: Any) -> Any:
        m, blocks = len(z), len(z[0])
        exponent = {
            "sign": 1 / (2 * m - 2),
            "always half": -0.5,
            "one over 2m": -1 / (2 * m),
            "one over m": -1 / m,
            "plus two": -1 / (2 * m + 2),
            "minus one": -1 / (2 * m - 1),
            "no root": -1 / (m - 1),
            "no factor": 0.0,
        }.get(kind, -1 / (2 * m - 2))
        deep = {"all layers": blocks * m, "widths": z[0].shape[1]}.get(kind, blocks)
        factor: Any = float(deep) ** exponent
        if kind == "growing":
            factor = np.arange(1.0, blocks + 1)[:, None, None] ** exponent
        weights = []
        for i, each in enumerate(z):
            fan_in = {"fan-out": each.shape[1], "blocks as fan-in": each.shape[0]}.get(kind, each.shape[2])
            gain = {"Xavier's gain": 1.0, "no He": fan_in}.get(kind, 2.0)
            std = gain / fan_in if kind == "variance" else np.sqrt(gain / fan_in)
            scale = 1.0 if kind == "first only" and i else factor
            weights.append(each * std * scale)
        zeros = {"first zero": [0], "none zero": [], "all zero": range(m)}.get(kind, [m - 1])
        for i in zeros:
            weights[i] = np.zeros_like(weights[i])
        if kind == "last block":
            weights[-1] = z[-1] * np.sqrt(2 / z[-1].shape[2]) * factor
            weights[-1][-1] = 0.0
        elif kind == "in place":
            z[-1][:] = 0.0
        return weights

    return fixup_init


FIXUP_INIT = Exercise(
    name="fixup_init",
    signature="fixup_init(z)",
    properties={
        "the last layer of every branch": 1,
        "one block: He's initial values": 2,
        "branches of two layers": 2,
        "branches of more layers": 2,
        "leaves its input alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_fixup(),
    mistakes={
        "the exponent with the opposite sign: deeper networks start larger": _fixup("sign"),
        "L^(−1/2), however many layers a branch has": _fixup("always half"),
        "2m in the exponent, without the minus 2": _fixup("one over 2m"),
        "m in the exponent": _fixup("one over m"),
        "2m + 2 in the exponent": _fixup("plus two"),
        "2m − 1 in the exponent": _fixup("minus one"),
        "m − 1 in the exponent, without the factor 2": _fixup("no root"),
        "He's values, whatever the depth": _fixup("no factor"),
        "L counts layers instead of blocks": _fixup("all layers"),
        "a width in the place of L": _fixup("widths"),
        "block number ℓ in the place of L": _fixup("growing"),
        "only the first layer of a branch multiplied": _fixup("first only"),
        "the last layer not set to zero": _fixup("none zero"),
        "the first layer set to zero instead of the last": _fixup("first zero"),
        "all layers set to zero: then no gradient passes": _fixup("all zero"),
        "only the last block's last layer set to zero": _fixup("last block"),
        "the fan-out in the place of the fan-in": _fixup("fan-out"),
        "the number of blocks taken for the fan-in": _fixup("blocks as fan-in"),
        "1 / fan-in as the variance, which is Xavier's for linear layers": _fixup("Xavier's gain"),
        "the variance 2 / fan-in taken for the standard deviation": _fixup("variance"),
        "standard normal weights, multiplied by the power of L only": _fixup("no He"),
        "z overwritten in place": _fixup("in place"),
    },
)
