"""Exercise 7.5: two schedules that start small."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

WARM = {"visible": 10, "graded": 37}
FEATURES = {"visible": 64, "graded": 48}


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 705)
    warm, d = WARM[level] + int(rng.integers(5)), FEATURES[level]
    rate = float(rng.uniform(1e-3, 5e-3))

    def case(tests: str, *steps: int, warm: int = warm, d_model: int | None = None, rate: float = rate) -> Case:
        return Case(tests, {"steps": steps, "warm": warm, "rate": rate, "d_model": d_model}, tolerance=1e-12)

    return [
        case("the rise", 1, 2, warm // 2, warm - 1),
        case("what follows the rise", warm, warm + 1, 3 * warm, 40 * warm),
        case("no warm-up", 1, 2, 500, warm=0),
        case("no warm-up", 1, 2, 500, warm=1),
        case("Noam: the rise", 1, 2, warm // 2, warm - 1, d_model=d, rate=1.0),
        case("Noam: the rise", 1, 3, warm - 1, d_model=3 * d, rate=2.0),
        case("Noam: the fall", warm, warm + 1, 3 * warm, 40 * warm, d_model=d, rate=1.0),
        case("Noam: the fall", warm, 4 * warm, d_model=3 * d, rate=2.0),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    warm, rate, d_model = inputs["warm"], inputs["rate"], inputs["d_model"]
    more = () if d_model is None else (d_model,)
    return {"rates": np.array([array("the rate", answer(step, warm, rate, *more)) for step in inputs["steps"]])}


def _linear(step: Any, warm: int, rate: float) -> Any:
    return rate * min(1.0, step / warm) if warm else rate


def _noam(step: Any, warm: int, rate: float, d_model: int) -> Any:
    return rate * d_model**-0.5 * min(step**-0.5, step * warm**-1.5)


def _schedule(linear: Callable[..., Any] = _linear, noam: Callable[..., Any] = _noam) -> Answer:
    def warm_up(step: int, warm: int, rate: float, d_model: int | None = None) -> Any:
        return linear(step, warm, rate) if d_model is None else noam(step, warm, rate, d_model)

    return warm_up


def _earlier(step: int, warm: int, rate: float, d_model: int | None = None) -> Any:
    return 0.0 if step == 1 else _schedule()(step - 1, warm, rate, d_model)


def _later(step: int, warm: int, rate: float, d_model: int | None = None) -> Any:
    return _schedule()(step + 1, warm, rate, d_model)


WARM_UP = Exercise(
    name="warm_up",
    signature="warm_up(step, warm, rate, d_model=None)",
    properties={
        "the rise": 1,
        "what follows the rise": 1,
        "no warm-up": 1,
        "Noam: the rise": 2,
        "Noam: the fall": 2,
    },
    cases=_cases,
    probe=_probe,
    solution=_schedule(),
    forbids=("lnorm.training.warm_up",),
    mistakes={
        "steps counted from 0: the first step has a rate of 0": _earlier,
        "one step too far: the warm-up ends at step warm − 1": _later,
        "the larger of the two pieces in place of the smaller: max instead of min": _schedule(
            lambda step, warm, rate: rate * max(1.0, step / max(warm, 1)),
            lambda step, warm, rate, d: rate * d**-0.5 * max(step**-0.5, step * warm**-1.5),
        ),
        "the rise never ends": _schedule(lambda step, warm, rate: rate * step / max(warm, 1)),
        "the rate is 0 when the warm-up is over": _schedule(
            lambda step, warm, rate: _linear(step, warm, rate) if step <= warm else 0.0
        ),
        "warm = 0 divides by zero": _schedule(lambda step, warm, rate: rate * min(1.0, step / warm)),
        "no warm-up means a rate of 0": _schedule(lambda step, warm, rate: _linear(step, warm, rate) if warm else 0.0),
        "whole-number division: 0 until the warm-up is over": _schedule(
            lambda step, warm, rate: rate * min(1, step // warm) if warm else rate
        ),
        "a quadratic rise": _schedule(lambda step, warm, rate: rate * min(1.0, step / warm) ** 2 if warm else rate),
        "the rise is that of a root": _schedule(
            lambda step, warm, rate: rate * min(1.0, step / warm) ** 0.5 if warm else rate
        ),
        "always the full rate": _schedule(lambda step, warm, rate: rate),
        "Noam without d_model": _schedule(noam=lambda step, warm, rate, d: _noam(step, warm, rate, 1)),
        "Noam multiplied by √d_model instead of divided": _schedule(
            noam=lambda step, warm, rate, d: _noam(step, warm, rate, d) * d
        ),
        "Noam divided by d_model instead of its root": _schedule(
            noam=lambda step, warm, rate, d: _noam(step, warm, rate, d) * d**-0.5
        ),
        "Noam without the factor rate": _schedule(noam=lambda step, warm, rate, d: _noam(step, warm, 1.0, d)),
        "Noam: the rise is divided by warm, and the pieces do not meet": _schedule(
            noam=lambda step, warm, rate, d: rate * d**-0.5 * (step / warm if step < warm else step**-0.5)
        ),
        "Noam: the peak is 1/√d_model: the fall starts anew at the end of the warm-up": _schedule(
            noam=lambda step, warm, rate, d: rate * d**-0.5 * min(step / warm, (warm / step) ** 0.5)
        ),
        "Noam: a fall like 1/step": _schedule(
            noam=lambda step, warm, rate, d: rate * d**-0.5 * warm**-0.5 * min(step / warm, warm / step)
        ),
        "Noam: the rate stays after the warm-up, nothing falls": _schedule(
            noam=lambda step, warm, rate, d: rate * (d * warm) ** -0.5 * min(1.0, step / warm)
        ),
        "Noam: no rise, the fall from the first step on": _schedule(
            noam=lambda step, warm, rate, d: rate * (d * step) ** -0.5
        ),
        "d_model is ignored: always the linear schedule": _schedule(
            noam=lambda step, warm, rate, d: _linear(step, warm, rate)
        ),
    },
)
