"""Exercise 6.6: one step of an LSTM with LayerNorm."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, arrays
from lnorm.checks.layer_norm.inputs import affine
from lnorm.checks.sequences.rnn import draw, normalized

SIZES = {"visible": (3, 4, 5), "graded": (4, 3, 6)}
ARGUMENTS = ("x", "h", "c", "W_x", "W_h", "gamma_x", "gamma_h", "b", "gamma_c", "beta_c", "eps")


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 5)
    n, inputs, units = SIZES[level]

    def case(tests: str, asks: str, n: int = n, units: int = units, eps: float = 1e-5) -> Case:
        gamma_c, beta_c = affine(rng, units)
        c = rng.normal(0.5, 1.5, size=(n, units))
        given = {**draw(rng, n, inputs, units, gates=4), "c": c, "gamma_c": gamma_c, "beta_c": beta_c}
        return Case(tests, {**given, "eps": eps, "asks": asks})

    return [
        case("the new cell c'", "c"),
        case("the new cell c'", "c", n=1),
        case("the new state h'", "h"),
        case("the new state h'", "h", units=3),
        case("eps inside all three square roots", "both", eps=0.5),
        case("leaves its inputs alone", "inputs"),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    given = {name: np.copy(inputs[name]) for name in ARGUMENTS[:-1]}
    new = arrays(("h", "c"), answer(*given.values(), inputs["eps"]))
    if inputs["asks"] in new:
        return {inputs["asks"]: new[inputs["asks"]]}
    after = {f"{name} after the call": value for name, value in given.items()} if inputs["asks"] == "inputs" else {}
    return {"c": new["c"], "h": new["h"]} | after  # the first that differs is named: h is made of c


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def _jointly(z: np.ndarray, eps: float) -> np.ndarray:
    return normalized(z, eps)


def _gate_by_gate(z: np.ndarray, eps: float) -> np.ndarray:
    return normalized(z.reshape(len(z), 4, -1), eps).reshape(z.shape)


def _cell(
    gates_norm: Any = _jointly,
    cell_norm: Any = _jointly,
    order: tuple[int, ...] = (0, 1, 2, 3),
    one_norm: bool = False,
    store: str = "c",
    candidate: Any = np.tanh,
    output: Any = np.tanh,
    affine_c: bool = True,
    bias: bool = True,
    forget: Any = _sigmoid,
    peephole: bool = False,
) -> Answer:
    """Return the right cell, or one that differs in a choice."""

    def cell(
        x: Any, h: Any, c: Any, W_x: Any, W_h: Any, gamma_x: Any, gamma_h: Any, b: Any, gamma_c: Any, beta_c: Any,
        eps: float,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        if one_norm:
            gates = gamma_x * gates_norm(x @ W_x.T + h @ W_h.T, eps) + b
        else:
            gates = gamma_x * gates_norm(x @ W_x.T, eps) + gamma_h * gates_norm(h @ W_h.T, eps) + b * bias
        in_order = np.split(gates, 4, axis=-1)
        i, f, g, o = (in_order[k] for k in order)
        old = cell_norm(c, eps) if peephole else c
        new = forget(f) * old + _sigmoid(i) * candidate(g)
        hidden = cell_norm(new, eps)
        if affine_c:
            hidden = gamma_c * hidden + beta_c
        state = _sigmoid(o) * output(hidden)
        return state, {"c": new, "normalized": hidden, "old": c}[store]

    return cell


def _nothing(z: np.ndarray, eps: float) -> np.ndarray:
    return z


def _swapped(*args: Any) -> Any:
    return _cell()(*args)[::-1]


def _in_place(x: Any, h: Any, c: Any, *rest: Any) -> Any:
    new = _cell()(x, h, c, *rest)
    c[...] = new[1]
    return new


LN_LSTM_CELL = Exercise(
    name="ln_lstm_cell",
    signature="ln_lstm_cell(x, h, c, W_x, W_h, gamma_x, gamma_h, b, gamma_c, beta_c, eps)",
    properties={
        "the new cell c'": 3,
        "the new state h'": 3,
        "eps inside all three square roots": 1,
        "leaves its inputs alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_cell(),
    forbids=("lnorm.nn.LayerNormLSTMCell",),
    mistakes={
        "one norm over the sum of both terms, instead of one for each": _cell(one_norm=True),
        "every gate normalized by itself, instead of all four together": _cell(gates_norm=_gate_by_gate),
        "the normalized cell stored as c': only h' sees it normalized": _cell(store="normalized"),
        "the old cell normalized before the forget gate": _cell(peephole=True),
        "the cell not normalized on its way to h'": _cell(cell_norm=_nothing, affine_c=False),
        "gain and bias of the cell's norm left out": _cell(affine_c=False),
        "no norm on the gates": _cell(gates_norm=_nothing),
        "statistics of the gates over the batch": _cell(gates_norm=lambda z, eps: normalized(z, eps, axis=0)),
        "gates in the order f, i, g, o": _cell(order=(1, 0, 2, 3)),
        "gates in the order i, f, o, g": _cell(order=(0, 1, 3, 2)),
        "a sigmoid instead of tanh for the candidate g": _cell(candidate=_sigmoid),
        "no tanh between the normalized cell and the output gate": _cell(output=lambda z: z),
        "the forget gate left out: the old cell is kept as it is": _cell(forget=lambda z: 1.0),
        "1 added to the forget gate's input": _cell(forget=lambda z: _sigmoid(z + 1)),
        "the bias left out": _cell(bias=False),
        "variance divided by the number of elements minus 1": _cell(
            lambda z, eps: normalized(z, eps, ddof=1), lambda z, eps: normalized(z, eps, ddof=1)
        ),
        "eps added to the standard deviation, outside the square root": _cell(
            lambda z, eps: normalized(z, eps, outside=True), lambda z, eps: normalized(z, eps, outside=True)
        ),
        "c' is the old cell": _cell(store="old"),
        "h' and c' swapped": _swapped,
        "the old cell overwritten": _in_place,
    },
)
