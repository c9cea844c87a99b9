"""Exercise 3.3: how much of the input a gain and a bias can bring back."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array


def _r2_cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 2)
    rows, d = {"visible": (40, 5), "graded": (60, 7)}[level]
    z = rng.normal(size=(rows, d))
    noise = rng.normal(size=(rows, d))
    slopes, shifts = rng.uniform(0.5, 3.0, size=d) * rng.choice([-1.0, 1.0], size=d), rng.normal(scale=5.0, size=d)
    exact = slopes * z + shifts
    noisy = exact + noise * rng.uniform(0.2, 3.0, size=d)
    dead = z.copy()
    dead[:, 1] = 4.0
    return [
        Case("a map that exists: R² = 1", {"z": z, "x": exact}),
        Case("a slope for each feature", {"z": z, "x": noisy}),
        Case("a slope for each feature", {"z": z + 3.0, "x": noisy}),
        Case("all features pooled in one R²", {"z": z, "x": noisy * rng.uniform(0.1, 10.0, size=d)}),
        Case("a constant feature in z", {"z": dead, "x": noisy}),
        Case("leaves its inputs alone", {"z": z, "x": noisy, "asks": "inputs"}),
    ]


def _r2_probe(answer: Answer, inputs: Inputs) -> Outputs:
    z, x = inputs["z"].copy(), inputs["x"].copy()
    r2 = array("R²", answer(z, x))
    return {"R²": r2} | ({"z after the call": z, "x after the call": x} if "asks" in inputs else {})


def _fit(z: Any, x: Any) -> tuple[Any, Any, Any]:
    zc, xc = z - z.mean(0), x - x.mean(0)
    ss = np.sum(zc**2, 0)
    return zc, xc, np.divide(np.sum(zc * xc, 0), ss, out=np.zeros_like(ss), where=ss > 0)


def _r2_solution(z: Any, x: Any) -> Any:
    zc, xc, slope = _fit(z, x)
    return 1 - np.sum((xc - slope * zc) ** 2) / np.sum(xc**2)


def _r2_one_slope(z: Any, x: Any) -> Any:
    zc, xc = z - z.mean(), x - x.mean()
    slope = np.sum(zc * xc) / np.sum(zc**2)
    return 1 - np.sum((xc - slope * zc) ** 2) / np.sum(xc**2)


def _r2_shared_slope(z: Any, x: Any) -> Any:
    zc, xc = z - z.mean(0), x - x.mean(0)
    slope = np.sum(zc * xc) / np.sum(zc**2)
    return 1 - np.sum((xc - slope * zc) ** 2) / np.sum(xc**2)


def _r2_no_intercept(z: Any, x: Any) -> Any:
    slope = np.sum(z * x, 0) / np.sum(z**2, 0)
    return 1 - np.sum((x - slope * z) ** 2) / np.sum((x - x.mean(0)) ** 2)


def _r2_averaged(z: Any, x: Any) -> Any:
    zc, xc, slope = _fit(z, x)
    return np.mean(1 - np.sum((xc - slope * zc) ** 2, 0) / np.sum(xc**2, 0))


def _r2_total_mean(z: Any, x: Any) -> Any:
    zc, xc, slope = _fit(z, x)
    return 1 - np.sum((xc - slope * zc) ** 2) / np.sum((x - x.mean()) ** 2)


def _r2_uncentred(z: Any, x: Any) -> Any:
    zc, xc, slope = _fit(z, x)
    return 1 - np.sum((xc - slope * zc) ** 2) / np.sum(x**2)


def _r2_wrong_way(z: Any, x: Any) -> Any:
    return _r2_solution(x, z)


def _r2_divides_by_zero(z: Any, x: Any) -> Any:
    zc, xc = z - z.mean(0), x - x.mean(0)
    with np.errstate(all="ignore"):
        slope = np.sum(zc * xc, 0) / np.sum(zc**2, 0)
        return 1 - np.sum((xc - slope * zc) ** 2) / np.sum(xc**2)


def _r2_unexplained(z: Any, x: Any) -> Any:
    return 1 - _r2_solution(z, x)


def _r2_in_place(z: Any, x: Any) -> Any:
    result = _r2_solution(z, x)
    z -= z.mean(0)
    return result


BEST_AFFINE_R2 = Exercise(
    name="best_affine_r2",
    signature="best_affine_r2(z, x)",
    properties={
        "a map that exists: R² = 1": 1,
        "a slope for each feature": 2,
        "all features pooled in one R²": 1,
        "a constant feature in z": 1,
        "leaves its inputs alone": 1,
    },
    cases=_r2_cases,
    probe=_r2_probe,
    solution=_r2_solution,
    forbids=("lnorm.experiments.undo.recovered",),
    mistakes={
        "one slope and one intercept for all features": _r2_one_slope,
        "one slope for all features": _r2_shared_slope,
        "no intercept": _r2_no_intercept,
        "one R² per feature, averaged": _r2_averaged,
        "the total taken around one mean for all features": _r2_total_mean,
        "the total not taken around the mean": _r2_uncentred,
        "the map from x to z instead of from z to x": _r2_wrong_way,
        "a division by zero where a feature of z is constant": _r2_divides_by_zero,
        "the unexplained share instead of the explained one": _r2_unexplained,
        "z overwritten in place": _r2_in_place,
    },
)
