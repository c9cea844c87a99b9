"""Exercise 4.1: the learning rate with which a network with stretched weights trains as before."""

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

OPTIMIZERS = {"sgd": "SGD", "adam": "Adam"}


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed)
    scales = (10.0, 0.25) if level == "visible" else (*rng.uniform(2.0, 9.0, size=2), rng.uniform(0.1, 0.6))
    return [
        Case(title, {"lr": float(rng.uniform(0.1, 2.0)), "c": float(c), "optimizer": optimizer})
        for optimizer, title in OPTIMIZERS.items()
        for c in scales
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    return {"learning rate": array("learning rate", answer(inputs["lr"], inputs["c"], inputs["optimizer"]))}


def _powers(sgd: float, adam: float) -> Answer:
    """Return the rule that multiplies the rate by these powers of c."""
    powers = {"sgd": sgd, "adam": adam}
    return lambda lr, c, optimizer: lr * c ** powers[optimizer]


EQUIVALENT_LR = Exercise(
    name="equivalent_lr",
    signature="equivalent_lr(lr, c, optimizer)",
    properties={"SGD": 2, "Adam": 1},
    cases=_cases,
    probe=_probe,
    solution=_powers(2, 1),
    mistakes={
        "c instead of c², for SGD": _powers(1, 1),
        "c² for Adam too, whose step does not shrink with the gradient": _powers(2, 2),
        "the rules of SGD and Adam swapped": _powers(1, 2),
        "the rate divided where it should be multiplied": _powers(-2, -1),
        "the rate left as it was": _powers(0, 0),
        "the rate left as it was, for Adam": _powers(2, 0),
        "the square root of c, for SGD": _powers(0.5, 1),
        "c³ for SGD: the gradient's 1/c counted on the wrong side": _powers(3, 1),
        "the factor alone, without the rate": lambda lr, c, optimizer: c ** (2 if optimizer == "sgd" else 1),
        "the rate squared along with c": lambda lr, c, optimizer: (lr * c) ** 2 if optimizer == "sgd" else lr * c,
    },
)
