"""What a large offset costs: float32 rows at 1e4 with unit noise, ours against torch's, both against float64.

And what nothing may cost: no NaN where the exact answer is finite, and E[x²] - E[x]² nowhere in the package.
"""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conformance_helpers import NN, TORCH, Problem, parameter_shape

PACKAGE = Path(__file__).resolve().parents[2] / "lnorm"


SETTINGS = {
    "layer_norm": lambda shape: (shape[1:],),
    "rms_norm": lambda shape: (shape[1:],),
    "group_norm": lambda shape: (2,),
    "batch_norm": lambda shape: (None, None),
    "instance_norm": lambda shape: (None, None),
}
EPS = np.finfo(np.float32).eps
names = pytest.mark.parametrize("name", NN)
ours = pytest.mark.parametrize("ours", ["reference", "nn"])


def draw(name, shape, seed=0, offset=1e4):
    """A problem in float32: unit noise at an offset, random gain and bias and cotangent."""
    rng = np.random.default_rng([seed, *shape])
    setting = SETTINGS[name](shape)
    affine = [rng.normal(size=parameter_shape(name, setting, shape)) for _ in range(1 + (name != "rms_norm"))]
    x, dy = offset + rng.normal(size=shape), rng.normal(size=shape)
    return Problem(name, setting, x, tuple(affine), dy).astype(np.float32)


def largest(values):
    return np.abs(values).max()


ROWS, IMAGES = [(64, 16), (16, 1024), (2048, 8)], [(8, 8, 6, 6), (4, 16, 12, 12)]
SHAPED = [(name, shape) for name in NN for shape in (IMAGES if name == "instance_norm" else ROWS + IMAGES)]


@ours
@pytest.mark.parametrize(("name", "shape"), SHAPED, ids=str)
def test_the_error_at_an_offset_is_at_most_torchs(name, ours, shape):
    for seed in range(5):
        problem = draw(name, shape, seed)
        results = problem.by(ours), problem.by_torch(TORCH[name]), problem.exact()
        for i, (our, their, right) in enumerate(zip(*results, strict=True)):
            allowed = largest(their - right)
            if i >= 2:  # long sums over the batch, and into dbeta enters no offset: allow the rounding of the summing
                allowed = max(allowed, 4 * EPS * largest(right))
            assert largest(our - right) <= allowed


@ours
@names
def test_the_offset_costs_nothing_but_roundings_of_the_result(name, ours):
    """Where torch loses three digits or more, at the same inputs."""
    problem = draw(name, (16, 8, 16, 16))
    exact = problem.exact()
    for our, right in zip(problem.by(ours)[:2], exact[:2], strict=True):  # y and dx
        assert largest(our - right) <= 4 * EPS * largest(right)
    if name != "rms_norm":
        assert largest(problem.by_torch(TORCH[name])[0] - exact[0]) > 1000 * EPS


def one_value_aside(noise):
    return np.where(np.arange(noise.size).reshape(noise.shape) % 5, 0, 1e4)


HARD = {
    "offset 1e4": lambda noise: noise + 1e4,
    "offset 1e4, noise 1e-3": lambda noise: 1e-3 * noise + 1e4,  # all that float32 keeps of it is one bit
    "constant": lambda noise: np.full_like(noise, 3.0),
    "constant 1e4": lambda noise: np.full_like(noise, 1e4),
    "a constant that has no short binary form": lambda noise: np.full_like(noise, 0.1),
    "zero": np.zeros_like,
    "one value aside": one_value_aside,
    "subnormal": lambda noise: 1e-40 * noise,
    "tiny": lambda noise: 1e-25 * noise,
    "huge": lambda noise: 1e12 * noise,  # of the order of the largest whose rstd³ is no subnormal number
}


@pytest.mark.parametrize("make", HARD.values(), ids=HARD.keys())
@ours
@names
def test_no_nan_where_the_exact_answer_is_finite(name, ours, make):
    problem = draw(name, (6, 4, 3, 3), offset=0)
    problem = problem.with_x(make(problem.x).astype(np.float32))
    for our, right in zip(problem.by(ours), problem.exact(), strict=True):
        assert np.isfinite(right).all()
        assert np.isfinite(our).all()
        assert largest(our - right) <= 1e-4 * largest(right) + 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@names
def test_half_precision_neither_overflows_nor_loses_eps(name, dtype):
    shape = (4, 4, 2, 2)
    for x in (np.full(shape, 6e4), np.linspace(-6e4, 6e4, 64).reshape(shape), np.zeros(shape)):
        problem = draw(name, shape).astype(float)
        as_dtype = [torch.from_numpy(each).to(dtype).double().numpy() for each in (x, *problem.parameters, problem.dy)]
        x, *parameters, dy = as_dtype
        problem = problem.with_x(x, parameters=tuple(parameters), dy=dy)
        for our, right in zip(problem.by_torch(NN[name], dtype), problem.exact(), strict=True):
            assert np.isfinite(our).all()
            assert largest(our - right) <= torch.finfo(dtype).eps * max(largest(right), 1e-3)


# --- E[x²] - E[x]² -------------------------------------------------------------------------------------------------


def is_square(node):
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return isinstance(node.right, ast.Constant) and node.right.value == 2
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return ast.dump(node.left) == ast.dump(node.right)
    return isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "square"


def cancelling_variances(source):
    """Lines that subtract the square of something with a mean in it: a mean, by its name or as a call."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and is_square(node.right):
            words = ast.unparse(node.right).lower()
            if any(word in words for word in ("mean", "mu", "average", "sum", "e_x")):
                yield node.lineno


@pytest.mark.parametrize(
    "line",
    [
        "var = np.mean(x**2, axis=0) - x.mean(axis=0) ** 2",
        "var = (x * x).mean(-1) - mean * mean",
        "var = x.square().mean(-1, keepdim=True) - mean.square()",
        "var = np.mean(np.square(x)) - np.square(np.mean(x))",
        "var = s2 / n - (x.sum(0) / n) ** 2",
        "var = mean_sq - mu**2",
    ],
)
def test_the_scan_finds_the_cancelling_variance(line):
    assert list(cancelling_variances(line)) == [1]


@pytest.mark.parametrize("line", ["var = np.mean((x - mean) ** 2)", "centred = x - mean", "m2 += delta * (x - mean)"])
def test_the_scan_lets_other_variances_pass(line):
    assert not list(cancelling_variances(line))


def test_the_cancelling_variance_is_nowhere_but_as_a_counter_example():
    """A line that shows it on purpose says so in a comment; in a catalogue of mistakes the function's name does."""
    scanned = sorted(PACKAGE.rglob("*.py"))
    assert len(scanned) > 40
    for path in scanned:
        source = path.read_text()
        lines = source.splitlines()
        for number in cancelling_variances(source):
            *_, function = re.findall(r"def (\w+)", "\n".join(lines[:number])) or [""]
            marked = function == "_mean_of_squares" or "counter-example" in lines[number - 1]
            assert marked, f"{path.relative_to(PACKAGE)}:{number}"


def test_what_the_cancelling_variance_would_do():
    x = (1e4 + np.random.default_rng(0).normal(size=(64, 256))).astype(np.float32)
    mean = x.mean(axis=1)
    cancelling = np.mean(x * x, axis=1) - mean * mean  # counter-example: the variance is 1
    assert np.abs(cancelling - x.astype(float).var(axis=1)).max() > 1
