"""What is true of every norm for all inputs: over shapes, dtypes, strides, scales, offsets and eps, with hypothesis.

Tolerances are bounds, not habits. A float's rounding u becomes, in a row with mean m and standard deviation s, an error
of u * (1 + |x| / √(s² + eps)) in x_hat: what an offset costs. The bounds allow a small multiple of that.
"""

import math
from dataclasses import replace

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from conformance_helpers import NN, Problem, parameter_shape
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lnorm import nn, reference

pytestmark = pytest.mark.slow
examples = settings(derandomize=True, deadline=None, max_examples=50, database=None)
names = pytest.mark.parametrize("name", NN)
centring = pytest.mark.parametrize("name", [name for name in NN if name != "rms_norm"])
ours = pytest.mark.parametrize("ours", ["reference", "nn"])

LAYOUTS = {
    "contiguous": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "every second": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "swapped axes": lambda array: np.swapaxes(np.swapaxes(array, 0, -1).copy(), 0, -1),
}
sizes = st.integers(1, 4)
noise = st.floats(-2, 2, width=16)  # often constant, often with ties: what a random generator never draws


@st.composite
def problems(draw, name, affine=None):
    """A problem in float64: its shape, values, layout, scale, offset and eps. ``affine``: with gain and bias or not."""
    if name in ("layer_norm", "rms_norm"):
        shape = tuple(draw(st.lists(sizes, min_size=1, max_size=4)))
        setting = (shape[-draw(st.integers(1, len(shape))) :],)
    elif name == "group_norm":
        groups = draw(st.integers(1, 3))
        shape = (draw(sizes), groups * draw(st.integers(1, 3)), *draw(st.lists(sizes, max_size=2)))
        setting = (groups,)
        assume(math.prod(shape) > groups)  # torch refuses one value a channel
    else:
        shape = (draw(sizes), draw(sizes), *draw(st.lists(sizes, min_size=name == "instance_norm", max_size=2)))
        setting = (None, None)
        first = 2 if name == "instance_norm" else 0
        assume(math.prod(shape[first:]) > (1 if first else shape[1]))

    arrays = [draw(hnp.arrays(float, shape, elements=noise)) for _ in range(2)]
    if draw(st.booleans()) if affine is None else affine:
        own = parameter_shape(name, setting, shape)
        arrays += [draw(hnp.arrays(float, own, elements=noise)) for _ in range(1 + (name != "rms_norm"))]
    layout = LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))]
    x, dy, *parameters = (layout(array) for array in arrays)
    scale, offset = 10.0 ** draw(st.integers(-3, 3)), draw(st.sampled_from([0.0, 1.0, -100.0, 1e4]))
    eps = draw(st.sampled_from([1e-8, 1e-5, 1e-3, 0.5]))
    return Problem(name, setting, x * scale + offset, tuple(parameters), dy, eps)


def moments(problem):
    """The rows' values, minus the mean if the norm centres; mean square of these; 1 / √(mean square + eps)."""
    rows = problem.rows(problem.x.astype(float))
    if problem.centres:
        rows = rows - rows.mean(axis=1, keepdims=True)
        rows = rows - rows.mean(axis=1, keepdims=True)
    square = np.mean(rows**2, axis=1, keepdims=True)
    return rows, square, 1 / np.sqrt(square + problem.eps)


def x_hat_error(problem, dtype=float):
    """A bound for the error of x_hat, computed in ``dtype``: a small multiple of rounding times conditioning."""
    rows, _, rstd = moments(problem)
    condition = 1 + np.abs(problem.rows(problem.x) * rstd).max()
    return 16 * np.finfo(dtype).eps * condition * (1 + np.abs(rows * rstd).max())


def largest(array):
    return float(np.abs(array).max(initial=0.0))


