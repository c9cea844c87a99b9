import numpy as np
import pytest
import torch.nn.functional as F
from reference_helpers import assert_at_least_as_exact_as_torch, assert_matches_torch, numbers, refuses

from lnorm.reference import group_norm, group_norm_backward, instance_norm, layer_norm

SHAPES = [((2, 6), 3), ((2, 6), 1), ((3, 4, 5), 2), ((2, 6, 2, 3), 6), ((2, 4, 1), 4), ((0, 4, 3), 2)]


@pytest.mark.parametrize(("shape", "num_groups"), SHAPES)
@pytest.mark.parametrize("parameters", [0, 1, 2], ids=["plain", "gain", "gain and bias"])
@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_matches_torch(shape, num_groups, parameters, eps):
    assert_matches_torch(
        lambda x, *affine: group_norm(x, num_groups, *affine, eps=eps),
        lambda dy, cache: group_norm_backward(dy, cache)[: 1 + parameters],
        lambda x, *affine: F.group_norm(x, num_groups, *affine, eps=eps),
        [numbers(*shape), *(numbers(shape[1], seed=i) for i in range(parameters))],
    )


@pytest.mark.parametrize("offset", [0, 1e4])
def test_float32_is_at_least_as_exact_as_torch(offset):
    assert_at_least_as_exact_as_torch(
        lambda x, g, b: group_norm(x, 4, g, b),
        group_norm_backward,
        lambda x, g, b: F.group_norm(x, 4, g, b),
        [numbers(8, 16, 5, 5, offset=offset), numbers(16, seed=1), numbers(16, seed=2)],
    )


def test_one_group_is_layer_norm_of_channels_and_space_and_all_groups_are_instance_norm():
    x = numbers(3, 4, 5)
    np.testing.assert_allclose(group_norm(x, 1)[0], layer_norm(x, (4, 5))[0], atol=1e-15)
    np.testing.assert_array_equal(group_norm(x, 4)[0], instance_norm(x)[0])


def test_groups_are_consecutive_channels():
    x = numbers(2, 4, 5) + np.array([0, 0, 1e3, 1e3])[:, None]
    y, cache = group_norm(x, 2)
    np.testing.assert_allclose(y.reshape(2, 2, 10).mean(axis=2), 0, atol=1e-12)
    dx = group_norm_backward(numbers(2, 4, 5, seed=1), cache)[0]
    np.testing.assert_allclose(dx.reshape(2, 2, 10).sum(axis=2), 0, atol=1e-12)


def test_every_sample_is_on_its_own():
    x = numbers(3, 4, 5)
    np.testing.assert_array_equal(group_norm(x, 2)[0][:1], group_norm(x[:1], 2)[0])


def test_constant_groups_and_groups_of_one_value_become_the_bias():
    beta = np.arange(4.0)
    for x in (np.full((2, 4, 3), 1e4), numbers(2, 4)):
        y, cache = group_norm(x, 4, beta=beta)
        np.testing.assert_allclose(np.moveaxis(y, 1, -1) - beta, 0, atol=1e-10)
        np.testing.assert_allclose(group_norm_backward(np.ones_like(x), cache)[0], 0, atol=1e-10)


@pytest.mark.parametrize("num_groups", [3, 8, 0, -2])
def test_num_groups_must_divide_the_channels(num_groups):
    with refuses(ValueError, "num_groups"):
        group_norm(numbers(2, 4, 3), num_groups)


@pytest.mark.parametrize("num_groups", [2.0, None, "2"])
def test_num_groups_must_be_an_int(num_groups):
    with refuses(TypeError, "num_groups"):
        group_norm(numbers(2, 4, 3), num_groups)


@pytest.mark.parametrize("function", [lambda x: group_norm(x, 1), instance_norm])
def test_the_input_needs_channels(function):
    with refuses(ValueError, "x"):
        function(numbers(4))
