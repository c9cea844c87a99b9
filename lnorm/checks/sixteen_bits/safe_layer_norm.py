"""Exercise 10.4: a LayerNorm that takes and returns float16, and is safe."""

from typing import Any

import numpy as np

from lnorm import reference
from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array

SIZES = {"visible": (12, 64), "graded": (16, 96)}
HALF = np.float16
ORDINARY, LARGE, ROUNDED = "rows of ordinary size", "deviations beyond 256", "rounded once, at the end"
EPS, FAR, DTYPE, INPUTS = (
    "an eps that float16 cannot hold",
    "rows far from zero",
    "float16 comes out",
    "leaves its inputs alone",
)


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 3)
    n, d = SIZES[level]

    def case(tests: str, x: np.ndarray, eps: float = 1e-5, gain: float = 1.0, bias: float = 1.0) -> Case:
        gamma = gain * rng.uniform(0.5, 2.0, size=x.shape[1]) * rng.choice([-1.0, 1.0], size=x.shape[1])
        beta = bias * rng.normal(size=x.shape[1])
        return Case(
            tests, {"x": x.astype(HALF), "gamma": gamma.astype(HALF), "beta": np.asarray(beta, HALF), "eps": eps}
        )

    rows = rng.uniform(0.5, 3, size=(n, 1)) * rng.normal(size=(n, d)) + rng.normal(size=(n, 1))
    large = rng.uniform(0.5, 2, size=(n, 1)) * 4000 * rng.normal(size=(n, d)).clip(-3, 3)
    outlier = rng.normal(size=(n, d))
    outlier[:, 3] = rng.uniform(300, 3000, size=n)
    constant = np.tile(rng.normal(size=(n, 1)), d)
    constant[: n // 2] = 0
    quiet = 1e-5 * rng.normal(size=(n, d))
    far = 300 + rng.normal(size=(n, d))
    return [
        case(ORDINARY, rows),
        case(LARGE, outlier),
        case(LARGE, large),
        case(ROUNDED, rows, bias=0.0),
        case(ROUNDED, 20 * rows),
        case(EPS, constant, eps=1e-12),
        case(EPS, quiet, eps=1e-12),
        case(FAR, far),
        case(FAR, far * np.ones((n, 1)) + 500),
        case(DTYPE, rows),
        case(INPUTS, rows),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    given = {name: inputs[name].copy() for name in ("x", "gamma", "beta")}
    y = array("y", answer(*given.values(), inputs["eps"]))
    return {"y": y} | {f"{name} after the call": value for name, value in given.items()}


def _verify(case: Case, outputs: Outputs) -> str:
    y, inputs = outputs["y"], case.inputs
    if y.shape != inputs["x"].shape:
        return f"y has shape {y.shape}, expected {inputs['x'].shape}"
    if case.tests == INPUTS and any(
        not np.array_equal(outputs[f"{name} after the call"], inputs[name]) for name in ("x", "gamma", "beta")
    ):
        return "an input was overwritten"
    if (bad := ~np.isfinite(y.astype(float))).any():
        return f"y contains {int(bad.sum())} values that are not finite, of {y.size}"
    x, gamma, beta = (inputs[name].astype(float) for name in ("x", "gamma", "beta"))
    right = _exactly(x, gamma, beta, inputs["eps"])
    error = float(np.abs(y - right).max() / max(1.0, np.abs(right).max()))
    if error > 4e-3:
        return f"y is off by up to {error:.1g} of the largest value; a float16 number may be off by 5e-4 of itself"
    if case.tests == DTYPE and y.dtype != HALF:
        return f"y has dtype {y.dtype}, expected float16"
    nearest = float(np.mean(y.astype(HALF) == right.astype(HALF)))
    if case.tests == ROUNDED and nearest < 0.97:
        return (
            f"only {100 * nearest:.0f} % of the values are the float16 number nearest to the right one: rounded twice?"
        )
    return ""


def _exactly(x: Any, gamma: Any, beta: Any, eps: float) -> np.ndarray:
    return gamma * ((x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)) + beta


def _solution(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
    return reference.layer_norm(x, x.shape[-1], gamma.astype(np.float32), beta.astype(np.float32), eps)[0]


def _layer_norm(
    *,
    mean: Any = np.float32,
    square: Any = np.float32,
    var: Any = np.float32,
    rounded_eps: Any = np.float32,
    x_hat: Any = np.float32,
    affine: Any = np.float32,
    out: Any = HALF,
) -> Answer:
    """Return a LayerNorm that stores its intermediate results in these types."""

    def layer_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float) -> np.ndarray:
        wide = x.astype(np.float32)
        centred = wide - wide.mean(-1, keepdims=True).astype(mean).astype(np.float32)
        squares = (centred.astype(square) ** 2).astype(np.float32)
        variance = squares.mean(-1, keepdims=True).astype(var).astype(np.float32) + rounded_eps(eps)
        y = (centred / np.sqrt(variance)).astype(x_hat).astype(affine)
        return (y * gamma.astype(affine) + beta.astype(affine)).astype(out)

    return layer_norm


def _all_in_half(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(np.mean(centred * centred, -1, keepdims=True) + HALF(eps)) * gamma + beta


def _sum_stored_in_half(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
    wide = x.astype(np.float32)
    centred = wide - wide.mean(-1, keepdims=True)
    below = (np.mean(centred**2, -1, keepdims=True) + np.float32(eps)).astype(HALF)
    return (centred / np.sqrt(below.astype(np.float32)) * gamma + beta).astype(HALF)


def _one_pass(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
    wide = x.astype(np.float32)
    mean = wide.mean(-1, keepdims=True)
    var = np.mean(wide**2, -1, keepdims=True) - mean**2  # counter-example: this cancels
    return ((wide - mean) / np.sqrt(var + np.float32(eps)) * gamma + beta).astype(HALF)


def _clipped(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
    return _solution(np.clip(x, -255, 255), gamma, beta, eps)


def _scaled_down(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
    return _all_in_half(x / HALF(64), gamma, beta, eps)


def _larger_eps(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
    return _solution(x, gamma, beta, max(eps, 1e-7))


def _in_place(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
    x[...] = _solution(x, gamma, beta, eps)
    return x


SAFE_LAYER_NORM_FP16 = Exercise(
    name="safe_layer_norm_fp16",
    signature="safe_layer_norm_fp16(x, gamma, beta, eps)",
    properties={ORDINARY: 2, LARGE: 2, ROUNDED: 2, EPS: 1, FAR: 1, DTYPE: 1, INPUTS: 1},
    cases=_cases,
    probe=_probe,
    solution=_solution,
    verify=_verify,
    forbids=(
        "lnorm.reference.layer_norm",
        "lnorm.nn.LayerNorm",
        "torch.nn.functional.layer_norm",
        "torch.nn.LayerNorm",
        "torch.layer_norm",
    ),
    mistakes={
        "everything in float16": _all_in_half,
        "the variance stored in float16": _layer_norm(var=HALF),
        "the deviations squared in float16, and summed in float32": _layer_norm(square=HALF),
        "the mean rounded to float16 before it is subtracted": _layer_norm(mean=HALF),
        "eps rounded to float16": _layer_norm(rounded_eps=HALF),
        "eps added in float32, and the sum stored in float16": _sum_stored_in_half,
        "the normalized values rounded to float16 before gamma and beta": _layer_norm(x_hat=HALF),
        "gamma and beta applied in float16": _layer_norm(x_hat=HALF, affine=HALF),
        "the result left in float32": _layer_norm(out=np.float32),
        "variance as E[x²] − E[x]², which cancels for rows far from zero": _one_pass,
        "values beyond 255 clipped": _clipped,
        "rows divided by 64 first, and everything in float16": _scaled_down,
        "eps raised to one that float16 can hold": _larger_eps,
        "x overwritten in place": _in_place,
    },
)