# --- equality --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@names
@given(data=st.data())
@examples
def test_equality_with_float64_up_to_one_rounding_and_what_the_statistics_lose(name, dtype, data):
    problem = data.draw(problems(name))
    rounded = [torch.from_numpy(each).to(dtype).double().numpy() for each in (problem.x, *problem.parameters)]
    problem = replace(problem, x=rounded[0], parameters=tuple(rounded[1:]))
    gain = max(largest(each) for each in (np.ones(1), *problem.parameters))
    exact = problem.exact()[0]
    roundings = torch.finfo(dtype).eps * (np.abs(exact) + torch.finfo(dtype).smallest_normal)
    error = np.abs(problem.by_torch(NN[name], dtype)[0] - exact)
    assert (error <= roundings + 2 * gain * x_hat_error(problem, np.float32)).all()
    if dtype != torch.bfloat16:  # NumPy has none; float16's statistics are float32, float32's are float64
        narrow = problem.astype(np.float16 if dtype == torch.float16 else np.float32)
        accumulated = np.float32 if dtype == torch.float16 else np.float64
        error = np.abs(narrow.by_reference()[0] - exact)
        assert (error <= roundings + 2 * gain * x_hat_error(problem, accumulated)).all()


@names
@given(data=st.data())
@examples
def test_reference_and_nn_and_torch_are_one_function_with_one_gradient(name, data):
    problem = data.draw(problems(name))
    results = problem.by_reference(), problem.by_torch(NN[name]), problem.exact()
    gain = 1 + max([largest(each) for each in problem.parameters], default=0.0)
    size = problem.x.size
    x_hat, (*_, rstd) = x_hat_error(problem), moments(problem)
    largest_x_hat = largest(moments(problem)[0] * rstd)
    bounds = [gain * x_hat, 8 * gain * largest(rstd) * (1 + largest_x_hat) * x_hat, size * x_hat, size * x_hat]
    for i, bound in zip(range(len(results[0])), bounds, strict=False):  # y, dx, dgamma, dbeta
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert largest(results[one][i] - results[other][i]) <= 2 * bound


@ours
@names
@given(data=st.data())
@examples
def test_the_input_is_not_modified(name, ours, data):
    problem = data.draw(problems(name))
    arrays = (problem.x, *problem.parameters, problem.dy)
    before = [each.copy() for each in arrays]
    problem.by(ours)
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


# --- invariances -----------------------------------------------------------------------------------------------------


@ours
@centring
@given(data=st.data(), shift=st.sampled_from([1.0, -30.0, 1e3]))
@examples
def test_a_shift_changes_nothing(name, ours, data, shift):
    problem = data.draw(problems(name))
    shifted = problem.with_x(problem.x + shift)
    gain = max([largest(each) for each in problem.parameters], default=1.0)
    bound = gain * (x_hat_error(problem) + x_hat_error(shifted))
    assert largest(shifted.by(ours)[0] - problem.by(ours)[0]) <= bound


@ours
@names
@given(data=st.data(), factor=st.sampled_from([-3.0, 0.25, 7.0, 1e3]))
@examples
def test_a_factor_changes_the_sign_and_what_eps_can_do(name, ours, data, factor):
    """norm(a x; eps) = sign(a) norm(x; eps / a²) exactly; so the change is at most eps / (2 var min(1, a²)) of y."""
    problem = data.draw(problems(name, affine=False))
    _, square, _ = moments(problem)
    scaled, other_eps = problem.with_x(factor * problem.x), replace(problem, eps=problem.eps / factor**2)
    y, y_scaled, y_other = (problem.rows(each.by(ours)[0]) for each in (problem, scaled, other_eps))
    rounding = x_hat_error(scaled) + x_hat_error(problem) + x_hat_error(other_eps)
    assert largest(y_scaled - np.sign(factor) * y_other) <= rounding

    varied = square[:, 0] > 0
    bound = np.abs(y[varied]) * problem.eps / (2 * square[varied] * min(1.0, factor**2))
    assert (np.abs(np.sign(factor) * y_scaled - y)[varied] <= bound + rounding).all()


@ours
@names
@given(data=st.data())
@examples
def test_rows_have_mean_zero_and_the_mean_square_that_eps_leaves(name, ours, data):
    problem = data.draw(problems(name, affine=False))
    _, square, _ = moments(problem)
    y = problem.rows(problem.by(ours)[0])
    error = x_hat_error(problem)
    if problem.centres:
        assert largest(y.mean(axis=1)) <= error
    expected = square / (square + problem.eps)
    assert largest(np.mean(y**2, axis=1, keepdims=True) - expected) <= 4 * (1 + largest(y)) * error


