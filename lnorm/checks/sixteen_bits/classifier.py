"""Exercise 10.6: which variance made these outputs?"""

from collections.abc import Callable

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, UnusableError

ONE, TWO = "one pass", "two passes"
NEAR, FAR = "rows whose mean is some hundred times their spread", "rows some thousand times as far as wide"
NANS, SPREAD = "outputs that are not numbers", "rows that are not of size 1"


def _mean(x: np.ndarray) -> np.ndarray:
    return x.mean(-1, keepdims=True)


def _one_pass(x: np.ndarray) -> np.ndarray:
    return _mean(x * x) - _mean(x) ** 2  # counter-example: this cancels


def _two_passes(x: np.ndarray) -> np.ndarray:
    return _mean((x - _mean(x)) ** 2)


def _layer_norm(x: np.ndarray, variance: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return (x - _mean(x)) / np.sqrt(variance(x))


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 5)
    n, d = (20, 64) if level == "visible" else (24, 80)

    def case(tests: str, ratio: float, std: float = 1.0, variance: Callable[..., np.ndarray] = _one_pass) -> Case:
        x = (std * (ratio + rng.normal(size=(n, d)))).astype(np.float32)
        order = "one first" if rng.random() < 0.5 else "two first"
        return Case(
            tests, {"x": x, "one": _layer_norm(x, variance), "two": _layer_norm(x, _two_passes), "order": order}
        )

    near, far = ((150.0, 500.0), (2000.0, 6000.0)) if level == "graded" else ((300.0,), (3000.0,))
    return [
        *(case(NEAR, ratio) for ratio in near),
        *(case(FAR, ratio, variance=lambda x: np.abs(_one_pass(x)) + np.float32(1e-3)) for ratio in far),
        case(NANS, 12000.0),
        case(NANS, -15000.0),
        case(SPREAD, 400.0, std=1e-3),
        case(SPREAD, -400.0, std=100.0),
        case(SPREAD, 5000.0, std=0.01, variance=lambda x: np.abs(_one_pass(x)) + np.float32(1e-7)),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    out = {}
    for which in ("one", "two") if inputs["order"] == "one first" else ("two", "one"):
        found = answer(inputs["x"].copy(), inputs[which].copy())
        if found not in (ONE, TWO):
            came = repr(found)[:40] if isinstance(found, str) else type(found).__name__
            raise UnusableError(f'expected "{ONE}" or "{TWO}", got {came}')
        out[which] = np.array(found == ONE)
    return dict(sorted(out.items()))


def _verify(case: Case, outputs: Outputs) -> str:
    if outputs["one"] and not outputs["two"]:
        return ""
    if not outputs["one"]:
        return "outputs came from one pass, and your function says two"
    return "outputs came from two passes, and your function says one"


def _error(x: np.ndarray, y: np.ndarray) -> float:
    wide = x.astype(float)
    return float(np.abs(y - _layer_norm(wide, _two_passes)).max())


def _by(threshold: Callable[[np.ndarray], float], nan_is: str = ONE) -> Answer:
    """Return an answer that calls it one pass if the largest error exceeds a threshold made from x."""

    def one_or_two_passes(x: np.ndarray, y: np.ndarray) -> str:
        error = _error(x, y)
        if np.isnan(error):
            return nan_is
        return ONE if error > threshold(x) else TWO

    return one_or_two_passes


def _ratio(x: np.ndarray) -> float:
    wide = x.astype(float)
    return float(np.mean(np.abs(wide.mean(-1)) / wide.std(-1)))


U = 2.0**-24
ONE_OR_TWO_PASSES = Exercise(
    name="one_or_two_passes",
    signature="one_or_two_passes(x, y)",
    properties={NEAR: 2, FAR: 2, NANS: 1, SPREAD: 1},
    cases=_cases,
    probe=_probe,
    solution=_by(lambda x: U * _ratio(x) ** 1.5),
    verify=_verify,
    mistakes={
        "only a look for NaN, which misses wrong numbers": _by(lambda x: np.inf),
        "NaN taken for two passes": _by(lambda x: U * _ratio(x) ** 1.5, nan_is=TWO),
        "a fixed threshold of 1e-6, which two passes exceed too": _by(lambda x: 1e-6),
        "a fixed threshold of 0.1, which one pass does not reach near zero": _by(lambda x: 0.1),
        "the mean not divided by the spread of the rows": _by(lambda x: U * float(np.abs(x.mean())) ** 1.5),
        "a threshold that does not grow with the distance": _by(lambda x: U),
        "a threshold that grows with the square of the distance, as one pass does": _by(
            lambda x: 8 * U * _ratio(x) ** 2
        ),
        "the mean of the outputs, which both leave near zero": lambda x, y: ONE if abs(y.mean()) > 0.01 else TWO,
        "the two names swapped": lambda x, y: TWO if _error(x, y) > U * _ratio(x) ** 1.5 else ONE,
        "one pass, whatever came out": lambda x, y: ONE,
        "two passes, whatever came out": lambda x, y: TWO,
    },
)
