"""Exercise 4.5: how far the loss ranges along the gradient."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lnorm import reference
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

SIZES = {"visible": (12, 4, 3), "graded": (15, 5, 4)}  # rows, inputs, hidden units
Arrays = dict[str, np.ndarray]


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 4)
    n, d, h = SIZES[level]

    def inputs(*steps: float, target: float = 0.0) -> dict[str, Any]:
        weights = {"W": rng.normal(size=(d, h)), "v": rng.normal(size=h)}
        return {"x": rng.normal(size=(n, d)), "t": rng.normal(target, 2.0, size=n), **weights, "steps": steps}

    first, second = inputs(0.3, 1.5, 0.05, 0.6), inputs(2.0, 0.1, 0.4, target=3.0)
    single = inputs(0.01 if level == "visible" else 0.02)
    return [
        Case("range of the loss", {**first, "asks": "range"}),
        Case("range of the loss", {**second, "asks": "range"}),
        Case("the start counts", {**single, "asks": "range"}),
        Case("parameters as they were", {**first, "asks": "params"}),
        Case("running statistics as they were", {**second, "asks": "buffers"}),
    ]


def _network(inputs: Inputs) -> tuple[Callable[[], float], Arrays, Arrays, Arrays]:
    """Return loss, params, grads and buffers of a linear layer, BatchNorm in training, and a linear output."""
    x, t = inputs["x"], inputs["t"]
    params: Arrays = {"W": inputs["W"].copy(), "v": inputs["v"].copy()}
    buffers: Arrays = {"running_mean": np.zeros(len(params["v"])), "running_var": np.ones(len(params["v"]))}

    def loss() -> float:
        z = x @ params["W"]
        y, _ = reference.batch_norm(z)
        for name, now in (("running_mean", z.mean(axis=0)), ("running_var", z.var(axis=0, ddof=1))):
            buffers[name][...] = 0.9 * buffers[name] + 0.1 * now
        return float(np.mean((y @ params["v"] - t) ** 2))

    y, cache = reference.batch_norm(x @ params["W"])
    error = 2 * (y @ params["v"] - t) / len(t)
    dz, _, _ = reference.batch_norm_backward(np.outer(error, params["v"]), cache)
    return loss, params, {"W": x.T @ dz, "v": y.T @ error}, buffers


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    loss, params, grads, buffers = _network(inputs)
    before = {name: each.copy() for name, each in (params | buffers).items()}
    steps = list(inputs["steps"])
    out = array("range", answer(loss, params, grads, buffers, steps))
    if inputs["asks"] == "range":
        return {"range": out}
    after = params if inputs["asks"] == "params" else buffers
    return {"range": out} | {f"change of {name}": _change(each, before[name]) for name, each in after.items()}


def _change(now: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return 0 if nothing changed, 1 if no more than rounding, 2 otherwise."""
    if np.shape(now) == before.shape and np.allclose(now, before, rtol=1e-9, atol=1e-12):
        return np.array(0 if np.array_equal(now, before) else 1)
    return np.array(2)


def _explain(case: Case, outputs: Outputs) -> str:
    changed = {name.removeprefix("change of "): int(each) for name, each in outputs.items() if name != "range" and each}
    how = "differ from what they were" + (" in the last digits" if max(changed.values(), default=0) == 1 else "")
    return f"after the call, {' and '.join(changed)} {how}" if changed else ""


def _walk(
    losses: Callable[[list[float]], Any] = lambda seen: max(seen) - min(seen),
    *,
    start: bool = True,
    restore: str = "params and buffers",
    sign: int = -1,
    moved: tuple[str, ...] = ("W", "v"),
    from_here: bool = False,
    unit: bool = False,
) -> Answer:
    """Return a walk that is right by default; ``losses`` makes the result of what was seen on the way."""

    def landscape_range(loss: Any, params: Arrays, grads: Arrays, buffers: Arrays, steps: list[float]) -> Any:
        saved = {name: each.copy() for name, each in params.items()}
        kept = {name: each.copy() for name, each in buffers.items()}
        length = np.sqrt(sum(np.sum(each**2) for each in grads.values())) if unit else 1.0
        seen = [loss()] if start else []
        for step in steps:
            for name in moved:
                origin = params[name] if from_here else saved[name]
                params[name][...] = origin + sign * step * grads[name] / length
            seen.append(loss())
        if "params" in restore:
            _put(params, saved)
        if "buffers" in restore:
            _put(buffers, kept)
        return losses(seen)

    return landscape_range


def _put(arrays: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]) -> None:
    for name, each in values.items():
        arrays[name][...] = each


def _adds_back(loss: Any, params: Arrays, grads: Arrays, buffers: Arrays, steps: list[float]) -> Any:
    kept = {name: each.copy() for name, each in buffers.items()}
    seen = [loss()]
    for step in steps:
        for name in params:
            params[name] -= step * grads[name]
        seen.append(loss())
        for name in params:
            params[name] += step * grads[name]
    _put(buffers, kept)
    return max(seen) - min(seen)


def _shallow_copy(loss: Any, params: Arrays, grads: Arrays, buffers: Arrays, steps: list[float]) -> Any:
    saved, kept = dict(params), {name: each.copy() for name, each in buffers.items()}
    seen = [loss()]
    for step in steps:
        params.update(saved)
        for name in params:
            params[name] -= step * grads[name]
        seen.append(loss())
    params.update(saved)
    _put(buffers, kept)
    return max(seen) - min(seen)


LANDSCAPE_RANGE = Exercise(
    name="landscape_range",
    signature="landscape_range(loss, params, grads, buffers, steps)",
    properties={
        "range of the loss": 2,
        "the start counts": 1,
        "parameters as they were": 2,
        "running statistics as they were": 2,
    },
    cases=_cases,
    probe=_probe,
    solution=_walk(),
    explain=_explain,
    mistakes={
        "the parameters not put back": _walk(restore="buffers"),
        "the running statistics left as the walk has made them": _walk(restore="params"),
        "nothing put back, neither parameters nor running statistics": _walk(restore=""),
        "the parameters put back by adding the step, which leaves rounding": _adds_back,
        "a copy of the dict, not of its arrays: the steps add up and nothing is put back": _shallow_copy,
        "each step taken from where the last one ended": _walk(from_here=True),
        "a walk up the gradient instead of down": _walk(sign=1),
        "the loss at the start left out": _walk(start=False),
        "the last loss minus the first": _walk(lambda seen: seen[-1] - seen[0]),
        "the largest distance from the loss at the start": _walk(lambda seen: max(abs(s - seen[0]) for s in seen)),
        "the largest loss instead of the range": _walk(max),
        "the standard deviation of the losses instead of their range": _walk(np.std),
        "the gradient scaled to length 1": _walk(unit=True),
        "only the first parameter moved": _walk(moved=("W",)),
    },
)
