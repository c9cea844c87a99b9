"""Exercise 1.2: He's initialization."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

ASKS = {
    "the shape": "shape",
    "mean zero": "mean",
    "the size of the weights": "size",
    "independent of each other": "independent",
    "drawn from the generator": "rng",
}


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 102)
    drawn = int(rng.integers(180, 240))
    sizes = [(450, 250)] if level == "visible" else [(drawn, 3 * drawn), (600, drawn)]
    return [
        Case(tests, {"fan_in": n, "fan_out": m, "seed": int(rng.integers(2**31)), "asks": asks}, tolerance=0.03)
        for tests, asks in ASKS.items()  # the tolerance is six standard errors and more
        for n, m in sizes
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    """Return what is asked about W. The weights themselves stay here: they differ from one right answer to another."""
    rng = np.random.default_rng(inputs["seed"])

    def draw(generator: np.random.Generator) -> np.ndarray:
        W = array("W", answer(inputs["fan_in"], inputs["fan_out"], generator)).astype(float)
        return W if W.ndim == 2 else W.reshape(-1, 1)

    W = draw(rng)
    square = np.mean(W**2)
    if inputs["asks"] == "shape":
        return {"shape": np.array(W.shape)}
    if inputs["asks"] == "mean":
        return {"mean ÷ size": W.mean() / np.sqrt(square)}
    if inputs["asks"] == "size":
        return {"1 / mean square": 1 / square}
    if inputs["asks"] == "independent":  # else the means of columns or of rows are far too large, or far too small
        over_rows, over_columns = (np.mean(W.mean(axis) ** 2) * W.shape[axis] / square for axis in (0, 1))
        return {"spread of column means": np.array(over_rows), "spread of row means": np.array(over_columns)}
    again = [draw(np.random.default_rng(inputs["seed"] + i)) for i in range(2)]
    return {
        "equal for generators of equal seeds": np.array(np.array_equal(W, again[0])),
        "equal for generators of different seeds": np.array(np.array_equal(W, again[1])),
        "equal when drawn a second time": np.array(np.array_equal(W, draw(rng))),
    }


def _verify(case: Case, outputs: Outputs) -> str:
    fan_in, fan_out, asks = (case.inputs[each] for each in ("fan_in", "fan_out", "asks"))
    if asks == "shape":
        came = tuple(outputs["shape"].tolist())
        return "" if came == (fan_out, fan_in) else f"W has shape {came}, expected (fan_out, fan_in)"
    if asks == "mean":
        mean = float(outputs["mean ÷ size"])
        return "" if abs(mean) < case.tolerance else f"the mean of the weights is {mean:.2g} times their size"
    if asks == "size":
        factor = fan_in / 2 / float(outputs["1 / mean square"])
        right = abs(factor - 1) < case.tolerance
        return "" if right else f"a ReLU layer with such weights multiplies the mean square by {factor:.2g}"
    if asks == "independent":
        for name, value in outputs.items():
            if not 0.5 < value < 2:
                return f"{name}: {float(value):.2g} times that of independent weights"
        return ""
    wanted = (True, False, False)
    wrong = [name for (name, came), right in zip(outputs.items(), wanted, strict=True) if bool(came) != right]
    return f"the weights are {'not ' if wrong[0].endswith('equal seeds') else ''}{wrong[0]}" if wrong else ""


def _normal(variance: Any) -> Answer:
    """Return an initialization with normal weights of this variance, a function of fan_in and fan_out."""
    return lambda n, m, rng: rng.normal(scale=np.sqrt(variance(n, m)), size=(m, n))


def _he(n: int, m: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(scale=np.sqrt(2 / n), size=(m, n))


HE_INIT = Exercise(
    name="he_init",
    signature="he_init(fan_in, fan_out, rng)",
    properties={
        "the shape": 1,
        "mean zero": 1,
        "the size of the weights": 2,
        "independent of each other": 1,
        "drawn from the generator": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_he,
    verify=_verify,
    forbids=("torch.nn.init.kaiming_normal_", "torch.nn.init.kaiming_uniform_"),
    mistakes={
        "fan_out in place of fan_in": _normal(lambda n, m: 2 / m),
        "the variance handed over as the standard deviation": _normal(lambda n, m: (2 / n) ** 2),
        "√2 / fan_in as the standard deviation: the root covers the 2 alone": _normal(lambda n, m: 2 / n**2),
        "Xavier's 1 / fan_in, which leaves ReLU out": _normal(lambda n, m: 1 / n),
        "Glorot's 2 / (fan_in + fan_out)": _normal(lambda n, m: 2 / (n + m)),
        "2 / √fan_in as the variance": _normal(lambda n, m: 2 / np.sqrt(n)),
        "the number of weights in place of fan_in": _normal(lambda n, m: 2 / (n * m)),
        "standard normal weights, not scaled": _normal(lambda n, m: 1.0),
        "uniform weights up to √(2 / fan_in): the √3 is missing": lambda n, m, rng: (
            rng.uniform(-1, 1, size=(m, n)) * np.sqrt(2 / n)
        ),
        "uniform weights from 0 up: they have a mean": lambda n, m, rng: rng.random((m, n)) * np.sqrt(6 / n),
        "only positive weights": lambda n, m, rng: np.abs(_he(n, m, rng)),
        "W of shape (fan_in, fan_out)": lambda n, m, rng: _he(n, m, rng).T,
        "the same row in every row": lambda n, m, rng: np.tile(_he(n, 1, rng), (m, 1)),
        "a generator of its own with a fixed seed": lambda n, m, rng: _he(n, m, np.random.default_rng(0)),
        "a new generator at every call, which nobody can repeat": lambda n, m, rng: _he(n, m, np.random.default_rng()),
    },
)
