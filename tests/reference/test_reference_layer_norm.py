import numpy as np
import pytest
import torch.nn.functional as F
from reference_helpers import assert_at_least_as_exact_as_torch, assert_matches_torch, numbers, refuses

from lnorm.reference import layer_norm, layer_norm_backward

SHAPES = [((6, 8), 8), ((2, 3, 5), (3, 5)), ((2, 3, 5), 5), ((7,), 7), ((4, 4), (4,)), ((5, 1), 1), ((0, 4), 4)]


@pytest.mark.parametrize(("shape", "normalized_shape"), SHAPES)
@pytest.mark.parametrize("parameters", [0, 1, 2], ids=["plain", "gain", "gain and bias"])
@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_matches_torch(shape, normalized_shape, parameters, eps):
    normalized = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
    assert_matches_torch(
        lambda x, *affine: layer_norm(x, normalized_shape, *affine, eps=eps),
        lambda dy, cache: layer_norm_backward(dy, cache)[: 1 + parameters],
        lambda x, *affine: F.layer_norm(x, normalized, *affine, eps=eps),
        [numbers(*shape), *(numbers(*normalized, seed=i) for i in range(parameters))],
    )


@pytest.mark.parametrize("offset", [0, 1e4, -1e4])
def test_float32_is_at_least_as_exact_as_torch(offset):
    assert_at_least_as_exact_as_torch(
        lambda x, g, b: layer_norm(x, 256, g, b),
        layer_norm_backward,
        lambda x, g, b: F.layer_norm(x, (256,), g, b),
        [numbers(16, 256, offset=offset), numbers(256, seed=1), numbers(256, seed=2)],
    )


def test_rows_are_centred_and_lie_on_the_sphere():
    x = numbers(9, 32, offset=3, scale=7)
    y, _ = layer_norm(x, 32, eps=0)
    np.testing.assert_allclose(y.mean(axis=1), 0, atol=1e-14)
    np.testing.assert_allclose((y**2).sum(axis=1), 32, rtol=1e-13)
    np.testing.assert_allclose(layer_norm(5 * x + 3, 32, eps=0)[0], y, atol=1e-12)


def test_no_element_exceeds_the_root_of_d_minus_1():
    x = np.zeros((1, 10))
    x[0, 3] = 1e3
    y, _ = layer_norm(x, 10, eps=0)
    np.testing.assert_allclose(y.max(), 3, rtol=1e-14)


def test_the_gradient_is_orthogonal_to_what_the_norm_forgets():
    x, dy = numbers(9, 32, offset=2), numbers(9, 32, seed=1)
    _, cache = layer_norm(x, 32, numbers(32, seed=2), eps=0)
    dx = layer_norm_backward(dy, cache)[0]
    np.testing.assert_allclose(dx.sum(axis=1), 0, atol=1e-13)
    np.testing.assert_allclose((dx * cache.x_hat).sum(axis=1), 0, atol=1e-13)


def test_the_gradient_shrinks_as_the_input_grows():
    x, dy = numbers(9, 32), numbers(9, 32, seed=1)
    dx, dx_of_100x = (layer_norm_backward(dy, layer_norm(c * x, 32, eps=0)[1])[0] for c in (1, 100))
    np.testing.assert_allclose(dx_of_100x, dx / 100, atol=1e-14)


@pytest.mark.parametrize("value", [0, 1, -1e4, 0.1])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_constant_rows_become_the_bias(value, dtype):
    beta = numbers(6).astype(dtype)
    y, cache = layer_norm(np.full((2, 6), value, dtype), 6, beta=beta)
    np.testing.assert_allclose(y, np.tile(beta, (2, 1)), atol=1e-10)
    assert np.isfinite(layer_norm_backward(np.ones((2, 6), dtype), cache)[0]).all()


def test_one_feature_becomes_the_bias_and_has_no_gradient():
    y, cache = layer_norm(numbers(5, 1), 1, np.ones(1), np.full(1, 0.5))
    dx, _, dbeta = layer_norm_backward(np.ones((5, 1)), cache)
    np.testing.assert_array_equal(y, 0.5)
    np.testing.assert_array_equal(dx, 0)
    np.testing.assert_array_equal(dbeta, [5])


@pytest.mark.parametrize("bad", [5, (2, 4), (4, 3), (), (0,), 0, -4, (2, 3, 4, 1)])
def test_a_normalized_shape_that_does_not_fit_is_refused(bad):
    with pytest.raises(ValueError, match=r"^normalized_shape: expected .* got "):
        layer_norm(numbers(2, 3, 4), bad)


@pytest.mark.parametrize("bad", [4.0, "4", None, (4.0,), [None]])
def test_a_normalized_shape_that_is_no_shape_is_refused(bad):
    with refuses(TypeError, "normalized_shape"):
        layer_norm(numbers(2, 3, 4), bad)


@pytest.mark.parametrize("bad", [np.ones((2, 4), bool), np.ones((2, 4), complex), [[1, 2, 3, 4]], "text", None])
def test_an_input_that_is_not_floating_point_is_refused(bad):
    with pytest.raises(TypeError, match=r"^x: expected float16, float32 or float64, got "):
        layer_norm(bad, 4)
