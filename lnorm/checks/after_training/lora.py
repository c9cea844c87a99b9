"""Exercise 13.6: a linear layer with a low-rank update, and merging it."""

from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, UnusableError, array

SIZES = {"visible": (6, 5, 2), "graded": (9, 7, 3)}  # inputs, outputs, rank


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed)
    d_in, d_out, rank = SIZES[level]

    def case(tests: str, asks: str, *rows: int) -> Case:
        inputs = {
            "W": rng.normal(size=(d_out, d_in)),
            "b": rng.normal(loc=2.0, size=d_out),
            "rank": rank,
            "alpha": float(rng.uniform(5.0, 9.0)),
            "seed": int(rng.integers(2**31)),
            "x": rng.normal(size=(*rows, d_in)),
            "down": rng.normal(size=(rank, d_in)),
            "up": rng.normal(size=(d_out, rank)),
        }
        return Case(tests, {**inputs, "asks": asks})

    wide = case("how it starts", "drawn", 1)
    return [
        case("how it starts", "start", 4),
        case("how it starts", "shapes", 1),
        Case("how it starts", {**wide.inputs, "W": rng.normal(size=(d_out, 64)), "rank": 16}),
        case("the update", "y", 4),
        case("the update", "y", 2, 3),
        case("merging", "merged", 4),
        case("merging twice", "merged twice", 4),
        case("leaves its inputs alone", "inputs", 4),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    W, b, asks = inputs["W"].copy(), inputs["b"].copy(), inputs["asks"]
    layer = answer(W, b, inputs["rank"], inputs["alpha"], np.random.default_rng(inputs["seed"]))
    if layer is None:
        raise UnusableError("expected an object of your class, got None")
    if asks == "start":
        return {"y": array("y", layer(inputs["x"].copy()))}
    if asks == "shapes":
        shapes = {f"shape of {name}": np.array(array(name, getattr(layer, name)).shape) for name in ("down", "up")}
        return {**shapes, "up": array("up", layer.up)}
    if asks == "drawn":
        down = array("down", layer.down) * np.sqrt(W.shape[1])  # 1024 draws: the spread is 1 ± 0.022
        is_right = abs(down.std() - 1) < 0.15 and abs(down.mean()) < 0.15
        return {"down": np.array([down.any(), np.ptp(down) > 0, is_right])}
    layer.down, layer.up = inputs["down"].copy(), inputs["up"].copy()
    if asks == "y":
        return {"y": array("y", layer(inputs["x"].copy()))}
    for _ in range(2 if asks == "merged twice" else 1):
        layer.merge()
    y = array("y", layer(inputs["x"].copy()))
    if asks == "inputs":
        return {"y": y, "W after the call": W, "b after the call": b}
    return {"W": array("W", layer.W), "y": y}


def _explain(case: Case, outputs: Outputs) -> str:
    return (
        "expected random numbers of mean 0 and standard deviation 1/√inputs" if case.inputs["asks"] == "drawn" else ""
    )


def _lora(kind: str = "") -> Any:
    """Return a class that is right but for one thing."""

    class LoRALinear:
        def __init__(self, W: Any, b: Any, rank: int, alpha: float, rng: Any) -> None:
            d_out, d_in = W.shape
            self.W, self.b, self.merged = W if kind == "in place" else W.copy(), b, False
            spread = 1.0 if kind == "down wide" else d_in**-0.5
            self.down = rng.normal(scale=spread, size=(rank, d_in))
            self.up = np.zeros((d_out, rank))
            self.scale = {"no scale": 1.0, "alpha alone": alpha, "upside down": rank / alpha}.get(kind, alpha / rank)
            if kind == "root of the rank":
                self.scale = alpha / np.sqrt(rank)
            if kind == "up drawn":
                self.up = rng.normal(scale=rank**-0.5, size=(d_out, rank))
            if kind == "down zero":
                self.down, self.up = np.zeros((rank, d_in)), rng.normal(scale=rank**-0.5, size=(d_out, rank))
            if kind == "both zero":
                self.down = np.zeros((rank, d_in))
            if kind == "ones":
                self.down = np.full((rank, d_in), d_in**-0.5)
            if kind == "at the start":
                self.update = self.scale * self.up @ self.down

        def __call__(self, x: Any) -> Any:
            y = x @ self.W.T + (0 if kind == "no bias" else self.b)
            if self.merged and kind != "added again":
                return y
            if kind == "at the start":
                return y + x @ self.update.T
            if kind == "no W":
                return self.scale * x @ self.down.T @ self.up.T + self.b
            return y + self.scale * x @ self.down.T @ self.up.T

        def merge(self) -> None:
            if self.merged and kind != "merges twice":
                return
            scale = 1.0 if kind == "merged without scale" else self.scale
            if kind == "replaced":
                self.W = scale * self.up @ self.down
            elif kind == "subtracted":
                self.W -= scale * self.up @ self.down
            elif kind != "only said":
                self.W += scale * self.up @ self.down
            self.merged = True

    return LoRALinear


LORA_LINEAR = Exercise(
    name="LoRALinear",
    signature="LoRALinear(W, b, rank, alpha, rng)",
    properties={"how it starts": 3, "the update": 2, "merging": 2, "merging twice": 1, "leaves its inputs alone": 1},
    cases=_cases,
    probe=_probe,
    solution=_lora(),
    explain=_explain,
    forbids=("lnorm.nn.LoRALinear",),
    mistakes={
        "up drawn at random: the layer does not start as W x + b": _lora("up drawn"),
        "down set to zero instead of up": _lora("down zero"),
        "both factors zero: neither gets a gradient": _lora("both zero"),
        "all values of down equal: the update keeps rank 1": _lora("ones"),
        "down drawn with standard deviation 1": _lora("down wide"),
        "the update without alpha / rank": _lora("no scale"),
        "the update times alpha, without division by the rank": _lora("alpha alone"),
        "rank / alpha instead of alpha / rank": _lora("upside down"),
        "division by the root of the rank": _lora("root of the rank"),
        "the bias forgotten": _lora("no bias"),
        "the update instead of W x, not in addition to it": _lora("no W"),
        "the update computed once, at the start, and not from the factors as they are": _lora("at the start"),
        "a second merge adds the update a second time": _lora("merges twice"),
        "the update still added after merging": _lora("added again"),
        "merged without alpha / rank": _lora("merged without scale"),
        "merge replaces W by the update": _lora("replaced"),
        "merge subtracts the update": _lora("subtracted"),
        "merge stops the update, and W stays as it was": _lora("only said"),
        "the caller's W overwritten by merge": _lora("in place"),
    },
)
