"""Exercise 4.3: BatchNorm with the noise of Santurkar et al. behind it.

Noise can be drawn in any order, so no answer equals another. The probe calls an answer many times and returns what
does not depend on the order: how much of x̂ is in y, and the sizes of the noise.
"""

from typing import Any

import numpy as np

from lnorm import reference
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, UnusableError, array
from lnorm.checks.layer_norm.inputs import uneven_rows

CALLS, ROWS, EPS = 120, 150, 0.1
SHIFTS = "every feature has a shift"
SIZES = "every feature has a size of noise"
NEW = "new noise in every call"


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 2)
    features = {"visible": 6, "graded": 8}[level]
    x = np.ascontiguousarray(0.4 * uneven_rows(rng, features, ROWS).T)
    # The tolerances are five standard deviations or more of what is measured.
    return [
        Case("BatchNorm first, then the noise", {"x": x, "rng": seed + 20, "asks": "signal"}, 0.03),
        Case(SHIFTS, {"x": x, "rng": seed + 21, "asks": "shifts"}, 0.1),
        Case(SIZES, {"x": x, "rng": seed + 22, "asks": "sizes"}, 0.02),
        Case(NEW, {"x": x, "rng": seed + 23, "asks": "new"}, 0.1),
        Case("leaves its input alone", {"x": x, "rng": seed + 24, "asks": "input"}),
    ]


def _standardized(x: np.ndarray) -> np.ndarray:
    return reference.batch_norm(x, eps=0.0)[0]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    rng, x, asks = np.random.default_rng(inputs["rng"]), inputs["x"], inputs["asks"]
    if asks == "input":
        mine = x.copy()
        y = array("y", answer(mine, EPS, rng))
        return {"shape of y": np.array(y.shape), "x after the call": mine}
    y = np.empty((CALLS, *x.shape))  # (calls, N, C)
    for call in range(CALLS):
        came = array("y", answer(x.copy(), EPS, rng))
        if came.shape != x.shape:
            raise UnusableError(f"y has shape {came.shape}, expected that of x, {x.shape}")
        y[call] = came
    z = _standardized(x)
    share = np.mean(y * z, axis=(0, 1))  # (C,) of x̂ in y
    if asks == "signal":
        return {"share": share}
    shift = y.mean(axis=1)  # (calls, C)
    noise = y - share * z - shift[:, None]
    if asks == "shifts":
        spread = np.sqrt(np.mean(shift.var(axis=1, ddof=1)))
        return {"mean": shift.mean(), "from feature to feature": spread, "over all": np.sqrt(np.mean(shift**2))}
    if asks == "sizes":
        size = noise.std(axis=1)  # (calls, C)
        shared = np.sqrt(np.mean(noise.mean(axis=2) ** 2))
        return {"mean": size.mean(), "from feature to feature": size.std(axis=1).mean(), "shared": shared}
    return {"of the shifts": shift.std(axis=0).mean(), "of the noise": noise.std(axis=0).mean()}


def _verify(case: Case, outputs: Outputs) -> str:
    asks, x = case.inputs["asks"], case.inputs["x"]
    if asks == "input":
        if not np.array_equal(outputs["shape of y"], x.shape):
            return f"y has shape {tuple(map(int, outputs['shape of y']))}, expected that of x, {x.shape}"
        return "" if np.array_equal(outputs["x after the call"], x) else "x was overwritten"
    if not all(np.isfinite(each).all() for each in outputs.values()):
        return "y contains values that are not finite"
    if asks == "signal":
        wrong = np.abs(outputs["share"] - x.std(axis=0) / np.sqrt(x.var(axis=0) + EPS)) > case.tolerance
        return f"averaged over many calls, y is not x̂ in {wrong.sum()} of {len(wrong)} features" if wrong.any() else ""
    features = x.shape[1]
    expected = {
        "shifts": {"mean": 0.0, "from feature to feature": 0.5, "over all": 0.5},
        # Of a uniform variable the standard deviation is range/√12; that of the estimate adds to it.
        "sizes": {
            "mean": 0.625,
            "from feature to feature": 0.080 * np.sqrt(1 - 1 / features),
            "shared": 0.63 / np.sqrt(features),
        },
        "new": {"of the shifts": 0.5, "of the noise": 0.63},
    }[asks]
    what = {
        "shifts": {
            "mean": "the mean of the shifts",
            "from feature to feature": "how much the shift differs from feature to feature",
            "over all": "the size of the shifts",
        },
        "sizes": {
            "mean": "the mean size of the noise",
            "from feature to feature": "how much the size differs from feature to feature",
            "shared": "the part of the noise that all features share",
        },
        "new": {
            "of the shifts": "how much a feature's shift changes from call to call",
            "of the noise": "how much the noise of an entry changes from call to call",
        },
    }[asks]
    for name, right in expected.items():
        if abs(came := float(outputs[name]) - right) > case.tolerance:
            return f"{what[name]}: too {'large' if came > 0 else 'small'} by about {abs(came):.1g}"
    return ""