# --- gradients -------------------------------------------------------------------------------------------------------


@ours
@names
@given(data=st.data())
@examples
def test_the_gradient_sums_to_zero_and_is_orthogonal_to_x_hat_up_to_eps(name, ours, data):
    """mean(dx) = 0 for a norm that centres, and mean(dx * x_hat) = mean(g * x_hat) * rstd * eps / (var + eps)."""
    problem = data.draw(problems(name))
    centred, square, rstd = moments(problem)
    x_hat, dx = centred * rstd, problem.rows(problem.by(ours)[1])
    gain = np.ones(1)
    if problem.parameters:
        gain = problem.parameters[0]
        if name not in ("layer_norm", "rms_norm"):
            gain = gain.reshape(-1, *(1,) * (problem.x.ndim - 2))
    g = problem.rows(problem.dy * gain)

    rounding = 8 * (1 + largest(g)) * largest(rstd) * (1 + largest(x_hat)) ** 2 * x_hat_error(problem)
    if problem.centres:
        assert largest(dx.mean(axis=1)) <= rounding
    left = np.mean(g * x_hat, axis=1, keepdims=True) * rstd * problem.eps / (square + problem.eps)
    assert largest(np.mean(dx * x_hat, axis=1, keepdims=True) - left) <= rounding


# --- training and evaluation -----------------------------------------------------------------------------------------


@given(
    modes=st.lists(st.booleans(), min_size=2, max_size=8),
    momentum=st.sampled_from([0.0, 0.1, 0.5, 1.0, None]),
    space=st.lists(sizes, max_size=2),
    seed=st.integers(0, 99),
)
@examples
def test_any_sequence_of_training_and_evaluation(modes, momentum, space, seed):
    """Evaluation changes nothing, and all three agree on outputs and running statistics after every step."""
    rng = np.random.default_rng(seed)
    module = nn.BatchNorm(3, momentum=momentum, dtype=torch.float64)
    theirs = [torch.nn.BatchNorm1d, torch.nn.BatchNorm1d, torch.nn.BatchNorm2d][len(space)](
        3, momentum=momentum, dtype=torch.float64
    )
    mean, var, counter = np.zeros(3), np.ones(3), np.zeros((), int)
    never_evaluated = mean.copy(), var.copy(), counter.copy()
    for training in modes:
        x = rng.normal(size=(4, 3, *space)) * rng.uniform(0.5, 3) + rng.normal()
        before = mean.copy(), var.copy(), counter.copy()
        y, _ = reference.batch_norm(x, None, None, mean, var, training, momentum, num_batches_tracked=counter)
        for each in (module, theirs):
            each.train(training)
            np.testing.assert_allclose(each(torch.from_numpy(x)).detach(), y, rtol=1e-9, atol=1e-9)
            for ours, statistic in ((mean, each.running_mean), (var, each.running_var)):
                np.testing.assert_allclose(ours, statistic, rtol=1e-12, atol=1e-12)
            assert each.num_batches_tracked == counter
        if training:
            only_mean, only_var, only_counter = never_evaluated
            reference.batch_norm(
                x, running_mean=only_mean, running_var=only_var, momentum=momentum, num_batches_tracked=only_counter
            )
        else:
            for now, then in zip((mean, var, counter), before, strict=True):
                np.testing.assert_array_equal(now, then)
    for now, then in zip((mean, var, counter), never_evaluated, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "group_norm", "instance_norm"])
def test_other_norms_do_the_same_in_training_and_in_evaluation(name):
    made = {"layer_norm": nn.LayerNorm(5), "rms_norm": nn.RMSNorm(5), "group_norm": nn.GroupNorm(2, 4)}
    module = made.get(name, nn.InstanceNorm(4))
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 4, 5)))
    y = module.train()(x)
    assert torch.equal(module.eval()(x), y)
    assert torch.equal(module.train()(x), y)
    assert y.std() > 0.5
