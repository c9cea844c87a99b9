"""Exercise 2.4: an evaluation-mode BatchNorm merged into the linear layer before it."""

from typing import Any

import numpy as np

from lnorm.checks.batch_norm.inputs import SIZES, affine, uneven_features
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, arrays

BN = ("gamma", "beta", "mean", "var")


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 204)
    _, d_in, d = SIZES[level]

    def inputs(d_out: int = d, eps: float = 1e-5) -> dict[str, Any]:
        gamma, beta = affine(rng, d_out)
        W, b = rng.normal(size=(d_out, d_in)) + rng.normal(size=(d_out, 1)), rng.normal(loc=2.0, size=d_out)
        running = {"mean": rng.normal(scale=3.0, size=d_out), "var": rng.uniform(0.1, 4.0, size=d_out)}
        return {"W": W, "b": b, "gamma": gamma, "beta": beta, **running, "eps": eps}

    plain = inputs()
    return [
        Case("W_f", {**plain, "asks": "W_f"}),
        Case("b_f", {**plain, "asks": "b_f"}),
        Case("eps inside the square root", {**inputs(eps=0.1), "asks": "all"}),
        Case("eps inside the square root", {**inputs(eps=1e-3), "var": np.zeros(d), "asks": "all"}),
        Case("square W", {**inputs(d_in), "asks": "all"}),  # here a wrong axis does not show in the shape
        Case(
            "the new layer alone gives the old outputs", {**inputs(), "x": uneven_features(rng, 9, d_in), "asks": "y"}
        ),
        Case("leaves its inputs alone", {**plain, "asks": "inputs"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    given = {name: inputs[name].copy() for name in ("W", "b", *BN)}
    out = arrays(("W_f", "b_f"), answer(*given.values(), inputs["eps"]))
    if inputs["asks"] == "inputs":
        return out | {f"{name} after the call": value for name, value in given.items()}
    if inputs["asks"] == "y":
        return {"x W_fᵀ + b_f": inputs["x"] @ out["W_f"].T + out["b_f"]}
    return out if inputs["asks"] == "all" else {inputs["asks"]: out[inputs["asks"]]}


def _solution(W: Any, b: Any, gamma: Any, beta: Any, mean: Any, var: Any, eps: float) -> Any:
    s = gamma / np.sqrt(var + eps)
    return s[:, None] * W, s * (b - mean) + beta


def _scale(s: Any) -> Answer:
    """Return a fold with another factor for each output, made from gamma, var and eps."""

    def fold(W: Any, b: Any, gamma: Any, beta: Any, mean: Any, var: Any, eps: float) -> Any:
        factor = s(gamma, var, eps)
        return factor[:, None] * W, factor * (b - mean) + beta

    return fold


def _bias(b_f: Any) -> Answer:
    """Return a fold with another bias, made from s, b, mean and beta."""

    def fold(W: Any, b: Any, gamma: Any, beta: Any, mean: Any, var: Any, eps: float) -> Any:
        return _solution(W, b, gamma, beta, mean, var, eps)[0], b_f(gamma / np.sqrt(var + eps), b, mean, beta)

    return fold


def _columns(W: Any, b: Any, gamma: Any, beta: Any, mean: Any, var: Any, eps: float) -> Any:
    s = gamma / np.sqrt(var + eps)
    return W * s, s * (b - mean) + beta  # an error unless W is square


def _weights_unscaled(W: Any, b: Any, *bn: Any) -> Any:
    return W.copy(), _solution(W, b, *bn)[1]


def _weights_centred(W: Any, b: Any, gamma: Any, beta: Any, mean: Any, var: Any, eps: float) -> Any:
    s = gamma / np.sqrt(var + eps)
    return s[:, None] * (W - mean[:, None]), s * b + beta


def _transposed(*args: Any) -> Any:
    W_f, b_f = _solution(*args)
    return W_f.T, b_f


def _in_place(W: Any, b: Any, *bn: Any) -> Any:
    W[:], b[:] = _solution(W, b, *bn)
    return W, b


FOLD_BN_INTO_LINEAR = Exercise(
    name="fold_bn_into_linear",
    signature="fold_bn_into_linear(W, b, gamma, beta, mean, var, eps)",
    properties={
        "W_f": 1,
        "b_f": 1,
        "eps inside the square root": 1,
        "square W": 1,
        "the new layer alone gives the old outputs": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_solution,
    forbids=(
        "lnorm.nn.fold.fold_batch_norm",
        "torch.nn.utils.fuse_linear_bn_eval",
        "torch.nn.utils.fuse_linear_bn_weights",
    ),
    mistakes={
        "columns of W scaled instead of rows": _columns,
        "W not scaled": _weights_unscaled,
        "the mean subtracted from W": _weights_centred,
        "W_f transposed": _transposed,
        "mean left out of the bias": _bias(lambda s, b, mean, beta: s * b + beta),
        "mean added instead of subtracted": _bias(lambda s, b, mean, beta: s * (b + mean) + beta),
        "mean subtracted without the factor": _bias(lambda s, b, mean, beta: s * b - mean + beta),
        "the old bias forgotten": _bias(lambda s, b, mean, beta: beta - s * mean),
        "the old bias added without the factor": _bias(lambda s, b, mean, beta: b - s * mean + beta),
        "beta forgotten": _bias(lambda s, b, mean, beta: s * (b - mean)),
        "beta multiplied by the factor too": _bias(lambda s, b, mean, beta: s * (b - mean + beta)),
        "gamma forgotten": _scale(lambda gamma, var, eps: 1 / np.sqrt(var + eps)),
        "eps forgotten": _scale(lambda gamma, var, eps: gamma / np.sqrt(var)),
        "eps added outside the square root": _scale(lambda gamma, var, eps: gamma / (np.sqrt(var) + eps)),
        "division by the variance instead of its square root": _scale(lambda gamma, var, eps: gamma / (var + eps)),
        "multiplication by the standard deviation": _scale(lambda gamma, var, eps: gamma * np.sqrt(var + eps)),
        "W and b overwritten in place": _in_place,
    },
)
