import numpy as np
import pytest
import torch
from reference_helpers import assert_matches_torch, numbers, refuses

from lnorm.reference import detached_layer_norm, detached_layer_norm_backward, layer_norm, layer_norm_backward


@pytest.mark.parametrize(("shape", "normalized_shape"), [((6, 8), (8,)), ((2, 3, 5), (3, 5))])
def test_matches_torch_with_detached_statistics(shape, normalized_shape):
    def in_torch(x, gamma, beta):
        axes = tuple(range(-len(normalized_shape), 0))
        var, mean = torch.var_mean(x, dim=axes, correction=0, keepdim=True)
        return (x - mean.detach()) / torch.sqrt(var.detach() + 1e-5) * gamma + beta

    assert_matches_torch(
        lambda x, *affine: detached_layer_norm(x, normalized_shape, *affine),
        detached_layer_norm_backward,
        in_torch,
        [numbers(*shape), numbers(*normalized_shape, seed=1), numbers(*normalized_shape, seed=2)],
    )


def test_layer_norms_gradient_is_the_detached_one_projected():
    x, gamma, dy = numbers(5, 8), numbers(8, seed=1), numbers(5, 8, seed=2)
    y, cache = detached_layer_norm(x, 8, gamma, eps=0)
    dx, dgamma, dbeta = detached_layer_norm_backward(dy, cache)
    y_layer, cache_layer = layer_norm(x, 8, gamma, eps=0)
    dx_layer, dgamma_layer, dbeta_layer = layer_norm_backward(dy, cache_layer)
    projected = dx - dx.mean(axis=1, keepdims=True)
    projected -= cache.x_hat * np.mean(projected * cache.x_hat, axis=1, keepdims=True)
    np.testing.assert_array_equal(y, y_layer)
    np.testing.assert_allclose(projected, dx_layer, atol=1e-14)
    np.testing.assert_array_equal([dgamma, dbeta], [dgamma_layer, dbeta_layer])
    assert np.abs(dx.sum(axis=1)).min() > 1e-3  # nothing has re-centred it


def test_refuses_what_layer_norm_refuses():
    with refuses(ValueError, "normalized_shape"):
        detached_layer_norm(numbers(2, 3), 4)