def _noisy(kind: str = "") -> Answer:
    """Return BatchNorm with noise that is right but for one thing; ``kind`` empty for the right one."""

    def noisy_batch_norm(x: np.ndarray, eps: float, rng: np.random.Generator) -> Any:
        features = x.shape[1]
        if kind == "the same":
            rng = np.random.default_rng(0)
        shift, size = rng.normal(0, 0.5, (1, features)), rng.uniform(0.5, 0.75, (1, features))
        z = rng.normal(size=x.shape)
        if kind == "one shift":
            shift = shift[:, :1]
        elif kind == "one size":
            size = size[:, :1]
        elif kind == "shift by row":
            shift = 0.5 * rng.normal(size=x.shape)
        elif kind == "shift of 0.25":
            shift = shift / 2
        elif kind == "no shift":
            shift = 0 * shift
        elif kind == "positive":
            shift = np.abs(shift)
        elif kind == "root":
            size = np.sqrt(size)
        elif kind == "shared by rows":
            z = z[:1]
        elif kind == "shared by features":
            z = z[:, :1]
        elif kind == "no noise":
            z = 0 * z
        noise = shift + size * z
        if kind == "before":
            return reference.batch_norm(x + noise, eps=eps)[0]
        if kind == "no norm":
            return x + noise
        if kind == "no eps":
            return _standardized(x) + noise
        if kind == "eps outside":
            return (x - x.mean(axis=0)) / (x.std(axis=0) + eps) + noise
        if kind == "rows":
            return reference.layer_norm(x, features, eps=eps)[0] + noise
        if kind == "multiplied":
            return reference.batch_norm(x, eps=eps)[0] * noise
        if kind == "in place":
            x -= x.mean(axis=0)
        return reference.batch_norm(x, eps=eps)[0] + noise

    return noisy_batch_norm


NOISY_BATCH_NORM = Exercise(
    name="noisy_batch_norm",
    signature="noisy_batch_norm(x, eps, rng)",
    properties={
        "BatchNorm first, then the noise": 2,
        SHIFTS: 1,
        SIZES: 1,
        NEW: 1,
        "leaves its input alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_noisy(),
    verify=_verify,
    forbids=(
        "lnorm.reference.batch_norm",
        "torch.nn.functional.batch_norm",
        "torch.nn.BatchNorm1d",
        "torch.batch_norm",
    ),
    mistakes={
        "noise before BatchNorm, which takes the shift out again": _noisy("before"),
        "the same noise in every call": _noisy("the same"),
        "one shift for all features": _noisy("one shift"),
        "a shift for every row instead of one for the batch": _noisy("shift by row"),
        "shifts half as large: 0.5² taken for the standard deviation": _noisy("shift of 0.25"),
        "the shift left out": _noisy("no shift"),
        "shifts that are all positive": _noisy("positive"),
        "one size for all features": _noisy("one size"),
        "the size taken for a variance": _noisy("root"),
        "noise that all rows share": _noisy("shared by rows"),
        "noise that all features of a row share": _noisy("shared by features"),
        "the noise left out: only the shift is there": _noisy("no noise"),
        "the noise multiplied instead of added": _noisy("multiplied"),
        "x itself instead of its BatchNorm": _noisy("no norm"),
        "eps left out": _noisy("no eps"),
        "eps added to the standard deviation, outside the square root": _noisy("eps outside"),
        "mean and variance over the features (this is LayerNorm)": _noisy("rows"),
        "x overwritten in place": _noisy("in place"),
    },
)
