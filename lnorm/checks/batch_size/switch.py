"""Exercise 5.6: SwitchNorm between BatchNorm and LayerNorm."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.batch_size.inputs import uneven_features
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array
from lnorm.checks.layer_norm.inputs import affine

SIZES = {"visible": (6, 4), "graded": (9, 5)}


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 5)
    n, features = SIZES[level]

    def inputs(
        means: Any = None, variances: Any = None, *, plain: bool = False, scale: float = 1.0, eps: float = 1e-12
    ) -> dict[str, Any]:
        gamma, beta = affine(rng, features)
        if plain:
            gamma, beta = np.ones(features), np.zeros(features)
        logits = {
            "mean_logits": rng.normal(size=2) if means is None else np.array(means),
            "var_logits": rng.normal(size=2) if variances is None else np.array(variances),
        }
        return {"x": scale * uneven_features(rng, n, features), **logits, "gamma": gamma, "beta": beta, "eps": eps}

    return [
        Case("one norm alone", inputs([40.0, -40.0], [40.0, -40.0], plain=True)),
        Case("one norm alone", inputs([-40.0, 40.0], [-40.0, 40.0], plain=True)),
        Case("a mixture", inputs([0.7, -0.2], [0.7, -0.2], plain=True)),
        Case("a mixture", inputs()),
        Case("shares of the mean and shares of the variance", inputs([1.2, -0.6], [-0.9, 0.4])),
        Case("shares of the mean and shares of the variance", inputs([40.0, -40.0], [-40.0, 40.0], plain=True)),
        Case("large logits", inputs([1000.0, 999.0], [-1200.0, -1201.0])),
        Case("eps inside the square root", inputs(scale=0.2, eps=0.1)),
        Case("leaves its inputs alone", {**inputs(), "asks": "inputs"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    names = ("x", "mean_logits", "var_logits", "gamma", "beta")
    given = {name: inputs[name].copy() for name in names}
    y = array("y", answer(*given.values(), inputs["eps"]))
    return {"y": y} | ({f"{name} after the call": each for name, each in given.items()} if "asks" in inputs else {})


def _softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max())
    return shares / shares.sum()


def _mean(x: np.ndarray, axis: int) -> np.ndarray:
    return x.mean(axis=axis, keepdims=True)


def _switch(kind: str = "", shares: Callable[[np.ndarray], np.ndarray] = _softmax, ddof: int = 0) -> Answer:
    """Return a SwitchNorm that is right but for one thing; ``kind`` empty for the right one."""

    def switch_norm(
        x: np.ndarray, mean_logits: np.ndarray, var_logits: np.ndarray, gamma: Any, beta: Any, eps: float
    ) -> Any:
        if kind == "one share":
            var_logits = mean_logits
        elif kind == "the other share":
            mean_logits = var_logits
        elif kind == "swapped shares":
            mean_logits, var_logits = var_logits, mean_logits
        w, v = shares(mean_logits), shares(var_logits)
        if kind == "order":
            w, v = w[::-1], v[::-1]
        means = [_mean(x, axis) for axis in (0, 1)]  # (1, C) of BatchNorm, (N, 1) of LayerNorm
        mean = w[0] * means[0] + w[1] * means[1]
        variances = [x.var(axis=axis, keepdims=True, ddof=ddof) for axis in (0, 1)]
        if kind == "variance about BatchNorm's mean":
            variances[1] = _mean((x - means[0]) ** 2, 1)
        elif kind == "variances about the mixture":
            variances = [_mean((x - mean) ** 2, axis) for axis in (0, 1)]
        var = v[0] * variances[0] + v[1] * variances[1]
        s = np.sqrt(var + eps)
        if kind == "deviations":
            s = v[0] * np.sqrt(variances[0] + eps) + v[1] * np.sqrt(variances[1] + eps)
        elif kind == "gap":
            s = np.sqrt(var + v[0] * v[1] * (means[0] - means[1]) ** 2 + eps)
        elif kind == "eps outside":
            s = np.sqrt(var) + eps
        elif kind == "no eps":
            s = np.sqrt(var)
        elif kind == "no root":
            s = var + eps
        y = (x - mean) / s
        if kind == "outputs":
            b, layer = ((x - m) / np.sqrt(each + eps) for m, each in zip(means, variances, strict=True))
            y = w[0] * b + w[1] * layer
        if kind == "in place":
            x -= mean
        return y if kind == "no affine" else gamma * y + beta

    return switch_norm


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


SWITCH_NORM = Exercise(
    name="switch_norm",
    signature="switch_norm(x, mean_logits, var_logits, gamma, beta, eps)",
    properties={
        "one norm alone": 2,
        "a mixture": 2,
        "shares of the mean and shares of the variance": 1,
        "large logits": 1,
        "eps inside the square root": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_switch(),
    forbids=("lnorm.reference.switch_norm", "lnorm.nn.SwitchNorm"),
    mistakes={
        "one shared softmax: the shares of the mean used for the variance too": _switch("one share"),
        "the shares of the variance used for the mean too": _switch("the other share"),
        "the shares of mean and variance swapped": _switch("swapped shares"),
        "BatchNorm and LayerNorm in the other order": _switch("order"),
        "shares that do not add up to 1: exp without the division": _switch(shares=np.exp),
        "the logits themselves as shares": _switch(shares=lambda logits: logits),
        "a sigmoid for each logit, whose values do not add up to 1": _switch(shares=_sigmoid),
        "equal shares, whatever the logits": _switch(shares=lambda logits: np.full(2, 0.5)),
        "the larger logit takes all": _switch(shares=lambda logits: (logits == logits.max()).astype(float)),
        "a softmax that overflows for large logits": _switch(
            shares=lambda logits: np.exp(logits) / np.exp(logits).sum()
        ),
        "LayerNorm's variance taken around BatchNorm's mean": _switch("variance about BatchNorm's mean"),
        "both variances taken around the mixed mean": _switch("variances about the mixture"),
        "the variance of a mixture, with the gap between the means": _switch("gap"),
        "standard deviations mixed instead of variances": _switch("deviations"),
        "the two norms' outputs mixed instead of their statistics": _switch("outputs"),
        "variances divided by N − 1 and D − 1": _switch(ddof=1),
        "division by the variance instead of its square root": _switch("no root"),
        "eps added to the standard deviation, outside the square root": _switch("eps outside"),
        "eps left out": _switch("no eps"),
        "gamma and beta left out": _switch("no affine"),
        "x overwritten in place": _switch("in place"),
    },
)
