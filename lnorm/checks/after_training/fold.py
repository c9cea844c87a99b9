"""Exercise 13.4: a gain and a bias folded into all linear layers that read the norm."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, UnusableError, array, arrays

SIZES = {"visible": (4, (4, 3)), "graded": (5, (5, 5, 7))}  # features, outputs of the readers


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed)
    d, outs = SIZES[level]
    gamma = rng.uniform(0.5, 3.0, size=d) * rng.choice([-1.0, 1.0], size=d)
    readers = tuple((rng.normal(size=(out, d)), rng.normal(loc=2.0, size=out)) for out in outs)
    plain = {"gamma": gamma, "beta": rng.normal(size=d), "readers": readers}
    dead = {**plain, "gamma": np.where(np.arange(d) == 1, 0.0, gamma)}
    x_hat = rng.normal(size=(6, d))
    return [
        Case("weights", {**plain, "asks": "W"}),
        Case("biases", {**plain, "asks": "b"}),
        Case("the same outputs behind the bare norm", {**plain, "x_hat": x_hat, "asks": "layer"}),
        Case("a gain of 0", {**dead, "x_hat": x_hat, "asks": "layer"}),
        Case("readers without bias", {**plain, "readers": tuple((W,) for W, _ in readers), "asks": "b"}),
        Case("leaves its inputs alone", {**plain, "asks": "inputs"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    gamma, beta = inputs["gamma"].copy(), inputs["beta"].copy()
    readers = [(W.copy(), *(b.copy() for b in bias)) if bias else (W.copy(), None) for W, *bias in inputs["readers"]]
    folded = answer(gamma, beta, list(readers))
    if not isinstance(folded, (list, tuple)) or len(folded) != len(readers):
        came = f"{len(folded)} of them" if isinstance(folded, (list, tuple)) else type(folded).__name__
        raise UnusableError(f"expected a list of pairs (W, b), one for each reader; got {came}")
    out: dict[str, np.ndarray] = {}
    for i, pair in enumerate(folded):
        W, b = arrays((f"W of reader {i}", f"b of reader {i}"), pair).values()
        if inputs["asks"] == "layer":
            out[f"output of reader {i}"] = inputs["x_hat"] @ W.T + b
        out |= {f"W of reader {i}": W} if inputs["asks"] in ("W", "inputs") else {}
        out |= {f"b of reader {i}": b} if inputs["asks"] in ("b", "inputs") else {}
    if inputs["asks"] == "inputs":
        out |= {"gamma after the call": gamma, "beta after the call": beta}
        for i, (W, b) in enumerate(readers):
            out |= {f"old W {i} after the call": W, f"old b {i} after the call": array("b", b)}
    return out


def _each(fold: Any) -> Answer:
    """Return an answer that folds every reader in this way: ``fold(gamma, beta, W, b)``, with b = 0 for None."""

    def fold_gamma(gamma: Any, beta: Any, readers: Any) -> Any:
        return [fold(gamma, beta, W, np.zeros(len(W)) if b is None else b) for W, b in readers]

    return fold_gamma


def _only_first(gamma: Any, beta: Any, readers: Any) -> Any:
    return [_right(gamma, beta, readers)[0], *((W, np.zeros(len(W)) if b is None else b) for W, b in readers[1:])]


def _last_forgotten(gamma: Any, beta: Any, readers: Any) -> Any:
    *most, _ = _right(gamma, beta, readers)
    W, b = readers[-1]
    return [*most, (W, np.zeros(len(W)) if b is None else b)]


def _shared_out(gamma: Any, beta: Any, readers: Any) -> Any:
    return _right(gamma ** (1 / len(readers)) if (gamma > 0).all() else gamma / len(readers), beta, readers)


def _one_after_the_other(gamma: Any, beta: Any, readers: Any) -> Any:
    out, scale = [], np.ones_like(gamma)
    for W, b in readers:
        scale = scale * gamma
        out.append((W * scale, W @ beta + (0 if b is None else b)))
    return out


def _none_stays(gamma: Any, beta: Any, readers: Any) -> Any:
    return [(W * gamma, None if b is None else b + W @ beta) for W, b in readers]


def _in_place(gamma: Any, beta: Any, readers: Any) -> Any:
    out = []
    for W, b in readers:
        b = W @ beta + (0 if b is None else b)
        W *= gamma
        out.append((W, b))
    return out


_right = _each(lambda gamma, beta, W, b: (W * gamma, W @ beta + b))

FOLD_GAMMA = Exercise(
    name="fold_gamma",
    signature="fold_gamma(gamma, beta, readers)",
    properties={
        "weights": 2,
        "biases": 2,
        "the same outputs behind the bare norm": 1,
        "a gain of 0": 1,
        "readers without bias": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_right,
    forbids=("lnorm.nn.fold_gain",),
    mistakes={
        "beta forgotten: b is left as it was": _each(lambda gamma, beta, W, b: (W * gamma, b)),
        "beta added to b without going through W": _each(
            lambda gamma, beta, W, b: (W * gamma, b + np.resize(beta, b.shape))
        ),
        "the rows of W scaled instead of its columns": _each(
            lambda gamma, beta, W, b: (W * np.resize(gamma, len(W))[:, None], W @ beta + b)
        ),
        "only the first reader folded": _only_first,
        "the last reader forgotten": _last_forgotten,
        "beta sent through the new W, so that it is scaled by gamma": _each(
            lambda gamma, beta, W, b: (W * gamma, (W * gamma) @ beta + b)
        ),
        "W divided by gamma": _each(lambda gamma, beta, W, b: (W / gamma, W @ beta + b)),
        "beta divided by gamma and sent through the new W, which fails for a gain of 0": _each(
            lambda gamma, beta, W, b: (W * gamma, (W * gamma) @ (beta / gamma) + b)
        ),
        "the old b dropped": _each(lambda gamma, beta, W, b: (W * gamma, W @ beta)),
        "beta subtracted": _each(lambda gamma, beta, W, b: (W * gamma, b - W @ beta)),
        "W left as it was": _each(lambda gamma, beta, W, b: (W.copy(), W @ beta + b)),
        "the gain shared out among the readers": _shared_out,
        "gamma applied once more for every further reader": _one_after_the_other,
        "1 + gamma as the gain": _each(lambda gamma, beta, W, b: (W * (1 + gamma), W @ beta + b)),
        "a reader without bias left without one, and beta lost": _none_stays,
        "W overwritten in place": _in_place,
    },
)
