import numpy as np
import pytest
import torch
import torch.nn.functional as F
from reference_helpers import assert_at_least_as_exact_as_torch, assert_matches_torch, numbers, refuses

from lnorm.reference import batch_norm, batch_norm_backward

SHAPES = [(6, 3), (2, 4), (5, 3, 4), (4, 3, 2, 5), (1, 3, 4), (2, 2, 2, 2, 3), (7, 1)]


def torch_layer(channels, momentum=0.1):
    layer = torch.nn.BatchNorm1d(channels, momentum=momentum, dtype=torch.float64)
    return layer.requires_grad_(False)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("parameters", [0, 1, 2], ids=["plain", "gain", "gain and bias"])
@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_training_matches_torch(shape, parameters, eps):
    assert_matches_torch(
        lambda x, *affine: batch_norm(x, *affine, eps=eps),
        lambda dy, cache: batch_norm_backward(dy, cache)[: 1 + parameters],
        lambda x, *affine: F.batch_norm(x, None, None, *affine, training=True, eps=eps),
        [numbers(*shape), *(numbers(shape[1], seed=i) for i in range(parameters))],
    )


@pytest.mark.parametrize("shape", [*SHAPES, (1, 3), (0, 3)])
def test_evaluation_matches_torch(shape):
    mean, var = numbers(shape[1], seed=5), numbers(shape[1], seed=6) ** 2
    assert_matches_torch(
        lambda x, *affine: batch_norm(x, *affine, mean, var, training=False),
        batch_norm_backward,
        lambda x, *affine: F.batch_norm(x, torch.tensor(mean), torch.tensor(var), *affine, training=False),
        [numbers(*shape), numbers(shape[1], seed=1), numbers(shape[1], seed=2)],
    )
    np.testing.assert_array_equal(mean, numbers(shape[1], seed=5))  # evaluation leaves them alone


@pytest.mark.parametrize("momentum", [0.1, 0.0, 1.0, 0.37, None])
@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 4)])
def test_running_statistics_match_torch_over_several_batches(momentum, shape):
    layer = torch_layer(3, momentum)
    mean, var, counter = np.zeros(3), np.ones(3), np.zeros((), np.int64)
    for batch in range(4):
        x = numbers(*shape, seed=batch, offset=batch)
        layer(torch.tensor(x))
        batch_norm(x, running_mean=mean, running_var=var, momentum=momentum, num_batches_tracked=counter)
        np.testing.assert_allclose(mean, layer.running_mean, atol=1e-13)
        np.testing.assert_allclose(var, layer.running_var, atol=1e-13)
        assert counter == layer.num_batches_tracked


def test_without_momentum_the_running_statistics_are_the_plain_average():
    batches = [numbers(5, 3, seed=i) for i in range(7)]
    mean, var, counter = np.full(3, 9.0), np.full(3, 9.0), np.array(0)
    for x in batches:
        batch_norm(x, running_mean=mean, running_var=var, momentum=None, num_batches_tracked=counter)
    np.testing.assert_allclose(mean, np.mean([x.mean(axis=0) for x in batches], axis=0), atol=1e-14)
    np.testing.assert_allclose(var, np.mean([x.var(axis=0, ddof=1) for x in batches], axis=0), atol=1e-14)


def test_the_running_variance_can_be_the_biased_one():
    x, mean, var = numbers(5, 3), np.zeros(3), np.ones(3)
    batch_norm(x, running_mean=mean, running_var=var, momentum=0.25, unbiased_running_var=False)
    np.testing.assert_allclose(mean, 0.25 * x.mean(axis=0), atol=1e-15)
    np.testing.assert_allclose(var, 0.75 + 0.25 * x.var(axis=0), atol=1e-15)


def test_evaluation_leaves_running_statistics_and_counter_alone():
    mean, var, counter = np.zeros(3), np.ones(3), np.array(4)
    batch_norm(numbers(5, 3), None, None, mean, var, training=False, num_batches_tracked=counter)
    assert not mean.any()
    assert (var == 1).all()
    assert counter == 4


def test_an_empty_batch_is_counted_but_changes_no_statistic_as_in_torch():
    layer = torch_layer(3, None)
    mean, var, counter = np.zeros(3), np.ones(3), np.array(0)
    for x in (numbers(0, 3), numbers(5, 3)):
        layer(torch.tensor(x))
        batch_norm(x, running_mean=mean, running_var=var, momentum=None, num_batches_tracked=counter)
    np.testing.assert_allclose(mean, layer.running_mean, atol=1e-14)
    assert counter == layer.num_batches_tracked == 2


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_running_statistics_keep_their_own_dtype(dtype):
    mean, var = np.zeros(3, dtype), np.ones(3, dtype)
    y, _ = batch_norm(numbers(5, 3), running_mean=mean, running_var=var)
    assert (y.dtype, mean.dtype, var.dtype) == (float, dtype, dtype)
    assert mean.all()


