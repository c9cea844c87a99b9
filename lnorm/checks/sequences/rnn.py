"""Exercise 6.5: one step of a recurrent network with LayerNorm."""

from typing import Any

import numpy as np

from lnorm import reference
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array
from lnorm.checks.layer_norm.inputs import affine

SIZES = {"visible": (3, 4, 5), "graded": (4, 3, 7)}
ARGUMENTS = ("x", "h", "W_x", "W_h", "gamma_x", "gamma_h", "b", "eps")


def draw(rng: np.random.Generator, n: int, inputs: int, units: int, gates: int = 1) -> dict[str, np.ndarray]:
    """Return the arguments of a cell that all cells share: rows and weights of different sizes, gains far from 1."""
    gamma_x, b = affine(rng, gates * units)
    return {
        "x": rng.uniform(0.3, 3.0, size=(n, 1)) * rng.normal(size=(n, inputs)),
        "h": rng.uniform(0.1, 1.0, size=(n, 1)) * rng.normal(size=(n, units)),
        "W_x": rng.normal(size=(gates * units, inputs)),
        "W_h": 2 * rng.normal(size=(gates * units, units)),
        "gamma_x": 0.5 * gamma_x,
        "gamma_h": 0.5 * affine(rng, gates * units)[0],
        "b": 0.3 * b,
    }


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 4)
    n, inputs, units = SIZES[level]
    full = draw(rng, n, inputs, units)
    return [
        Case("the new state", {**full, "eps": 1e-12}),
        Case("the new state", {**draw(rng, 1, inputs, 2 * units), "eps": 1e-5}),
        Case("the new state", {**full, "h": np.zeros((n, units)), "eps": 1e-5}),
        Case("eps inside both square roots", {**draw(rng, n, inputs, units), "eps": 0.5}),
        Case("two units, and three", {**draw(rng, n, inputs, 2), "eps": 1e-2}),
        Case("two units, and three", {**draw(rng, n, inputs, 3), "eps": 1e-2}),
        Case("leaves its inputs alone", {**draw(rng, n, inputs, units), "eps": 1e-5, "asks": "inputs"}),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    given = {name: np.copy(inputs[name]) for name in ARGUMENTS[:-1]}
    new = array("the new state", answer(*given.values(), inputs["eps"]))
    return {"the new state": new} | ({f"{k} after the call": v for k, v in given.items()} if "asks" in inputs else {})


def normalized(z: np.ndarray, eps: float, axis: int = -1, ddof: int = 0, outside: bool = False) -> np.ndarray:
    """Return ``z`` normalized as LayerNorm does, or over another axis, with another divisor or place of eps."""
    std = np.sqrt(z.var(axis, keepdims=True, ddof=ddof) + (0 if outside else eps))
    return (z - z.mean(axis, keepdims=True)) / (std + eps if outside else std)


def _cell(norm: Any = normalized, norm_x: Any = None, norm_h: Any = None, activation: Any = np.tanh) -> Answer:
    """Return the right cell, or one with other norms; ``norm_x`` and ``norm_h`` replace that of one term."""

    def cell(x: Any, h: Any, W_x: Any, W_h: Any, gamma_x: Any, gamma_h: Any, b: Any, eps: float) -> np.ndarray:
        from_x = gamma_x * (norm_x or norm)(x @ W_x.T, eps)
        from_h = gamma_h * (norm_h or norm)(h @ W_h.T, eps)
        return activation(from_x + from_h + b)

    return cell


def _solution(x: Any, h: Any, W_x: Any, W_h: Any, gamma_x: Any, gamma_h: Any, b: Any, eps: float) -> np.ndarray:
    from_x = reference.layer_norm(x @ W_x.T, len(b), gamma_x, None, eps)[0]
    return np.tanh(from_x + reference.layer_norm(h @ W_h.T, len(b), gamma_h, b, eps)[0])


def _no_norm(z: np.ndarray, eps: float) -> np.ndarray:
    return z


def _one_norm_over_the_sum(x: Any, h: Any, W_x: Any, W_h: Any, gamma_x: Any, gamma_h: Any, b: Any, eps: float) -> Any:
    return np.tanh(gamma_x * normalized(x @ W_x.T + h @ W_h.T, eps) + b)


def _norm_before_the_weights(x: Any, h: Any, W_x: Any, W_h: Any, gamma_x: Any, gamma_h: Any, b: Any, eps: float) -> Any:
    return np.tanh(gamma_x * (normalized(x, eps) @ W_x.T) + gamma_h * (normalized(h, eps) @ W_h.T) + b)


def _norm_of_the_new_state(x: Any, h: Any, W_x: Any, W_h: Any, gamma_x: Any, gamma_h: Any, b: Any, eps: float) -> Any:
    return normalized(_solution(x, h, W_x, W_h, gamma_x, gamma_h, b, eps), eps)


def _transposed(x: Any, h: Any, W_x: Any, W_h: Any, *rest: Any) -> Any:
    return _solution(x, h, W_x, W_h.T, *rest)


def _gains_swapped(x: Any, h: Any, W_x: Any, W_h: Any, gamma_x: Any, gamma_h: Any, b: Any, eps: float) -> Any:
    return _solution(x, h, W_x, W_h, gamma_h, gamma_x, b, eps)


def _bias_before_the_norm(x: Any, h: Any, W_x: Any, W_h: Any, gamma_x: Any, gamma_h: Any, b: Any, eps: float) -> Any:
    return np.tanh(gamma_x * normalized(x @ W_x.T + b, eps) + gamma_h * normalized(h @ W_h.T, eps))


def _no_bias(x: Any, h: Any, W_x: Any, W_h: Any, gamma_x: Any, gamma_h: Any, b: Any, eps: float) -> Any:
    return _solution(x, h, W_x, W_h, gamma_x, gamma_h, 0 * b, eps)


def _no_gains(x: Any, h: Any, W_x: Any, W_h: Any, gamma_x: Any, gamma_h: Any, b: Any, eps: float) -> Any:
    return _solution(x, h, W_x, W_h, None, None, b, eps)


def _in_place(x: Any, h: Any, *rest: Any) -> Any:
    h[...] = _solution(x, h, *rest)
    return h


LN_RNN_CELL = Exercise(
    name="ln_rnn_cell",
    signature="ln_rnn_cell(x, h, W_x, W_h, gamma_x, gamma_h, b, eps)",
    properties={
        "the new state": 3,
        "eps inside both square roots": 1,
        "two units, and three": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_solution,
    forbids=("lnorm.nn.LayerNormRNNCell",),
    mistakes={
        "one norm over the sum of both terms, instead of one for each": _one_norm_over_the_sum,
        "x and h normalized before the weights, instead of the products": _norm_before_the_weights,
        "the new state normalized once more": _norm_of_the_new_state,
        "no norm on the recurrent term": _cell(norm_h=_no_norm),
        "no norm on the input's term": _cell(norm_x=_no_norm),
        "no norm at all": _cell(norm=_no_norm),
        "statistics over the batch instead of the units": _cell(lambda z, eps: normalized(z, eps, axis=0)),
        "the mean is not subtracted (this is RMSNorm)": _cell(
            lambda z, eps: z / np.sqrt(np.mean(z**2, -1, keepdims=True) + eps)
        ),
        "variance divided by the number of units minus 1": _cell(lambda z, eps: normalized(z, eps, ddof=1)),
        "eps added to the standard deviation, outside the square root": _cell(
            lambda z, eps: normalized(z, eps, outside=True)
        ),
        "W_h transposed": _transposed,
        "gamma_x and gamma_h swapped": _gains_swapped,
        "the bias added before the norm, which divides it": _bias_before_the_norm,
        "the bias left out": _no_bias,
        "both gains left out": _no_gains,
        "tanh left out": _cell(activation=lambda z: z),
        "the old state overwritten": _in_place,
    },
)
