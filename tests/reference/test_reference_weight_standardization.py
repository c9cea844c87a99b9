import numpy as np
import pytest
import torch
from reference_helpers import assert_matches_torch, numbers, refuses

from lnorm.reference import standardize_weight, standardize_weight_backward


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2, 2), (1, 6, 3), (5, 1)])
@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_matches_torch_autograd(shape, eps):
    def in_torch(w):
        var, mean = torch.var_mean(w, dim=tuple(range(1, w.ndim)), correction=0, keepdim=True)
        return (w - mean) / torch.sqrt(var + eps)

    assert_matches_torch(
        lambda w: standardize_weight(w, eps=eps), standardize_weight_backward, in_torch, [numbers(*shape, offset=0.3)]
    )


def test_every_output_channel_has_mean_0_and_variance_1():
    w, _ = standardize_weight(numbers(4, 3, 2, 2, offset=3, scale=0.02), eps=0)
    np.testing.assert_allclose(w.mean(axis=(1, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(w.var(axis=(1, 2, 3)), 1, rtol=1e-13)


def test_eps_is_1e_5_unless_said_otherwise():
    w = numbers(2, 5, scale=1e-3)
    np.testing.assert_array_equal(standardize_weight(w)[0], standardize_weight(w, 1e-5)[0])


def test_the_gradient_leaves_mean_and_scale_alone():
    w = numbers(4, 12)
    dw = standardize_weight_backward(numbers(4, 12, seed=1), standardize_weight(w, eps=0)[1])
    np.testing.assert_allclose(dw.sum(axis=1), 0, atol=1e-13)
    np.testing.assert_allclose((dw * w).sum(axis=1), 0, atol=1e-13)


def test_a_constant_channel_becomes_zero():
    np.testing.assert_allclose(standardize_weight(np.full((2, 5), 0.7))[0], 0, atol=1e-12)


@pytest.mark.parametrize("shape", [(), (3,), (3, 0), (3, 2, 0)])
def test_a_weight_without_inputs_is_refused(shape):
    with refuses(ValueError, "w"):
        standardize_weight(np.ones(shape))
