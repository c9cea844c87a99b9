import numpy as np
import pytest
import torch.nn.functional as F
from reference_helpers import assert_at_least_as_exact_as_torch, assert_matches_torch, numbers

from lnorm.reference import batch_norm, instance_norm, instance_norm_backward


@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 3, 2), (2, 3, 4, 5), (2, 1, 2, 2, 3)])
@pytest.mark.parametrize("parameters", [0, 1, 2], ids=["plain", "gain", "gain and bias"])
@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_matches_torch(shape, parameters, eps):
    def in_torch(x, weight=None, bias=None):
        return F.instance_norm(x, weight=weight, bias=bias, eps=eps)

    assert_matches_torch(
        lambda x, *affine: instance_norm(x, *affine, eps=eps),
        lambda dy, cache: instance_norm_backward(dy, cache)[: 1 + parameters],
        in_torch,
        [numbers(*shape), *(numbers(shape[1], seed=i) for i in range(parameters))],
    )


@pytest.mark.parametrize("offset", [0, 1e4])
def test_float32_is_at_least_as_exact_as_torch(offset):
    assert_at_least_as_exact_as_torch(
        instance_norm,
        instance_norm_backward,
        lambda x, g, b: F.instance_norm(x, weight=g, bias=b),
        [numbers(4, 8, 7, 7, offset=offset), numbers(8, seed=1), numbers(8, seed=2)],
    )


def test_it_is_batch_norm_of_one_sample():
    x = numbers(3, 4, 5)
    for sample in range(3):
        one = slice(sample, sample + 1)
        np.testing.assert_allclose(instance_norm(x)[0][one], batch_norm(x[one])[0], atol=1e-14)


def test_contrast_and_brightness_of_every_channel_are_forgotten():
    x, dy = numbers(2, 3, 20), numbers(2, 3, 20, seed=1)
    y, cache = instance_norm(x, eps=0)
    np.testing.assert_allclose(instance_norm(5 * x + 3, eps=0)[0], y, atol=1e-12)
    np.testing.assert_allclose(instance_norm_backward(dy, cache)[0].sum(axis=2), 0, atol=1e-13)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1)])
def test_one_position_becomes_the_bias(shape):
    y, _ = instance_norm(numbers(*shape), beta=np.arange(3.0))
    np.testing.assert_array_equal(y.reshape(2, 3), [[0, 1, 2]] * 2)


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_nothing_to_normalize_is_no_error(shape):
    y, cache = instance_norm(np.ones(shape))
    assert y.shape == instance_norm_backward(y, cache)[0].shape == shape
