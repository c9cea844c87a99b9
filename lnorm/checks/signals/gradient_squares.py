"""Exercise 1.7: the mean square of the gradient at every layer."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array
from lnorm.checks.signals.inputs import ROWS, networks


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 107)

    def inputs(Ws: tuple[np.ndarray, ...]) -> dict[str, Any]:
        rows = ROWS[level]
        x = rng.normal(loc=0.5, size=(rows, Ws[0].shape[1]))
        return {"x": x, "Ws": Ws, "da": rng.normal(loc=0.3, size=(rows, Ws[-1].shape[0]))}

    nets = networks(rng, level)
    dead = inputs(nets["square layers"])  # one example has no positive feature
    dead["x"][0] = -np.abs(dead["x"][0])
    return [
        *(Case(tests, inputs(Ws)) for tests, Ws in nets.items()),
        Case("an example that ReLU silences", dead),
        Case("leaves its inputs alone", {**inputs(nets["layers of unequal width"]), "asks": "inputs"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    x, da, Ws = inputs["x"].copy(), inputs["da"].copy(), [W.copy() for W in inputs["Ws"]]
    out = {"mean squares": array("mean squares", answer(x, Ws, da))}
    after = {"x after the call": x, "da after the call": da} | {f"Ws[{i}] after the call": W for i, W in enumerate(Ws)}
    return out | (after if "asks" in inputs else {})


def _back(
    x: Any,
    Ws: Any,
    da: Any,
    slope: Any = lambda a, z, d: a > 0,
    phi: Any = lambda a: np.maximum(a, 0),
    pull: Any = lambda d, W: d @ W,
) -> list[Any]:
    """Return the gradients, the input's first; ``slope`` sees the layer's input, output and its input's gradient."""
    signals = [x]
    for W in Ws:
        signals.append(phi(signals[-1]) @ W.T)
    gradients = [da]
    for i in reversed(range(len(Ws))):
        before = pull(gradients[-1], Ws[i])
        gradients.append(before * slope(signals[i], signals[i + 1], before))
    return gradients[::-1]


def _squares(gradients: Any) -> Any:
    return [np.mean(d**2) for d in gradients]


def _solution(x: Any, Ws: Any, da: Any) -> Any:
    return _squares(_back(x, Ws, da))


def _wrong(**changed: Any) -> Answer:
    return lambda x, Ws, da: _squares(_back(x, Ws, da, **changed))


def _measured(how: Any) -> Answer:
    return lambda x, Ws, da: [how(d) for d in _back(x, Ws, da)]


def _transposed(x: Any, Ws: Any, da: Any) -> Any:
    return _squares(_back(x, Ws, da, pull=lambda d, W: d @ W.T))


def _mask_of_output(x: Any, Ws: Any, da: Any) -> Any:
    signals = [x]
    for W in Ws:
        signals.append(np.maximum(signals[-1], 0) @ W.T)
    gradients = [da]
    for W, z in zip(reversed(Ws), reversed(signals), strict=False):
        gradients.append((gradients[-1] * (z > 0)) @ W)
    return _squares(gradients[::-1])


def _not_at_the_input(x: Any, Ws: Any, da: Any) -> Any:
    gradients = _back(x, Ws, da)
    return _squares([gradients[1] @ Ws[0], *gradients[1:]])


def _of_the_weights(x: Any, Ws: Any, da: Any) -> Any:
    signals = [x]
    for W in Ws:
        signals.append(np.maximum(signals[-1], 0) @ W.T)
    gradients = _back(x, Ws, da)
    return _squares([d.T @ np.maximum(a, 0) for d, a in zip(gradients[1:], signals, strict=False)])


def _predicted(x: Any, Ws: Any, da: Any) -> Any:
    factors = [np.mean(W**2) * W.shape[0] / 2 for W in Ws]
    return np.mean(da**2) * np.cumprod([1.0, *reversed(factors)])[::-1]


def _in_place(x: Any, Ws: Any, da: Any) -> Any:
    squares = _solution(x, Ws, da)
    da *= 2
    return squares


GRADIENT_SQUARES = Exercise(
    name="gradient_squares",
    signature="gradient_squares(x, Ws, da)",
    properties={
        "one layer": 2,
        "layers of unequal width": 2,
        "square layers": 2,
        "an example that ReLU silences": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_solution,
    forbids=("lnorm.experiments.signal_propagation.propagate",),
    mistakes={
        "ReLU left out on the way back: no entry is set to zero": _wrong(slope=lambda a, z, d: 1.0),
        "ReLU applied to the gradient: set to zero where the gradient is negative": _wrong(slope=lambda a, z, d: d > 0),
        "set to zero where the layer's output is negative, instead of its input": _mask_of_output,
        "the gradient of the input not set to zero where x is negative": _not_at_the_input,
        "zeros at the positive entries, the wrong half": _wrong(slope=lambda a, z, d: a < 0),
        "every entry halved, instead of half of them set to zero": _wrong(slope=lambda a, z, d: 0.5),
        "multiplied by relu(a) instead of by its slope": _wrong(slope=lambda a, z, d: np.maximum(a, 0)),
        "ReLU left out on the way forward": _wrong(phi=lambda a: a),
        "every matrix transposed on the way back": _transposed,
        "the top first": lambda x, Ws, da: _solution(x, Ws, da)[::-1],
        "the gradient at the top, da itself, left out of the list": lambda x, Ws, da: _solution(x, Ws, da)[:-1],
        "the gradient of the input left out of the list": lambda x, Ws, da: _solution(x, Ws, da)[1:],
        "the variance in place of the mean square": _measured(np.var),
        "the root of the mean square": _measured(lambda d: np.sqrt(np.mean(d**2))),
        "the sum of squares in place of their mean": _measured(lambda d: np.sum(d**2)),
        "the gradients of the weights instead of those of the signals": _of_the_weights,
        "predicted by theory from the size of the weights instead of measured": _predicted,
        "da overwritten in place": _in_place,
    },
)
