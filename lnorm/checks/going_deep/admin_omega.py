"""Exercise 8.7: Admin's factors, measured in one pass through the network."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array
from lnorm.checks.going_deep.inputs import LAYERS
from lnorm.checks.placement.inputs import SIZES, as_branch, as_norm, draw_branches, draw_norm, stream


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 807)

    def case(tests: str, branches: int, *shape: int, **more: Any) -> Case:
        inputs = {"x": stream(rng, *shape), "branches": draw_branches(rng, level, branches)}
        return Case(tests, {**inputs, "affine": draw_norm(rng, SIZES[level][1]), **more}, tolerance=1e-8)

    tokens, d = SIZES[level]
    return [
        case("the first two branches", 2, tokens, d),
        case("many branches", 2 * LAYERS[level], tokens, d),
        case("many branches", 2 * LAYERS[level] + 1, 2, tokens, d),
        case("leaves x alone", 3, tokens, d, asks="x"),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    x = inputs["x"].copy()
    branches = [as_branch(each) for each in inputs["branches"]]
    out = {"omega": array("omega", answer(x, branches, as_norm(inputs["affine"])))}
    return out | ({"x after the call": x} if "asks" in inputs else {})


def _profile(
    size: Callable[[Any, Any], Any] = lambda added, x: added.var(),
    block: Callable[..., Any] = lambda x, added, omega, norm, f: norm(omega * x + added),
    start: float = 1.0,
    power: float = 0.5,
    own: bool = False,
    total: Callable[[float, Any], Any] = lambda before, new: before + new,
) -> Answer:
    """Return a profile that is right but for what is given.

    ``size(added, x)`` is what a branch contributes, ``block(x, added, omega, norm, f)`` the stream after it, ``own``
    whether a branch counts itself, ``total`` how contributions are put together.
    """

    def omegas(x: Any, branches: Any, norm: Answer) -> Any:
        found, sum_ = [], start
        for f in branches:
            added = f(x)
            after = total(sum_, size(added, x))
            omega = (after if own else sum_) ** power
            found.append(omega)
            x, sum_ = block(x, added, omega, norm, f), after
        return np.array(found)

    return omegas


def _in_place(x: Any, branches: Any, norm: Answer) -> Any:
    found, total = [], 1.0
    for f in branches:
        found.append(total**0.5)
        total += f(x).var()
        x[...] = norm(found[-1] * x + f(x))
    return np.array(found)


ADMIN_OMEGA = Exercise(
    name="admin_omega",
    signature="admin_omega(x, branches, norm)",
    properties={"the first two branches": 2, "many branches": 4, "leaves x alone": 1},
    cases=_cases,
    probe=_probe,
    solution=_profile(),
    mistakes={
        "a branch counts itself: the sum goes up to i, not to i − 1": _profile(own=True),
        "the sum starts at 0 instead of 1": _profile(start=0.0),
        "ω² in place of ω: the root is missing": _profile(power=1.0),
        "the reciprocal of ω": _profile(power=-0.5, block=lambda x, added, omega, norm, f: norm(x / omega + added)),
        "standard deviations are added in place of variances": _profile(lambda added, x: added.std()),
        "the mean square in place of the variance": _profile(lambda added, x: np.mean(added**2)),
        "the variance within each token, averaged over tokens": _profile(lambda added, x: added.var(axis=-1).mean()),
        "the variance of each feature over tokens, averaged over features": _profile(
            lambda added, x: added.var(axis=tuple(range(added.ndim - 1))).mean()
        ),
        "the variance of the stream in place of the branch's": _profile(lambda added, x: x.var()),
        "the variance of the sum in place of the branch's": _profile(lambda added, x: (x + added).var()),
        "only the branch before counts, not all before": _profile(total=lambda before, new: 1 + new),
        "the mean over the branches in place of the sum": _profile(total=lambda before, new: (before + new) / 2),
        "the product of 1 + Var in place of the sum": _profile(total=lambda before, new: before * (1 + new)),
        "profiled with ω = 1, as plain Post-LN": _profile(block=lambda x, added, omega, norm, f: norm(x + added)),
        "profiled without the norm": _profile(block=lambda x, added, omega, norm, f: omega * x + added),
        "profiled as Pre-LN: the norm inside the branch": _profile(
            size=lambda added, x: added.var(), block=lambda x, added, omega, norm, f: omega * x + f(norm(x))
        ),
        "ω multiplies the branch in place of the shortcut": _profile(
            block=lambda x, added, omega, norm, f: norm(x + omega * added)
        ),
        "every branch is measured on the first input": _profile(block=lambda x, added, omega, norm, f: x),
        "no shortcut: the branches one after the other": _profile(block=lambda x, added, omega, norm, f: norm(added)),
        "one ω for all, that of the whole network": lambda x, branches, norm: np.full(
            len(branches), _profile(own=True)(x, branches, norm)[-1]
        ),
        "x overwritten in place": _in_place,
    },
)