def test_evaluation_in_half_precision_rounds_once():
    x, mean, var = (array.astype(np.float16) for array in (numbers(9, 3), numbers(3), numbers(3) ** 2))
    y, _ = batch_norm(x, None, None, mean, var, training=False)
    exact, _ = batch_norm(x.astype(float), None, None, mean.astype(float), var.astype(float), training=False)
    np.testing.assert_allclose(y, exact, rtol=2**-11 + 1e-5)  # half a unit in the last place


@pytest.mark.parametrize("shape", [(4, 0), (4, 0, 3), (4, 3, 0)])
def test_nothing_to_normalize_is_no_error(shape):
    y, cache = batch_norm(np.ones(shape))
    assert y.shape == batch_norm_backward(y, cache)[0].shape == shape


@pytest.mark.parametrize("offset", [0, 1e4])
@pytest.mark.parametrize("shape", [(64, 8), (16, 8, 6, 6)])
def test_float32_is_at_least_as_exact_as_torch(offset, shape):
    assert_at_least_as_exact_as_torch(
        batch_norm,
        batch_norm_backward,
        lambda x, g, b: F.batch_norm(x, None, None, g, b, training=True),
        [numbers(*shape, offset=offset), numbers(shape[1], seed=1), numbers(shape[1], seed=2)],
    )


def test_gain_and_bias_can_undo_it():
    x = numbers(8, 3, offset=5, scale=3)
    y, _ = batch_norm(x, np.sqrt(x.var(axis=0) + 1e-5), x.mean(axis=0))
    np.testing.assert_allclose(y, x, atol=1e-13)


def test_a_batch_of_two_becomes_signs():
    y, _ = batch_norm(numbers(2, 9), eps=0)
    np.testing.assert_allclose(np.abs(y), 1, rtol=1e-12)


def test_the_gradient_sums_to_zero_over_the_batch():
    x, dy = numbers(9, 4, 3), numbers(9, 4, 3, seed=1)
    _, cache = batch_norm(x, numbers(4, seed=2), eps=0)
    dx = batch_norm_backward(dy, cache)[0]
    np.testing.assert_allclose(dx.sum(axis=(0, 2)), 0, atol=1e-13)
    np.testing.assert_allclose((dx * cache.x_hat).sum(axis=(0, 2)), 0, atol=1e-13)


def test_constant_channels_become_the_bias():
    y, cache = batch_norm(np.full((4, 2), 1e4), beta=np.array([1.0, 2.0]))
    np.testing.assert_allclose(y, [[1, 2]] * 4, atol=1e-10)
    assert np.isfinite(batch_norm_backward(np.ones((4, 2)), cache)[0]).all()


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_one_value_a_channel_is_refused_in_training_only(shape):
    mean, var = np.zeros(3), np.ones(3)
    with refuses(ValueError, "x"):
        batch_norm(numbers(*shape), running_mean=mean, running_var=var)
    assert not mean.any()
    batch_norm(numbers(*shape), running_mean=mean, running_var=var, training=False)


@pytest.mark.parametrize("momentum", [-0.1, 1.1, np.nan, np.inf, "0.1"])
def test_bad_momentum_is_refused(momentum):
    with refuses(ValueError, "momentum"):
        batch_norm(numbers(4, 3), momentum=momentum)


@pytest.mark.parametrize(
    ("error", "name", "arguments"),
    [
        (ValueError, "x", {"x": np.ones(3)}),
        (TypeError, "running_mean", {"running_mean": [0.0, 0.0, 0.0], "running_var": np.ones(3)}),
        (TypeError, "running_var", {"running_mean": np.zeros(3), "running_var": np.ones(3, int)}),
        (ValueError, "running_var", {"running_mean": np.zeros(3), "running_var": np.ones(4)}),
        (ValueError, "running_mean and running_var", {"running_mean": np.zeros(3)}),
        (ValueError, "running_mean and running_var", {"training": False}),
        (ValueError, "num_batches_tracked", {"momentum": None}),
        (TypeError, "num_batches_tracked", {"momentum": None, "num_batches_tracked": 3}),
        (TypeError, "num_batches_tracked", {"num_batches_tracked": np.array(0.0)}),
        (ValueError, "num_batches_tracked", {"num_batches_tracked": np.zeros(1, int)}),
    ],
)
def test_bad_arguments_are_refused(error, name, arguments):
    with refuses(error, name):
        batch_norm(**{"x": numbers(4, 3), **arguments})
