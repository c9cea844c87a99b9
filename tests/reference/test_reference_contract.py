"""What every norm of lnorm.reference promises, whatever it computes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from reference_helpers import LAYOUTS, numbers, numeric_gradients, reference_values, refuses

from lnorm import reference

pytestmark = pytest.mark.filterwarnings("error")  # NumPy's own warnings too: a mean of nothing is a mistake here

AFFINE = ("gamma", "beta")


@dataclass(frozen=True)
class Norm:
    forward: Any
    backward: Any
    shapes: tuple  # of the inputs
    names: tuple  # of the inputs, as messages call them
    eps: bool = True
    derivative: bool = True  # whether backward is the forward's derivative
    dy: str = "dy"

    def inputs(self, dtype=float):
        return [numbers(*shape, seed=i, offset=0.5).astype(dtype) for i, shape in enumerate(self.shapes)]

    def cotangent(self, dtype=float):
        return numbers(*self.shapes[0], seed=9).astype(dtype)


def in_shards(x, gamma=None, beta=None, **options):
    ys, cache = reference.sync_batch_norm(np.split(x, [1, 4]), gamma, beta, **options)
    return np.concatenate(ys), cache


def in_shards_backward(dy, cache):
    dxs, dgamma, dbeta = reference.sync_batch_norm_backward(np.split(dy, [1, 4]), cache)
    return np.concatenate(dxs), dgamma, dbeta


def masked(x, gamma=None, beta=None, **options):
    mask = numbers(*x.shape[:-1], seed=3) > -0.5
    return reference.masked_batch_norm(x, mask, gamma, beta, **options)


def evaluated(x, gamma=None, beta=None, **options):
    mean, var = numbers(x.shape[1]), numbers(x.shape[1]) ** 2 + 0.5
    return reference.batch_norm(x, gamma, beta, mean, var, training=False, **options)


R = reference
NORMS = {
    "layer_norm": Norm(
        lambda x, *affine, **kw: R.layer_norm(x, (3, 4), *affine, **kw),
        R.layer_norm_backward,
        ((5, 3, 4), (3, 4), (3, 4)),
        ("x", *AFFINE),
    ),
    "detached_layer_norm": Norm(
        lambda x, *affine, **kw: R.detached_layer_norm(x, 4, *affine, **kw),
        R.detached_layer_norm_backward,
        ((5, 3, 4), (4,), (4,)),
        ("x", *AFFINE),
        derivative=False,
    ),
    "rms_norm": Norm(
        lambda x, *gamma, **kw: R.rms_norm(x, 4, *gamma, **kw),
        R.rms_norm_backward,
        ((5, 3, 4), (4,)),
        ("x", "gamma"),
    ),
    "partial_rms_norm": Norm(
        lambda x, *gamma, **kw: R.partial_rms_norm(x, 0.4, *gamma, **kw),
        R.partial_rms_norm_backward,
        ((5, 3, 6), (6,)),
        ("x", "gamma"),
    ),
    "batch_norm": Norm(R.batch_norm, R.batch_norm_backward, ((6, 3, 2), (3,), (3,)), ("x", *AFFINE)),
    "batch_norm in evaluation": Norm(evaluated, R.batch_norm_backward, ((6, 3, 2), (3,), (3,)), ("x", *AFFINE)),
    "masked_batch_norm": Norm(masked, R.masked_batch_norm_backward, ((4, 5, 3), (3,), (3,)), ("x", *AFFINE)),
    "ghost_batch_norm": Norm(
        lambda x, *affine, **kw: R.ghost_batch_norm(x, 3, *affine, **kw),
        R.ghost_batch_norm_backward,
        ((6, 3, 2), (3,), (3,)),
        ("x", *AFFINE),
    ),
    "sync_batch_norm": Norm(
        in_shards, in_shards_backward, ((6, 3, 2), (3,), (3,)), ("shards[0]", *AFFINE), dy="dys[2]"
    ),
    "group_norm": Norm(
        lambda x, *affine, **kw: R.group_norm(x, 2, *affine, **kw),
        R.group_norm_backward,
        ((3, 4, 2, 3), (4,), (4,)),
        ("x", *AFFINE),
    ),
    "instance_norm": Norm(R.instance_norm, R.instance_norm_backward, ((3, 4, 5), (4,), (4,)), ("x", *AFFINE)),
    "switch_norm": Norm(
        R.switch_norm,
        R.switch_norm_backward,
        ((3, 4, 2, 3), (3,), (3,), (4,), (4,)),
        ("x", "mean_logits", "var_logits", *AFFINE),
    ),
    "weight_norm": Norm(
        lambda v, g: R.weight_norm(v, g, 0),
        R.weight_norm_backward,
        ((4, 3, 2), (4,)),
        ("v", "g"),
        eps=False,
        dy="dw",
    ),
    "standardize_weight": Norm(R.standardize_weight, R.standardize_weight_backward, ((4, 3, 2, 2),), ("w",)),
    "dynamic_tanh": Norm(
        R.dynamic_tanh, R.dynamic_tanh_backward, ((5, 3, 4), (), (4,), (4,)), ("x", "alpha", *AFFINE), eps=False
    ),
}


def norms(condition=lambda norm: True):
    chosen = {name: norm for name, norm in NORMS.items() if condition(norm)}
    return pytest.mark.parametrize("norm", chosen.values(), ids=chosen.keys())


def values(norm, arrays, dy):
    return reference_values(norm.forward, norm.backward, arrays, dy)


@norms(lambda norm: norm.derivative)
def test_the_backward_pass_is_the_derivative_of_the_forward_pass(norm):
    arrays, dy = norm.inputs(), norm.cotangent()
    numeric = numeric_gradients(lambda *arrays: norm.forward(*arrays)[0], arrays, dy)
    for ours, theirs in zip(values(norm, arrays, dy)[1:], numeric, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-8)


@norms()
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_results_have_the_inputs_dtype_and_only_its_rounding_error(norm, dtype):
    arrays, dy = norm.inputs(dtype), norm.cotangent(dtype)
    exact = values(norm, [array.astype(float) for array in arrays], dy.astype(float))
    for ours, right in zip(values(norm, arrays, dy), exact, strict=True):
        assert ours.dtype == dtype
        assert ours.shape == right.shape
        # Half a unit in the last place for the final cast, next to nothing for the sums before it.
        summed_in = np.float32 if dtype == np.float16 else np.float64
        rounding = 0.501 * np.finfo(dtype).eps * np.abs(right)
        assert (np.abs(ours - right) <= rounding + 100 * np.finfo(summed_in).eps * np.abs(right).max()).all()


@norms()
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_memory_layout_does_not_matter_and_nothing_is_written_to(norm, layout):
    arrays, dy = norm.inputs(), norm.cotangent()
    odd = [layout(array) if array.ndim else array.copy() for array in (*arrays, dy)]
    for array in odd:
        array.flags.writeable = False
    for ours, right in zip(values(norm, odd[:-1], odd[-1]), values(norm, arrays, dy), strict=True):
        np.testing.assert_allclose(ours, right, rtol=1e-12, atol=1e-12)


@norms()
def test_the_cache_does_not_share_memory_with_the_output(norm):
    arrays, dy = norm.inputs(), norm.cotangent()
    expected = values(norm, arrays, dy)[1:]
    y, cache = norm.forward(*arrays)
    y[...] = np.nan
    gradients = norm.backward(dy, cache)
    for ours, right in zip(gradients if isinstance(gradients, tuple) else [gradients], expected, strict=True):
        np.testing.assert_array_equal(ours, right)


@norms()
def test_an_empty_batch_is_no_error(norm):
    arrays = norm.inputs()
    arrays[0] = arrays[0][:0]
    if norm.names[0] == "v":  # one g a vector: without vectors none
        arrays[1] = arrays[1][:0]
    y, dx, *others = values(norm, arrays, arrays[0])
    assert y.shape == dx.shape == arrays[0].shape
    for gradient, array in zip(others, arrays[1:], strict=True):
        np.testing.assert_array_equal(gradient, np.zeros(array.shape))


@norms(lambda norm: "gamma" in norm.names)
def test_no_gain_and_bias_means_one_and_zero(norm):
    dy = norm.cotangent()
    arrays = norm.inputs()
    first = norm.names.index("gamma")
    for name, i in zip(norm.names[first:], range(first, len(arrays)), strict=True):
        arrays[i] = np.ones(norm.shapes[i]) if name == "gamma" else np.zeros(norm.shapes[i])
    for with_affine, without in zip(values(norm, arrays, dy), values(norm, arrays[:first], dy), strict=True):
        np.testing.assert_array_equal(with_affine, without)


@norms()
def test_values_whose_square_overflows_half_precision_are_fine(norm):
    arrays = norm.inputs(np.float16)
    arrays[0] = arrays[0] * np.float16(2000)
    for result in values(norm, arrays, norm.cotangent(np.float16)):
        assert np.isfinite(result).all()


@norms()
def test_integers_are_refused_by_the_name_of_the_argument(norm):
    for i, name in enumerate(norm.names):
        arrays = norm.inputs()
        arrays[i] = arrays[i].astype(int)
        with refuses(TypeError, name):
            norm.forward(*arrays)


@norms()
def test_parameters_of_the_wrong_shape_are_refused_by_name(norm):
    for i, name in enumerate(norm.names[1:], start=1):
        arrays = norm.inputs()
        arrays[i] = np.ones((*norm.shapes[i], 2))
        with refuses(ValueError, name):
            norm.forward(*arrays)


@norms(lambda norm: norm.eps)
@pytest.mark.parametrize("eps", [-1e-5, np.nan, np.inf, "1e-5", None, 1j])
def test_bad_eps_is_refused(norm, eps):
    with refuses(ValueError, "eps"):
        norm.forward(*norm.inputs(), eps=eps)


@norms()
def test_bad_cotangents_are_refused(norm):
    _, cache = norm.forward(*norm.inputs())
    dy = norm.cotangent()
    with refuses(ValueError, norm.dy):
        norm.backward(dy[:-1], cache)
    with refuses(TypeError, norm.dy.replace("2", "0")):
        norm.backward(dy.astype(int), cache)
