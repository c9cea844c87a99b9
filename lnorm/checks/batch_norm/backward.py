"""Exercise 2.3: BatchNorm's backward pass."""

from typing import Any

import numpy as np

from lnorm import reference
from lnorm.checks.batch_norm.inputs import SIZES, affine, uneven_features
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, arrays


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 203)
    n, _, d = SIZES[level]

    def case(tests: str, x: np.ndarray, asks: str = "all", eps: float = 1e-12) -> Case:
        gamma, _ = affine(rng, x.shape[1])
        dy = rng.normal(loc=0.3, size=x.shape)
        return Case(tests, {"dy": dy, "x": x, "gamma": gamma, "eps": eps, "asks": asks})

    plain = case("", uneven_features(rng, n, d)).inputs
    return [
        *(Case(name, {**plain, "asks": name}) for name in ("dx", "dgamma", "dbeta")),
        case("dx", uneven_features(rng, 3, 2 * d), "dx"),
        case("eps in every place", 0.3 * uneven_features(rng, n, d), eps=0.1),
        case("eps in every place", np.tile(rng.normal(size=d), (n, 1)), eps=0.01),
        case("batches of two, one feature", 0.3 * uneven_features(rng, 2, d), eps=0.05),
        case("batches of two, one feature", uneven_features(rng, n, 1)),
        case("leaves its inputs alone", np.asfortranarray(uneven_features(rng, n, d)), "inputs"),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    dy, x, gamma = (inputs[name].copy(order="K") for name in ("dy", "x", "gamma"))
    out = arrays(("dx", "dgamma", "dbeta"), answer(dy, x, gamma, inputs["eps"]))
    after = {"dy after the call": dy, "x after the call": x, "gamma after the call": gamma}
    if inputs["asks"] == "inputs":
        return out | after
    return out if inputs["asks"] == "all" else {inputs["asks"]: out[inputs["asks"]]}


def _solution(dy: Any, x: Any, gamma: Any, eps: float) -> Any:
    return reference.batch_norm_backward(dy, reference.batch_norm(x, gamma, eps=eps)[1])


def _feature_sum(case: Case, outputs: Outputs) -> str:
    """Point at the mean term: with it, the gradient of every feature sums to zero over the batch."""
    if "dx" not in outputs or outputs["dx"].shape != case.inputs["x"].shape:
        return ""
    largest = float(np.abs(outputs["dx"].sum(axis=0)).max())
    return f"Σdx of a feature over the batch is {largest:.2g}, should be 0" if largest > 1e-6 else ""


def _parts(dy: Any, x: Any, gamma: Any, eps: float) -> tuple[Any, Any, Any]:
    """Return x_hat, s and g = dy·gamma: what every wrong backward below starts from."""
    s = np.sqrt(x.var(axis=0) + eps)
    return (x - x.mean(axis=0)) / s, s, dy * gamma


def _wrong_dx(dx: Any) -> Answer:
    """Return a backward pass with this way to get dx from x_hat, s, g, and dy and gamma where they are needed."""

    def backward(dy: Any, x: Any, gamma: Any, eps: float) -> Any:
        x_hat, s, g = _parts(dy, x, gamma, eps)
        return dx(x_hat, s, g, dy, gamma, eps), np.sum(dy * x_hat, axis=0), np.sum(dy, axis=0)

    return backward


def _wrong_parameters(dgamma: Any = None, dbeta: Any = None) -> Answer:
    """Return a backward pass with other gradients of gamma or beta, made from dy, x, x_hat and gamma."""

    def backward(dy: Any, x: Any, gamma: Any, eps: float) -> Any:
        x_hat, s, g = _parts(dy, x, gamma, eps)
        right = _dx(g, x_hat, s), np.sum(dy * x_hat, axis=0), np.sum(dy, axis=0)
        ways = zip((dgamma, dbeta), right[1:], strict=True)
        return right[0], *(way(dy, x, x_hat, gamma) if way else its for way, its in ways)

    return backward


def _m(values: Any, axis: int = 0) -> Any:
    return values.mean(axis=axis, keepdims=True)


def _dx(g: Any, x_hat: Any, s: Any) -> Any:
    return (g - _m(g) - x_hat * _m(g * x_hat)) / s


def _in_place(dy: Any, x: Any, gamma: Any, eps: float) -> Any:
    result = _solution(dy, x, gamma, eps)
    dy *= gamma
    return result


BATCH_NORM_BACKWARD = Exercise(
    name="batch_norm_backward",
    signature="batch_norm_backward(dy, x, gamma, eps)",
    properties={
        "dx": 4,
        "dgamma": 1,
        "dbeta": 1,
        "eps in every place": 2,
        "batches of two, one feature": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_solution,
    explain=_feature_sum,
    forbids=(
        "lnorm.reference.batch_norm_backward",
        "torch.nn.functional.batch_norm",
        "torch.nn.BatchNorm1d",
        "torch.batch_norm",
    ),
    mistakes={
        "dx lacks the mean term: the mean of g is not subtracted": _wrong_dx(
            lambda x_hat, s, g, *_: (g - x_hat * _m(g * x_hat)) / s
        ),
        "dx lacks the x̂ term, as if the variance were a constant": _wrong_dx(lambda x_hat, s, g, *_: (g - _m(g)) / s),
        "mean and variance treated as constants: dx = g / s": _wrong_dx(lambda x_hat, s, g, *_: g / s),
        "the sign of the mean term": _wrong_dx(lambda x_hat, s, g, *_: (g + _m(g) - x_hat * _m(g * x_hat)) / s),
        "the sign of the x̂ term": _wrong_dx(lambda x_hat, s, g, *_: (g - _m(g) + x_hat * _m(g * x_hat)) / s),
        "x̂ times the mean of g in the last term, instead of the mean of g·x̂": _wrong_dx(
            lambda x_hat, s, g, *_: (g - _m(g) - x_hat * _m(g)) / s
        ),
        "means over the features instead of the batch (this is LayerNorm's formula)": _wrong_dx(
            lambda x_hat, s, g, *_: (g - _m(g, 1) - x_hat * _m(g * x_hat, 1)) / s
        ),
        "sums over the batch where means belong": _wrong_dx(
            lambda x_hat, s, g, *_: (g - g.sum(axis=0) - x_hat * (g * x_hat).sum(axis=0)) / s
        ),
        "an extra factor 1/N in dx": _wrong_dx(lambda x_hat, s, g, *_: _dx(g, x_hat, s) / len(g)),
        "variance differentiated as if divided by N − 1": _wrong_dx(
            lambda x_hat, s, g, *_: (g - _m(g) - x_hat * np.sum(g * x_hat, axis=0) / (len(g) - 1)) / s
        ),
        "gamma left out of dx": _wrong_dx(lambda x_hat, s, g, dy, gamma, eps: _dx(dy, x_hat, s)),
        "gamma divided by instead of multiplied with": _wrong_dx(
            lambda x_hat, s, g, dy, gamma, eps: _dx(dy / gamma, x_hat, s)
        ),
        "eps left out of the final division": _wrong_dx(
            lambda x_hat, s, g, dy, gamma, eps: _dx(g, x_hat, np.sqrt(s**2 - eps))
        ),
        "the final division by s left out": _wrong_dx(lambda x_hat, s, g, *_: _dx(g, x_hat, 1.0)),
        "multiplication by s where a division belongs": _wrong_dx(lambda x_hat, s, g, *_: _dx(g, x_hat, 1 / s)),
        "division by the variance instead of its square root": _wrong_dx(lambda x_hat, s, g, *_: _dx(g, x_hat, s**2)),
        "dgamma computed from x instead of x̂": _wrong_parameters(lambda dy, x, x_hat, gamma: np.sum(dy * x, axis=0)),
        "dgamma multiplied by gamma": _wrong_parameters(lambda dy, x, x_hat, gamma: gamma * np.sum(dy * x_hat, axis=0)),
        "dgamma summed over the features instead of the batch": _wrong_parameters(
            lambda dy, x, x_hat, gamma: np.sum(dy * x_hat, axis=1)
        ),
        "dgamma and dbeta averaged over the batch instead of summed": _wrong_parameters(
            lambda dy, x, x_hat, gamma: np.mean(dy * x_hat, axis=0), lambda dy, *_: np.mean(dy, axis=0)
        ),
        "dbeta multiplied by gamma": _wrong_parameters(None, lambda dy, x, x_hat, gamma: gamma * np.sum(dy, axis=0)),
        "dbeta not summed over the batch": _wrong_parameters(None, lambda dy, *_: dy),
        "dgamma and dbeta swapped": _wrong_parameters(
            lambda dy, *_: np.sum(dy, axis=0), lambda dy, x, x_hat, gamma: np.sum(dy * x_hat, axis=0)
        ),
        "dy overwritten in place": _in_place,
    },
)
