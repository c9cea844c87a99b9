"""The norms that torch lacks, against the NumPy reference: outputs, gradients, running statistics, errors."""

import numpy as np
import pytest
import torch
from torch.nn.utils.parametrize import register_parametrization

from lnorm import nn as ours
from lnorm import reference


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def agree(module, x, dy, forward, backward, *arguments):
    """Compare the module's output and gradients with those of the reference, gain and bias far from 1 and 0."""
    rng = np.random.default_rng(1)
    parameters = {name: rng.normal(size=p.shape) for name, p in module.double().named_parameters()}
    for name, parameter in module.named_parameters():
        parameter.data = torch.from_numpy(parameters[name])
    t = torch.tensor(x, requires_grad=True)
    y = module(t, *(torch.from_numpy(a) for a in arguments if isinstance(a, np.ndarray)))
    y.backward(torch.from_numpy(dy))
    expected, cache = forward(x, *arguments, *parameters.values())
    gradients = backward(dy, cache)
    np.testing.assert_allclose(y.detach(), expected, atol=1e-12)
    got = (t.grad, *(parameter.grad for parameter in module.parameters()))
    for one, other in zip(got, gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10)


def test_ghost_batch_norm(rng):
    x, dy = rng.normal(size=(2, 6, 5, 4))
    agree(ours.GhostBatchNorm(5, 3), x, dy, reference.ghost_batch_norm, reference.ghost_batch_norm_backward, 3)


def test_ghost_batch_norm_tracks_the_mean_of_the_groups_and_evaluates_with_it(rng):
    x = torch.from_numpy(rng.normal(2.0, 3.0, size=(6, 5)))
    module = ours.GhostBatchNorm(5, 3, momentum=1.0).double()
    module(x)
    np.testing.assert_allclose(module.running_mean, x.mean(0))
    np.testing.assert_allclose(module.running_var, (x[:3].var(0) + x[3:].var(0)) / 2)
    module.eval()
    plain = ours.BatchNorm(5).double().eval()
    plain.load_state_dict(module.state_dict())
    torch.testing.assert_close(module(x[:5]), plain(x[:5]))  # rows left over do not matter in evaluation


def test_one_ghost_group_is_batch_norm_and_an_empty_batch_stays_empty(rng):
    x = torch.from_numpy(rng.normal(size=(6, 5, 2)))
    torch.testing.assert_close(ours.GhostBatchNorm(5, 6).double()(x), ours.BatchNorm(5).double()(x))
    assert ours.GhostBatchNorm(5, 3)(torch.zeros(0, 5)).shape == (0, 5)


def test_masked_batch_norm(rng):
    x, dy = rng.normal(size=(2, 3, 4, 5))
    mask = rng.random((3, 4)) < 0.6
    agree(ours.MaskedBatchNorm(5), x, dy, reference.masked_batch_norm, reference.masked_batch_norm_backward, mask)


def test_masked_batch_norm_does_not_see_padding(rng):
    x = torch.from_numpy(rng.normal(size=(3, 4, 5)))
    mask = torch.arange(4) < torch.tensor([[4], [2], [3]])
    wild = torch.where(mask[..., None], x, torch.tensor(torch.inf))
    one, other = ours.MaskedBatchNorm(5).double(), ours.MaskedBatchNorm(5).double()
    assert torch.equal(one(x, mask), other(wild, mask))
    assert torch.equal(one.running_var, other.running_var)


def test_detached_layer_norm(rng):
    x, dy = rng.normal(size=(2, 3, 4, 5))
    backward = reference.detached_layer_norm_backward
    agree(ours.DetachedLayerNorm((4, 5)), x, dy, reference.detached_layer_norm, backward, (4, 5))
    t = torch.from_numpy(x)
    assert torch.equal(ours.DetachedLayerNorm(5).double()(t), ours.LayerNorm(5).double()(t))


@pytest.mark.parametrize("p", [0.07, 0.25, 1.0])
def test_partial_rms_norm(rng, p):
    x, dy = rng.normal(size=(2, 3, 100))
    agree(
        ours.PartialRMSNorm(100, p, eps=1e-5),
        x,
        dy,
        lambda x, gamma: reference.partial_rms_norm(x, p, gamma),
        reference.partial_rms_norm_backward,
    )


def test_weight_standardization(rng):
    conv = torch.nn.Conv2d(3, 4, 2).double()
    raw = conv.weight.detach().numpy().copy()
    register_parametrization(conv, "weight", ours.WeightStandardization())
    expected, cache = reference.standardize_weight(raw)
    np.testing.assert_allclose(conv.weight.detach(), expected, atol=1e-12)
    dy = rng.normal(size=raw.shape)
    conv.weight.backward(torch.from_numpy(dy))
    gradient = conv.parametrizations.weight.original.grad
    np.testing.assert_allclose(gradient, reference.standardize_weight_backward(dy, cache), atol=1e-10)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: ours.GhostBatchNorm(5, 0), ValueError, "group: expected at least 1"),
        (lambda: ours.GhostBatchNorm(5, 4)(torch.zeros(6, 5)), ValueError, "x: expected a multiple of 4 rows.*got 6"),
        (lambda: ours.GhostBatchNorm(5, 1)(torch.zeros(6, 5)), ValueError, "x: expected more than one value"),
        (lambda: ours.MaskedBatchNorm(5)(torch.zeros(2, 5), torch.ones(2)), TypeError, "mask: expected a boolean"),
        (
            lambda: ours.MaskedBatchNorm(5)(torch.zeros(2, 5), torch.ones(3, dtype=torch.bool)),
            ValueError,
            r"mask: expected the shape of x without its channels, \(2,\), got \(3,\)",
        ),
        (lambda: ours.PartialRMSNorm(5, 0.0), ValueError, "p: expected a number above 0"),
        (lambda: ours.WeightStandardization()(torch.zeros(3)), ValueError, "weight: expected shape"),
        (
            lambda: ours.WeightStandardization()(torch.zeros(3, 2, dtype=torch.int64)),
            TypeError,
            "weight: expected a floa",
        ),
    ],
)
def test_bad_input_is_named(call, error, says):
    with pytest.raises(error, match=says):
        call()
