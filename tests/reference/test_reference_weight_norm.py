import numpy as np
import pytest
import torch
from reference_helpers import assert_matches_torch, numbers, refuses
from torch.nn.utils.parametrizations import weight_norm as torch_weight_norm

from lnorm.reference import weight_norm, weight_norm_backward


@pytest.mark.parametrize("axis", [0, 1, 2, -3])
def test_matches_torch(axis):
    v = numbers(3, 4, 5)
    kept = [size if i == axis % 3 else 1 for i, size in enumerate(v.shape)]
    for shape in (kept, [v.shape[axis]]):  # g as torch stores it, and flat
        assert_matches_torch(
            lambda v, g: weight_norm(v, g, axis),
            weight_norm_backward,
            lambda v, g: torch._weight_norm(v, g.reshape(kept), axis % 3),
            [v, numbers(*shape, seed=1)],
        )


def test_matches_the_parametrization_of_a_layer():
    layer = torch_weight_norm(torch.nn.Conv2d(3, 5, 2, dtype=torch.float64), dim=0)
    stored = layer.parametrizations.weight
    g, v = stored.original0.detach().numpy() * 1.7, stored.original1.detach().numpy()
    stored.original0.data *= 1.7
    np.testing.assert_allclose(weight_norm(v, g, 0)[0], layer.weight.detach(), rtol=1e-14)


@pytest.mark.parametrize("axis", [0, 1])
def test_vectors_have_length_g_whatever_the_scale_of_v(axis):
    v, g = numbers(3, 4), numbers(3 + axis, seed=1)
    w, _ = weight_norm(v, g, axis)
    np.testing.assert_allclose(np.linalg.norm(w, axis=1 - axis), np.abs(g), rtol=1e-14)
    np.testing.assert_allclose(weight_norm(100 * v, g, axis)[0], w, rtol=1e-13)


def test_the_gradient_is_orthogonal_to_v_and_falls_with_its_length():
    v, g, dw = numbers(3, 8), numbers(3, seed=1), numbers(3, 8, seed=2)
    dv, dg = weight_norm_backward(dw, weight_norm(v, g, 0)[1])
    np.testing.assert_allclose((dv * v).sum(axis=1), 0, atol=1e-14)
    dv_of_10v, dg_of_10v = weight_norm_backward(dw, weight_norm(10 * v, g, 0)[1])
    np.testing.assert_allclose(dv_of_10v, dv / 10, atol=1e-15)
    np.testing.assert_allclose(dg_of_10v, dg, rtol=1e-13)


def test_a_vector_of_one_element_keeps_only_its_sign():
    w, cache = weight_norm(np.array([3.0, -0.1]), np.array([2.0, 2.0]), 0)
    np.testing.assert_array_equal(w, [2, -2])
    np.testing.assert_array_equal(weight_norm_backward(np.ones(2), cache)[0], [0, 0])


@pytest.mark.parametrize(("axis", "error"), [(2, ValueError), (-3, ValueError), (1.0, TypeError), (None, TypeError)])
def test_bad_axes_are_refused(axis, error):
    with refuses(error, "axis"):
        weight_norm(numbers(3, 4), np.ones(3), axis)


@pytest.mark.parametrize("shape", [(4,), (1,), (), (1, 3), (3, 4)])
def test_g_of_the_wrong_shape_is_refused(shape):
    with refuses(ValueError, "g"):
        weight_norm(numbers(3, 4), np.ones(shape), 0)


def test_a_vector_without_direction_is_refused():
    v = numbers(3, 4)
    v[1] = 0
    with refuses(ValueError, "v"):
        weight_norm(v, np.ones(3), 0)
