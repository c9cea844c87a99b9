"""Exercise 1.3: the mean square of the signal at every layer."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array
from lnorm.checks.signals.inputs import ROWS, networks

ACTS: dict[str, Any] = {"relu": lambda a: np.maximum(a, 0), "tanh": np.tanh}


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 113)

    def inputs(Ws: tuple[np.ndarray, ...], act: str) -> dict[str, Any]:
        x = rng.normal(loc=0.5, scale=1.5, size=(ROWS[level], Ws[0].shape[1]))
        return {"x": x, "Ws": Ws, "act": act}

    nets = networks(rng, level)
    return [
        *(Case(tests, inputs(Ws, "relu")) for tests, Ws in nets.items()),
        Case("tanh", inputs(nets["square layers"], "tanh")),
        Case("leaves its inputs alone", {**inputs(nets["layers of unequal width"], "relu"), "asks": "inputs"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    x, Ws = inputs["x"].copy(), [W.copy() for W in inputs["Ws"]]
    out = {"mean squares": array("mean squares", answer(x, Ws, inputs["act"]))}
    after = {"x after the call": x} | {f"Ws[{i}] after the call": W for i, W in enumerate(Ws)}
    return out | (after if "asks" in inputs else {})


def _signals(x: Any, Ws: Any, act: str) -> list[Any]:
    """Return the signal at every layer, the input first."""
    signals = [x]
    for W in Ws:
        signals.append(ACTS[act](signals[-1]) @ W.T)
    return signals


def _solution(x: Any, Ws: Any, act: str) -> Any:
    return [np.mean(a**2) for a in _signals(x, Ws, act)]


def _measured(how: Any) -> Answer:
    """Return the right network with another number for every layer's signal."""
    return lambda x, Ws, act: [how(a) for a in _signals(x, Ws, act)]


def _after_activation(x: Any, Ws: Any, act: str) -> Any:
    return [np.mean(ACTS[act](a) ** 2) for a in _signals(x, Ws, act)]


def _activation_last(x: Any, Ws: Any, act: str) -> Any:
    squares = [np.mean(x**2)]
    for W in Ws:
        x = ACTS[act](x @ W.T)
        squares.append(np.mean(x**2))
    return squares


def _first_layer_linear(x: Any, Ws: Any, act: str) -> Any:
    return [np.mean(x**2), *_solution(x @ Ws[0].T, Ws[1:], act)]


def _linear(x: Any, Ws: Any, act: str) -> Any:
    squares = [np.mean(x**2)]
    for W in Ws:
        x = x @ W.T
        squares.append(np.mean(x**2))
    return squares


def _transposed(x: Any, Ws: Any, act: str) -> Any:
    return _solution(x, [W.T for W in Ws], act)


def _always_from_x(x: Any, Ws: Any, act: str) -> Any:
    square = all(W.shape == Ws[0].shape for W in Ws)
    return [np.mean(x**2), *(np.mean((ACTS[act](x) @ W.T) ** 2) for W in Ws)] if square else _solution(x, Ws, act)


def _predicted(x: Any, Ws: Any, act: str) -> Any:
    factors = [np.mean(W**2) * W.shape[1] / 2 for W in Ws]
    return np.mean(x**2) * np.cumprod([1.0, *factors])


def _in_place(x: Any, Ws: Any, act: str) -> Any:
    squares = _solution(x, Ws, act)
    np.maximum(x, 0, out=x)
    return squares


PROPAGATE = Exercise(
    name="propagate",
    signature="propagate(x, Ws, act)",
    properties={
        "one layer": 1,
        "layers of unequal width": 1,
        "square layers": 1,
        "tanh": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_solution,
    forbids=("lnorm.experiments.signal_propagation.propagate",),
    mistakes={
        "the variance in place of the mean square": _measured(np.var),
        "the root of the mean square": _measured(lambda a: np.sqrt(np.mean(a**2))),
        "the square of the mean": _measured(lambda a: np.mean(a) ** 2),
        "the sum of squares in place of their mean": _measured(lambda a: np.sum(a**2)),
        "the sum over features, averaged over examples only": _measured(lambda a: np.sum(a**2) / len(a)),
        "one mean square for every example instead of one for all": _measured(lambda a: np.mean(a**2, axis=-1)),
        "measured after the activation instead of before it": _after_activation,
        "the activation after the matrix instead of before it": _activation_last,
        "no activation before the first matrix": _first_layer_linear,
        "no activation at all": _linear,
        "ReLU whatever act says": lambda x, Ws, act: _solution(x, Ws, "relu"),
        "every matrix transposed": _transposed,
        "every layer applied to the input instead of to the layer before": _always_from_x,
        "the input left out of the list": lambda x, Ws, act: _solution(x, Ws, act)[1:],
        "the last layer left out of the list": lambda x, Ws, act: _solution(x, Ws, act)[:-1],
        "the list in the opposite order": lambda x, Ws, act: _solution(x, Ws, act)[::-1],
        "predicted by theory from the size of the weights instead of measured": _predicted,
        "x overwritten in place": _in_place,
    },
)
