import numpy as np
import pytest
import torch
from reference_helpers import assert_matches_torch, numbers, refuses

from lnorm.reference import dynamic_tanh, dynamic_tanh_backward


@pytest.mark.parametrize("shape", [(6, 4), (2, 3, 5), (7,), (5, 1), (0, 4)])
@pytest.mark.parametrize("alpha", [np.array(0.5), np.array([2.0]), np.array(-1.0)], ids=["()", "(1,)", "negative"])
def test_matches_torch_autograd(shape, alpha):
    assert_matches_torch(
        dynamic_tanh,
        dynamic_tanh_backward,
        lambda x, alpha, gamma, beta: gamma * torch.tanh(alpha * x) + beta,
        [numbers(*shape), alpha, numbers(shape[-1], seed=1), numbers(shape[-1], seed=2)],
    )


@pytest.mark.parametrize("alpha", [2, 2.0, np.float32(2)])
def test_alpha_may_be_any_number(alpha):
    np.testing.assert_array_equal(dynamic_tanh(numbers(3, 4), alpha)[0], np.tanh(2 * numbers(3, 4)))


def test_small_values_pass_linearly_and_large_ones_are_bounded():
    y, cache = dynamic_tanh(np.array([1e-5, 1e4, -1e4]), 0.5)
    np.testing.assert_allclose(y, [0.5e-5, 1, -1], rtol=1e-9)
    np.testing.assert_allclose(dynamic_tanh_backward(np.ones(3), cache)[0], [0.5, 0, 0], atol=1e-9)


def test_no_element_depends_on_another():
    x = numbers(4, 6)
    np.testing.assert_array_equal(dynamic_tanh(x, 0.5)[0][:2], dynamic_tanh(x[:2], 0.5)[0])


@pytest.mark.parametrize("alpha", [np.ones(4), np.ones((1, 1))])
def test_alpha_is_one_number(alpha):
    with refuses(ValueError, "alpha"):
        dynamic_tanh(numbers(3, 4), alpha)


def test_the_input_needs_features():
    with refuses(ValueError, "x"):
        dynamic_tanh(np.float64(1), 0.5)
