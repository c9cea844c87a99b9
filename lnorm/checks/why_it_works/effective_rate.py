"""Exercise 4.2: what a learning rate is worth in front of a norm."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

SHAPES = {"visible": [(3, 5), (4, 2, 3)], "graded": [(7, 4), (11,), (5, 2, 3, 4)]}


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 1)
    first, *others = SHAPES[level]

    def case(tests: str, shape: tuple[int, ...], optimizer: str, **more: Any) -> Case:
        w = rng.uniform(0.3, 3.0) * rng.normal(loc=0.5, size=shape)
        return Case(tests, {"lr": float(rng.uniform(1.0, 20.0)), "w": w, "optimizer": optimizer, **more})

    return [
        case("SGD, a matrix", first, "sgd"),
        case("Adam, a matrix", first, "adam"),
        *(case("weights of any shape", shape, optimizer) for shape in others for optimizer in ("sgd", "adam")),
        case("leaves the weights alone", first, "sgd", asks="inputs"),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    w = inputs["w"].copy()
    rate = array("effective rate", answer(inputs["lr"], w, inputs["optimizer"]))
    return {"effective rate": rate} | ({"w after the call": w} if "asks" in inputs else {})


def _frobenius(w: np.ndarray) -> Any:
    return np.sqrt(np.sum(w**2))


def _rate(size: Callable[[np.ndarray], Any] = _frobenius, sgd: float = 2, adam: float = 1) -> Answer:
    """Return the rule that divides the rate by these powers of a size of the weights."""
    powers = {"sgd": sgd, "adam": adam}
    return lambda lr, w, optimizer: lr / size(w) ** powers[optimizer]


def _normalized_in_place(lr: float, w: np.ndarray, optimizer: str) -> Any:
    rate = _rate()(lr, w, optimizer)
    w /= _frobenius(w)
    return rate


EFFECTIVE_LR = Exercise(
    name="effective_lr",
    signature="effective_lr(lr, w, optimizer)",
    properties={"SGD, a matrix": 1, "Adam, a matrix": 1, "weights of any shape": 1, "leaves the weights alone": 1},
    cases=_cases,
    probe=_probe,
    solution=_rate(),
    mistakes={
        "the norm not squared, for SGD": _rate(sgd=1),
        "the norm squared, for Adam too": _rate(adam=2),
        "the rules of SGD and Adam swapped": _rate(sgd=1, adam=2),
        "the mean square instead of the sum of squares": _rate(lambda w: np.sqrt(np.mean(w**2))),
        "the largest singular value instead of the norm of all entries": _rate(lambda w: np.linalg.norm(w, 2)),
        "a norm for each row instead of one for all": _rate(lambda w: np.sqrt(np.sum(w**2, axis=-1))),
        "the sum of absolute values as the norm": _rate(lambda w: np.sum(np.abs(w))),
        "the largest entry as the norm": _rate(lambda w: np.abs(w).max()),
        "the standard deviation of the weights as their norm": _rate(np.std),
        "a multiplication by the norm where a division belongs": _rate(sgd=-2, adam=-1),
        "the rate itself: the weights ignored": _rate(sgd=0, adam=0),
        "w overwritten: divided by its norm in place": _normalized_in_place,
    },
)
