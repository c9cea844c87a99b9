import numpy as np
import pytest
import torch
from reference_helpers import assert_matches_torch, numbers, refuses

from lnorm.reference import (
    batch_norm,
    batch_norm_backward,
    instance_norm,
    instance_norm_backward,
    layer_norm,
    layer_norm_backward,
    switch_norm,
    switch_norm_backward,
)


def in_torch(x, mean_logits, var_logits, gamma, beta):
    space = tuple(range(2, x.ndim))
    statistics = [torch.var_mean(x, dim=axes, correction=0, keepdim=True) for axes in (space, (1, *space), (0, *space))]
    var = sum(weight * var for weight, (var, _) in zip(var_logits.softmax(0), statistics, strict=True))
    mean = sum(weight * mean for weight, (_, mean) in zip(mean_logits.softmax(0), statistics, strict=True))
    per_channel = (-1, *(1 for _ in space))
    return (x - mean) / torch.sqrt(var + 1e-5) * gamma.reshape(per_channel) + beta.reshape(per_channel)


@pytest.mark.parametrize("shape", [(3, 4, 2, 5), (3, 4, 5), (1, 4, 3, 3), (3, 4, 1), (3, 1, 2, 2), (2, 3, 2, 2, 2)])
@pytest.mark.parametrize("offset", [0, 3])
def test_matches_torch_autograd(shape, offset):
    channels = shape[1]
    assert_matches_torch(
        switch_norm,
        switch_norm_backward,
        in_torch,
        [numbers(*shape, offset=offset), numbers(3), numbers(3, seed=1), numbers(channels), numbers(channels, seed=1)],
    )


@pytest.mark.parametrize(
    ("chosen", "forward", "backward"),
    [
        (0, instance_norm, instance_norm_backward),
        (1, lambda x: layer_norm(x, x.shape[1:]), layer_norm_backward),
        (2, batch_norm, batch_norm_backward),
    ],
    ids=["instance", "layer", "batch"],
)
def test_with_all_weight_on_one_norm_it_is_that_norm(chosen, forward, backward):
    x, dy = numbers(3, 4, 5, 2), numbers(3, 4, 5, 2, seed=1)
    logits = np.where(np.arange(3) == chosen, 0.0, -1e3)
    y, cache = switch_norm(x, logits, logits)
    y_pure, cache_pure = forward(x)
    dx, dmean_logits, dvar_logits, _, _ = switch_norm_backward(dy, cache)
    np.testing.assert_allclose(y, y_pure, atol=1e-13)
    np.testing.assert_allclose(dx, backward(dy, cache_pure)[0], atol=1e-13)
    np.testing.assert_allclose([dmean_logits, dvar_logits], 0, atol=1e-13)


def test_only_differences_between_logits_matter():
    x, logits = numbers(3, 4, 5), numbers(3)
    y, cache = switch_norm(x, logits, -logits)
    np.testing.assert_allclose(switch_norm(x, logits + 50, -logits - 900)[0], y, atol=1e-12)
    _, dmean_logits, dvar_logits, _, _ = switch_norm_backward(numbers(3, 4, 5, seed=1), cache)
    np.testing.assert_allclose([dmean_logits.sum(), dvar_logits.sum()], 0, atol=1e-13)
    assert np.abs([dmean_logits, dvar_logits]).min() > 1e-4


def test_mean_and_variance_have_logits_of_their_own():
    x, a, b = numbers(3, 4, 5), numbers(3, seed=1), numbers(3, seed=2)
    y = switch_norm(x, a, b)[0]
    assert np.abs(y - switch_norm(x, a, a)[0]).max() > 1e-3
    assert np.abs(y - switch_norm(x, b, b)[0]).max() > 1e-3


def test_the_gradient_of_the_input_sums_to_zero_for_a_shift_of_everything():
    _, cache = switch_norm(numbers(3, 4, 5), numbers(3), numbers(3, seed=1))
    np.testing.assert_allclose(switch_norm_backward(numbers(3, 4, 5, seed=1), cache)[0].sum(), 0, atol=1e-12)


def test_an_offset_in_float32_costs_no_more_than_the_rounding_of_the_input():
    x = numbers(4, 3, 6, 6, offset=1e4).astype(np.float32)
    y = switch_norm(x, np.zeros(3), np.zeros(3))[0]
    np.testing.assert_allclose(y, switch_norm(x.astype(float), np.zeros(3), np.zeros(3))[0], rtol=1e-6)


def test_a_constant_input_becomes_the_bias():
    y, _ = switch_norm(np.full((2, 3, 4), 1e4), np.zeros(3), np.zeros(3), beta=np.arange(3.0))
    np.testing.assert_allclose(y, np.arange(3.0)[:, None] + np.zeros((2, 3, 4)), atol=1e-8)


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_the_input_needs_space(shape):
    with refuses(ValueError, "x"):
        switch_norm(np.ones(shape), np.zeros(3), np.zeros(3))
