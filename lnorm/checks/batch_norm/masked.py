"""Exercise 2.6: BatchNorm of padded sequences."""

from typing import Any

import numpy as np

from lnorm import reference
from lnorm.checks.batch_norm.inputs import SIZES, affine, uneven_features
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 206)
    n, t, d = SIZES[level]

    def case(tests: str, padding: float = 0.0, eps: float = 1e-12, scale: float = 1.0, **more: Any) -> Case:
        """Return sequences of unequal length, padded with numbers of about this size."""
        x = scale * uneven_features(rng, n, t + 2, d)
        lengths = rng.permutation(np.arange(n) % (t + 2) + 1)
        mask = np.arange(t + 2) < lengths[:, None]
        x[~mask] = padding * rng.uniform(0.5, 1.5, size=x[~mask].shape)
        gamma, beta = affine(rng, d)
        return Case(tests, {"x": x, "mask": mask, "gamma": gamma, "beta": beta, "eps": eps} | more)

    plain = case("values at the kept positions")
    holes = {**plain.inputs, "mask": rng.permuted(plain.inputs["mask"].copy(), axis=1)}
    return [
        Case("values at the kept positions", {**plain.inputs, "asks": "kept"}),
        case("values at the kept positions", asks="kept"),
        case("the amount of padding does not matter", asks="kept", longer=7),
        Case("a mask with holes", holes | {"x": uneven_features(rng, n, t + 2, d), "asks": "kept"}),
        case("zeros at the others", padding=5.0, asks="all"),
        case("whatever the padding holds", padding=1e6, asks="all"),
        case("whatever the padding holds", padding=np.nan, asks="all"),
        case("eps inside the square root", eps=0.1, scale=0.3, asks="kept"),
        Case("leaves its inputs alone", {**plain.inputs, "asks": "inputs"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    x, mask, gamma, beta = (inputs[name].copy() for name in ("x", "mask", "gamma", "beta"))
    if more := inputs.get("longer", 0):
        x = np.pad(x, ((0, 0), (0, more), (0, 0)))
        mask = np.pad(mask, ((0, 0), (0, more)))
    before = mask.copy()
    y = array("y", answer(x, mask, gamma, beta, inputs["eps"]))
    if inputs["asks"] == "kept" and y.shape == x.shape:
        return {"y[mask]": y[before]}
    after = {"x after the call": x, "mask after the call": mask.astype(int)}
    return {"y": y} | (after if inputs["asks"] == "inputs" else {})


def _solution(x: Any, mask: Any, gamma: Any, beta: Any, eps: float) -> Any:
    return reference.masked_batch_norm(x, mask, gamma, beta, eps)[0]


def _wrong(
    mean_of: Any = lambda x, mask: x[mask].mean(axis=0),
    var_of: Any = lambda x, mask, mean: np.mean((x[mask] - mean) ** 2, axis=0),
    normal: Any = lambda x, mean, var, eps: (x - mean) / np.sqrt(var + eps),
    affine: Any = lambda z, gamma, beta: gamma * z + beta,
    finish: Any = lambda y, mask, x: np.where(mask[..., None], y, 0.0),
) -> Answer:
    """Return a masked norm that is wrong in one step."""

    def masked_batch_norm(x: Any, mask: Any, gamma: Any, beta: Any, eps: float) -> Any:
        mean = mean_of(x, mask)
        return finish(affine(normal(x, mean, var_of(x, mask, mean), eps), gamma, beta), mask, x)

    return masked_batch_norm


def _by_sequence(x: Any, mask: Any, gamma: Any, beta: Any, eps: float) -> Any:
    pairs = zip(x, mask, strict=True)
    return np.stack([_wrong()(each[None], its[None], gamma, beta, eps)[0] for each, its in pairs])


def _by_position(x: Any, mask: Any, gamma: Any, beta: Any, eps: float) -> Any:
    return _by_sequence(x.swapaxes(0, 1), mask.T, gamma, beta, eps).swapaxes(0, 1)


def _count_all(x: Any, mask: Any, mean: Any) -> Any:
    return np.sum((x[mask] - mean) ** 2, axis=0) / mask.size


def _multiplies(x: Any, mask: Any, gamma: Any, beta: Any, eps: float) -> Any:
    m, n = mask[..., None], mask.sum()
    mean = np.sum(x * m, (0, 1)) / n
    var = np.sum(((x - mean) * m) ** 2, (0, 1)) / n
    return (gamma * (x - mean) / np.sqrt(var + eps) + beta) * m


def _mean_of_means(x: Any, mask: Any) -> Any:
    return np.mean([each[its].mean(axis=0) for each, its in zip(x, mask, strict=True)], axis=0)


def _in_place(x: Any, mask: Any, gamma: Any, beta: Any, eps: float) -> Any:
    y = _solution(x, mask, gamma, beta, eps)
    x[~mask] = -1.0
    return y


MASKED_BATCH_NORM = Exercise(
    name="masked_batch_norm",
    signature="masked_batch_norm(x, mask, gamma, beta, eps)",
    properties={
        "values at the kept positions": 2,
        "the amount of padding does not matter": 1,
        "a mask with holes": 1,
        "zeros at the others": 1,
        "whatever the padding holds": 1,
        "eps inside the square root": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_solution,
    forbids=(
        "lnorm.reference.masked_batch_norm",
        "lnorm.reference.batch_norm",
        "torch.nn.functional.batch_norm",
        "torch.batch_norm",
    ),
    mistakes={
        "the mask ignored in the statistics": _wrong(
            lambda x, mask: x.mean((0, 1)), lambda x, mask, mean: np.mean((x - mean) ** 2, (0, 1))
        ),
        "the mask ignored everywhere": _wrong(
            lambda x, mask: x.mean((0, 1)),
            lambda x, mask, mean: np.mean((x - mean) ** 2, (0, 1)),
            finish=lambda y, mask, x: y,
        ),
        "padded positions counted in N: sums divided by all positions": _wrong(
            lambda x, mask: x[mask].sum(axis=0) / mask.size, _count_all
        ),
        "padded positions counted in N, for the variance only": _wrong(var_of=_count_all),
        "padded positions counted in the variance as deviations of 0 from the mean": _wrong(
            var_of=lambda x, mask, mean: np.mean((np.where(mask[..., None], x, 0.0) - mean) ** 2, (0, 1))
        ),
        "the number of sequences taken for N": _wrong(
            lambda x, mask: x[mask].sum(axis=0) / len(x),
            lambda x, mask, mean: np.sum((x[mask] - mean) ** 2, axis=0) / len(x),
        ),
        "every sequence normalized for itself": _by_sequence,
        "every time step normalized for itself": _by_position,
        "the mean of the sequences' means, long and short ones alike": _wrong(_mean_of_means),
        "the mask upside down": _wrong(
            lambda x, mask: x[~mask].mean(axis=0), lambda x, mask, mean: x[~mask].var(axis=0)
        ),
        "variance divided by N − 1 instead of N": _wrong(var_of=lambda x, mask, mean: x[mask].var(axis=0, ddof=1)),
        "eps added to the standard deviation, outside the square root": _wrong(
            normal=lambda x, mean, var, eps: (x - mean) / (np.sqrt(var) + eps)
        ),
        "eps left out": _wrong(normal=lambda x, mean, var, eps: (x - mean) / np.sqrt(var)),
        "gamma left out": _wrong(affine=lambda z, gamma, beta: z + beta),
        "beta left out": _wrong(affine=lambda z, gamma, beta: gamma * z),
        "the normalized padding left in the output": _wrong(finish=lambda y, mask, x: y),
        "the padding itself left in the output": _wrong(finish=lambda y, mask, x: np.where(mask[..., None], y, x)),
        "beta at the padded positions": lambda x, mask, gamma, beta, eps: np.where(
            mask[..., None], _solution(x, mask, gamma, beta, eps), beta
        ),
        "multiplication by the mask, which keeps a NaN": _multiplies,
        "x overwritten in place": _in_place,
    },
)
