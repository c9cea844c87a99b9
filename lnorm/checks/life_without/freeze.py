"""Exercise 12.6: LayerNorms with a constant in the place of sigma, as linear maps."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, UnusableError, arrays
from lnorm.checks.layer_norm.inputs import SIZES, affine, uneven_rows


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 5)
    n, t, d = SIZES[level]

    def case(tests: str, asks: str, *activations: np.ndarray, eps: float = 1e-12) -> Case:
        norms = tuple((*affine(rng, x.shape[-1]), eps) for x in activations)
        return Case(tests, {"norms": norms, "activations": activations, "asks": asks})

    def rows(*shape: int) -> np.ndarray:
        return uneven_rows(rng, *shape)

    return [
        case("A", "A", rows(4 * n, d)),
        case("A", "A", rows(n, d + 2)),
        case("c", "c", rows(4 * n, d)),
        case("a constant for every norm", "all", rows(3 * n, d), 3 * rows(5 * n, d), rows(n, t)),
        case("any number of axes", "all", rows(n, t, d)),
        case("eps inside the square root", "all", 0.3 * rows(3 * n, d), eps=0.1),
        case("leaves its inputs alone", "inputs", rows(3 * n, d), rows(2 * n, t)),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    norms = [(gamma.copy(), beta.copy(), eps) for gamma, beta, eps in inputs["norms"]]
    activations = [each.copy() for each in inputs["activations"]]
    result = answer(norms, activations)
    if not isinstance(result, (tuple, list)) or len(result) != len(norms):
        came = f"{len(result)} of them" if isinstance(result, (tuple, list)) else type(result).__name__
        raise UnusableError(f"expected a list with one pair (A, c) a norm, {len(norms)} here, got {came}")
    out: dict[str, np.ndarray] = {}
    for i, (pair, (gamma, beta, _), x) in enumerate(zip(result, norms, activations, strict=True)):
        out |= {f"{name} of norm {i}": each for name, each in arrays(("A", "c"), pair).items()}
        if inputs["asks"] == "inputs":
            out |= {f"gamma of norm {i} after the call": gamma, f"beta of norm {i} after the call": beta}
            out |= {f"activations of norm {i} after the call": x}
    return {name: each for name, each in out.items() if inputs["asks"] in ("all", "inputs", name[0])}


def _freeze(kind: str = "") -> Answer:
    """Return the freezing that is right but for one thing; ``kind`` empty for the right one."""

    def constant(x: Any, eps: float) -> Any:
        eps = 0.0 if kind == "no eps" else eps
        var = x.var(-1, ddof=int(kind == "unbiased"))
        sigma = np.sqrt(var) + eps if kind == "eps outside" else np.sqrt(var + eps)
        return {
            "mean of variances": np.sqrt(np.mean(var) + eps),
            "all values": np.sqrt(x.var() + eps),
            "by feature": np.sqrt(x.reshape(-1, x.shape[-1]).var(0).mean() + eps),
            "mean of inverses": 1 / np.mean(1 / sigma),
            "median": np.median(sigma),
            "mean square": np.mean(np.sqrt(np.mean(x**2, -1) + eps)),
            "variance": np.mean(var + eps),
            "first row": sigma.ravel()[0],
            "first axis": sigma[0].mean(),
            "largest": sigma.max(),
        }.get(kind, sigma.mean())

    def freeze_layer_norm(norms: Any, activations: Any) -> Any:
        pairs = []
        for (gamma, beta, eps), x in zip(norms, activations, strict=True):
            sigma = constant(activations[0] if kind == "first norm" else x, eps)
            if kind == "one for all":
                sigma = np.mean([constant(each, eps) for each in activations])
            d = len(gamma)
            centring = np.eye(d) if kind == "not centred" else np.eye(d) - (1 if kind == "sum" else 1 / d)
            A = gamma[:, None] * centring / sigma
            A = {
                "transposed": A.T,
                "no gamma": centring / sigma,
                "times sigma": A * sigma**2,
                "no sigma": A * sigma,
                "diagonal": np.diag(gamma / sigma),
            }.get(kind, A)
            c = {
                "no beta": np.zeros(d),
                "beta over sigma": beta / sigma,
                "beta times gamma": gamma * beta,
                "mean of the batch": beta - A @ x.reshape(-1, d).mean(0),
                "mean of the batch only": beta - gamma / sigma * x.mean(),
            }.get(kind, beta.copy())
            if kind == "mean of the batch only":
                A = np.diag(gamma / sigma)
            elif kind == "in place":
                x -= x.mean(-1, keepdims=True)
            pairs.append((c, A) if kind == "swapped" else (A, c))
        return pairs

    return freeze_layer_norm


FREEZE_LAYER_NORM = Exercise(
    name="freeze_layer_norm",
    signature="freeze_layer_norm(norms, activations)",
    properties={
        "A": 3,
        "c": 1,
        "a constant for every norm": 1,
        "any number of axes": 1,
        "eps inside the square root": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_freeze(),
    mistakes={
        "the root of the mean variance instead of the mean of the roots": _freeze("mean of variances"),
        "one standard deviation of all values together": _freeze("all values"),
        "standard deviations of features over the rows, as in BatchNorm": _freeze("by feature"),
        "the mean of 1/sigma instead of that of sigma": _freeze("mean of inverses"),
        "the median of sigma instead of its mean": _freeze("median"),
        "the largest sigma instead of the mean": _freeze("largest"),
        "the sigma of the first row instead of the mean over all": _freeze("first row"),
        "root mean squares instead of standard deviations": _freeze("mean square"),
        "the mean variance, without a root": _freeze("variance"),
        "variance divided by D − 1 instead of D": _freeze("unbiased"),
        "eps added to the standard deviation, outside of the root": _freeze("eps outside"),
        "eps left out": _freeze("no eps"),
        "the constant of the first norm for all": _freeze("first norm"),
        "the mean of all norms' constants for each": _freeze("one for all"),
        "the mean of the row not subtracted": _freeze("not centred"),
        "the sum of the row subtracted instead of its mean": _freeze("sum"),
        "the mean of all activations subtracted, a constant, instead of that of the row": _freeze(
            "mean of the batch only"
        ),
        "the mean row subtracted as well: centred over the batch": _freeze("mean of the batch"),
        "A transposed: the gain multiplies before the centring": _freeze("transposed"),
        "gamma left out of A": _freeze("no gamma"),
        "sigma left out": _freeze("no sigma"),
        "multiplication by sigma instead of division": _freeze("times sigma"),
        "beta left out": _freeze("no beta"),
        "beta divided by sigma": _freeze("beta over sigma"),
        "beta multiplied by gamma": _freeze("beta times gamma"),
        "A and c swapped": _freeze("swapped"),
        "activations overwritten in place": _freeze("in place"),
    },
)
