"""Exercise 8.2: which matrices start smaller in DeepNorm."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, UnusableError, array

BRANCH = ("attention.value.weight", "attention.output.weight", "feed_forward.up.weight", "feed_forward.down.weight")
SIZES = {"visible": (4, 9), "graded": (5, 11)}  # features, vocabulary
FUSED = "attention.query_key_value.weight"


def _model(rng: np.random.Generator, level: Level, fused: bool = False) -> dict[str, np.ndarray]:
    """Return the parameters of a Transformer of two or three layers, none of them zero."""
    d, vocabulary = SIZES[level]
    shapes: dict[str, tuple[int, ...]] = {"tokens.weight": (vocabulary, d), "positions.weight": (6, d)}
    for i in range(2 if level == "visible" else 3):
        at = f"layers.{i}."
        for name in ("query", "key", "value", "output"):
            if not fused or name == "output":
                shapes[f"{at}attention.{name}.weight"] = (d, d)
            shapes[f"{at}attention.{name}.bias"] = (d,)
        if fused:
            shapes[at + FUSED] = (3 * d, d)
        shapes |= {f"{at}feed_forward.up.weight": (4 * d, d), f"{at}feed_forward.up.bias": (4 * d,)}
        shapes |= {f"{at}feed_forward.down.weight": (d, 4 * d), f"{at}feed_forward.down.bias": (d,)}
        shapes |= {f"{at}{norm}.weight": (d,) for norm in ("norm_attention", "norm_feed_forward")}
    shapes |= {"output.weight": (vocabulary, d), "output.bias": (vocabulary,)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


# What a property looks at: ends of names, with something that β must reach, so that doing nothing earns nothing.
LOOKS_AT = {
    "attention: values and outputs": ("attention.value.weight", "attention.output.weight"),
    "feed-forward: both matrices": ("feed_forward.up.weight", "feed_forward.down.weight"),
    "queries and keys keep their size": ("query.weight", "key.weight", "attention.value.weight"),
    "all that is no matrix of a branch keeps its size": (
        "tokens.weight",
        "positions.weight",
        "norm_attention.weight",
        "norm_feed_forward.weight",
        "output.weight",
        ".bias",
        "down.weight",
    ),
    "queries, keys and values in one matrix": (FUSED,),
    "leaves the arrays alone": BRANCH,
}


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 802)
    return [
        Case(
            tests,
            {
                "weights": _model(rng, level, fused="one matrix" in tests),
                "beta": float(rng.uniform(0.2, 0.7)),
                "asks": tests,
            },
        )
        for tests in LOOKS_AT
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    weights = {name: value.copy() for name, value in inputs["weights"].items()}
    found = answer(weights, inputs["beta"])
    asked = [name for name in inputs["weights"] if name.endswith(LOOKS_AT[inputs["asks"]])]
    if not isinstance(found, dict) or not all(name in found for name in asked):
        came = f"a dict of {len(found)}" if isinstance(found, dict) else type(found).__name__
        raise UnusableError(f"expected a dict with the {len(inputs['weights'])} names of weights; got {came}")
    out = {name: array(name, found[name]) for name in asked}
    if "alone" in inputs["asks"]:
        out |= {f"{name} after the call": weights[name] for name in asked}
    return out


def _by(factor: Callable[[str], float], fused: str = "last") -> Answer:
    """Return an answer that multiplies by β to the power ``factor(name)``; ``fused``: which third of one matrix."""

    def initialize(weights: Any, beta: float) -> Any:
        new = {name: value * beta ** factor(name) for name, value in weights.items()}
        for name in new:
            if name.endswith(FUSED):
                d = weights[name].shape[1]
                rows = {"last": slice(2 * d, None), "first": slice(d), "all": slice(None), "middle": slice(d, 2 * d)}
                new[name] = weights[name].copy()
                if fused == "columns":
                    new[name][:, -(d // 3) :] *= beta
                elif fused in rows:
                    new[name][rows[fused]] *= beta
        return new

    return initialize


def _ends(*names: str) -> Callable[[str], float]:
    return lambda name: float(name.endswith(names))


def _in_place(weights: Any, beta: float) -> Any:
    for name, value in _by(_ends(*BRANCH))(weights, beta).items():
        weights[name][:] = value
    return weights


def _only_scaled(weights: Any, beta: float) -> Any:
    return {name: value for name, value in _by(_ends(*BRANCH))(weights, beta).items() if name.endswith(BRANCH)}


def _matrix_of_a_layer(name: str) -> float:
    return float(name.startswith("layers.") and "norm" not in name and name.endswith(".weight"))


def _first_layer_only(name: str) -> float:
    return float(name.startswith("layers.0.") and name.endswith(BRANCH))


APPLY_DEEPNORM_INIT = Exercise(
    name="apply_deepnorm_init",
    signature="apply_deepnorm_init(weights, beta)",
    properties={
        "attention: values and outputs": 1,
        "feed-forward: both matrices": 1,
        "queries and keys keep their size": 1,
        "all that is no matrix of a branch keeps its size": 1,
        "queries, keys and values in one matrix": 2,
        "leaves the arrays alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_by(_ends(*BRANCH)),
    forbids=("lnorm.nn.deepnorm_",),
    mistakes={
        "queries and keys are scaled too": _by(_matrix_of_a_layer, fused="all"),
        "queries and keys are scaled in place of values": _by(
            _ends("query.weight", "key.weight", *BRANCH[1:]), fused="none"
        ),
        "only the feed-forward matrices are scaled": _by(_ends(*BRANCH[2:]), fused="none"),
        "only attention is scaled": _by(_ends(*BRANCH[:2])),
        "only the last matrix of every branch is scaled": _by(_ends(BRANCH[1], BRANCH[3]), fused="none"),
        "the first feed-forward matrix is left out": _by(_ends(BRANCH[0], BRANCH[1], BRANCH[3])),
        "the values are left out": _by(_ends(*BRANCH[1:]), fused="none"),
        "β² in place of β": _by(lambda name: 2 * _ends(*BRANCH)(name)),
        "division by β": _by(lambda name: -_ends(*BRANCH)(name)),
        "every array is scaled": _by(lambda name: 1.0, fused="all"),
        "the head's `output.weight` is taken for a part of attention": _by(_ends("output.weight", *BRANCH)),
        "the biases of the branches are scaled too": _by(
            lambda name: _ends(*BRANCH)(name) or _ends(*(each.replace("weight", "bias") for each in BRANCH))(name)
        ),
        "the embeddings are scaled too": _by(_ends("tokens.weight", "positions.weight", *BRANCH)),
        "the gains of the norms are scaled too": _by(lambda name: _ends(*BRANCH)(name) or float("norm_" in name)),
        "only the first layer is scaled": _by(_first_layer_only),
        "the common matrix of queries, keys and values is left as it is": _by(_ends(*BRANCH), fused="none"),
        "the common matrix of queries, keys and values is scaled as a whole": _by(_ends(*BRANCH), fused="all"),
        "the common matrix: its first third is scaled, the queries": _by(_ends(*BRANCH), fused="first"),
        "the common matrix: its middle third is scaled, the keys": _by(_ends(*BRANCH), fused="middle"),
        "the common matrix: the last columns are scaled in place of the last rows": _by(
            _ends(*BRANCH), fused="columns"
        ),
        "the arrays are overwritten in place": _in_place,
        "only the arrays that were scaled are returned": _only_scaled,
    },
)
