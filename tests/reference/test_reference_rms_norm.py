import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from reference_helpers import assert_at_least_as_exact_as_torch, assert_matches_torch, numbers, refuses

from lnorm.reference import (
    layer_norm,
    layer_norm_backward,
    partial_rms_norm,
    partial_rms_norm_backward,
    rms_norm,
    rms_norm_backward,
)

SHAPES = [((6, 8), 8), ((2, 3, 5), (3, 5)), ((2, 3, 5), 5), ((7,), 7), ((4, 4), 4), ((5, 1), 1), ((0, 4), 4)]


@pytest.mark.parametrize(("shape", "normalized_shape"), SHAPES)
@pytest.mark.parametrize("parameters", [0, 1], ids=["plain", "gain"])
@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_matches_torch(shape, normalized_shape, parameters, eps):
    normalized = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
    assert_matches_torch(
        lambda x, *gamma: rms_norm(x, normalized_shape, *gamma, eps=eps),
        lambda dy, cache: rms_norm_backward(dy, cache)[: 1 + parameters],
        lambda x, *gamma: F.rms_norm(x, normalized, *gamma, eps=eps),
        [numbers(*shape), *(numbers(*normalized, seed=i) for i in range(parameters))],
    )


@pytest.mark.parametrize("offset", [0, 1e4])
def test_float32_is_at_least_as_exact_as_torch(offset):
    assert_at_least_as_exact_as_torch(
        lambda x, g: rms_norm(x, 256, g),
        rms_norm_backward,
        lambda x, g: F.rms_norm(x, (256,), g, eps=1e-5),
        [numbers(16, 256, offset=offset), numbers(256, seed=1)],
    )


def test_rows_have_root_mean_square_one_whatever_their_scale():
    x = numbers(9, 32, offset=3)
    y, _ = rms_norm(x, 32, eps=0)
    np.testing.assert_allclose((y**2).mean(axis=1), 1, rtol=1e-13)
    np.testing.assert_allclose(rms_norm(7 * x, 32, eps=0)[0], y, rtol=1e-12)
    assert np.abs(rms_norm(x + 1, 32, eps=0)[0] - y).max() > 0.01  # it is not free of the mean


def test_the_gradient_is_orthogonal_to_the_input():
    x, dy = numbers(9, 32), numbers(9, 32, seed=1)
    _, cache = rms_norm(x, 32, numbers(32, seed=2), eps=0)
    np.testing.assert_allclose((rms_norm_backward(dy, cache)[0] * x).sum(axis=1), 0, atol=1e-13)


def test_layer_norm_is_rms_norm_of_the_centred_row():
    x, dy = numbers(9, 32, offset=3), numbers(9, 32, seed=1)
    centred = x - x.mean(axis=1, keepdims=True)
    y, cache = layer_norm(x, 32)
    y_rms, cache_rms = rms_norm(centred, 32)
    dx_rms = rms_norm_backward(dy, cache_rms)[0]
    np.testing.assert_allclose(y, y_rms, atol=1e-13)
    np.testing.assert_allclose(
        layer_norm_backward(dy, cache)[0], dx_rms - dx_rms.mean(axis=1, keepdims=True), atol=1e-13
    )


@pytest.mark.parametrize("value", [0, 3, -1e4])
def test_constant_rows(value):
    y, cache = rms_norm(np.full((2, 6), float(value)), 6)
    np.testing.assert_allclose(y, np.sign(value), atol=1e-6)
    assert np.isfinite(rms_norm_backward(np.ones((2, 6)), cache)[0]).all()


def partial_in_torch(x, gamma, used, eps):
    return x / torch.sqrt((x[..., :used] ** 2).mean(dim=-1, keepdim=True) + eps) * gamma


@pytest.mark.parametrize("p", [0.01, 0.25, 0.3, 0.99, 1])
@pytest.mark.parametrize("shape", [(6, 8), (2, 3, 5), (7,), (5, 1), (0, 4)])
def test_partial_matches_torch_autograd(p, shape):
    assert_matches_torch(
        lambda x, gamma: partial_rms_norm(x, p, gamma, eps=0.01),
        partial_rms_norm_backward,
        lambda x, gamma: partial_in_torch(x, gamma, math.ceil(p * shape[-1]), 0.01),
        [numbers(*shape), numbers(shape[-1], seed=1)],
    )


@pytest.mark.parametrize(
    ("p", "features", "used"),
    [(0.07, 100, 7), (0.0625, 64, 4), (0.0626, 64, 5), (1e-12, 64, 1), (1, 5, 5), (0.5, 5, 3)],
)
def test_partial_counts_elements_as_one_writes_the_share(p, features, used):
    _, cache = partial_rms_norm(numbers(2, features), p)
    assert cache.used == used


def test_partial_with_all_elements_is_rms_norm():
    x, gamma, dy = numbers(4, 6), numbers(6, seed=1), numbers(4, 6, seed=2)
    y, cache = partial_rms_norm(x, 1, gamma)
    y_full, cache_full = rms_norm(x, 6, gamma)
    np.testing.assert_allclose(y, y_full, rtol=1e-14)
    np.testing.assert_allclose(
        partial_rms_norm_backward(dy, cache)[0], rms_norm_backward(dy, cache_full)[0], atol=1e-14
    )


def test_elements_the_estimate_leaves_out_do_not_affect_the_others():
    x, moved = numbers(3, 8), numbers(3, 8)
    moved[:, 5:] = 1e3
    np.testing.assert_array_equal(partial_rms_norm(x, 0.5)[0][:, :5], partial_rms_norm(moved, 0.5)[0][:, :5])


@pytest.mark.parametrize("p", [0, -0.1, 1.1, np.nan, "half", None])
def test_a_bad_share_is_refused(p):
    with refuses(ValueError, "p"):
        partial_rms_norm(numbers(2, 4), p)


@pytest.mark.parametrize("x", [np.ones(()), np.ones((3, 0))])
def test_partial_needs_a_last_axis(x):
    with refuses(ValueError, "x"):
        partial_rms_norm(x, 0.5)
