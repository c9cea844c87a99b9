import numpy as np
import pytest
import torch
from reference_helpers import assert_matches_torch, numbers, refuses

from lnorm.reference import batch_norm, batch_norm_backward, masked_batch_norm, masked_batch_norm_backward


def lengths_mask(*lengths, width):
    return np.arange(width) < np.array(lengths)[:, None]


def in_torch(x, gamma, beta, mask):
    keep = torch.tensor(mask)[..., None].double()
    axes = tuple(range(x.ndim - 1))
    mean = (x * keep).sum(axes) / keep.sum()
    var = ((x - mean) ** 2 * keep).sum(axes) / keep.sum()
    return ((x - mean) / torch.sqrt(var + 1e-5) * gamma + beta) * keep


@pytest.mark.parametrize(
    "mask", [lengths_mask(5, 2, 0, 3, width=6), lengths_mask(1, 1, width=1), numbers(2, 3, 4) > 0, np.arange(7) % 3 > 0]
)
def test_matches_torch_autograd(mask):
    assert_matches_torch(
        lambda x, gamma, beta: masked_batch_norm(x, mask, gamma, beta),
        masked_batch_norm_backward,
        lambda x, gamma, beta: in_torch(x, gamma, beta, mask),
        [numbers(*mask.shape, 3, offset=2), numbers(3, seed=1), numbers(3, seed=2)],
    )


def test_without_padding_it_is_batch_norm():
    x, dy = numbers(8, 3), numbers(8, 3, seed=1)
    y, cache = masked_batch_norm(x, np.ones(8, bool))
    y_plain, cache_plain = batch_norm(x)
    np.testing.assert_array_equal(y, y_plain)
    for ours, plain in zip(masked_batch_norm_backward(dy, cache), batch_norm_backward(dy, cache_plain), strict=True):
        np.testing.assert_array_equal(ours, plain)


def test_more_padding_changes_nothing_and_what_it_holds_does_not_matter():
    x, mask, affine = numbers(4, 6, 3), lengths_mask(6, 4, 2, 3, width=6), (numbers(3, seed=1), numbers(3, seed=2))
    longer = np.concatenate([x, np.full((4, 9, 3), np.nan)], axis=1)
    longer_mask = np.concatenate([mask, np.zeros((4, 9), bool)], axis=1)
    y, cache = masked_batch_norm(x, mask, *affine)
    y_longer, cache_longer = masked_batch_norm(longer, longer_mask, *affine)
    np.testing.assert_array_equal(y_longer[:, :6], y)
    assert not y_longer[:, 6:].any()
    dx_longer = masked_batch_norm_backward(np.ones_like(longer), cache_longer)[0]
    np.testing.assert_array_equal(dx_longer[:, :6], masked_batch_norm_backward(np.ones_like(x), cache)[0])
    assert not dx_longer[:, 6:].any()


@pytest.mark.filterwarnings("error")
def test_everything_masked_out():
    y, cache = masked_batch_norm(numbers(2, 3, 4), np.zeros((2, 3), bool), beta=np.ones(4))
    gradients = masked_batch_norm_backward(np.ones((2, 3, 4)), cache)
    assert y.shape == (2, 3, 4)
    assert not y.any()
    assert not any(gradient.any() for gradient in gradients)


def test_a_mask_changed_after_the_forward_pass_does_not_matter():
    mask = lengths_mask(2, 3, width=4)
    _, cache = masked_batch_norm(numbers(2, 4, 3), mask)
    expected = masked_batch_norm_backward(np.ones((2, 4, 3)), cache)[0]
    mask[:] = True
    np.testing.assert_array_equal(masked_batch_norm_backward(np.ones((2, 4, 3)), cache)[0], expected)


@pytest.mark.parametrize(
    ("error", "name", "x", "mask"),
    [
        (TypeError, "mask", np.ones((2, 3, 4)), np.ones((2, 3))),
        (TypeError, "mask", np.ones((2, 3, 4)), np.ones((2, 3), int)),
        (ValueError, "mask", np.ones((2, 3, 4)), np.ones((2, 3, 4), bool)),
        (ValueError, "mask", np.ones((2, 3, 4)), np.ones((2, 4), bool)),
        (ValueError, "mask", np.ones((2, 3, 4)), lengths_mask(1, 0, width=3)),
        (ValueError, "x", np.ones(3), np.ones((), bool)),
    ],
)
def test_bad_arguments_are_refused(error, name, x, mask):
    with refuses(error, name):
        masked_batch_norm(x, mask)
