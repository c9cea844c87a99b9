"""Every norm against the torch module of its name: outputs, gradients, running statistics, checkpoints, errors."""

import inspect

import numpy as np
import pytest
import torch
from torch import nn

import lnorm.nn as ours
import lnorm.reference as reference

# (ours, torch's, input shape)
PAIRS = {
    "layer": (lambda **k: ours.LayerNorm((5, 7), **k), lambda **k: nn.LayerNorm((5, 7), **k), (3, 5, 7)),
    "layer, eps": (lambda **k: ours.LayerNorm(7, 0.1, **k), lambda **k: nn.LayerNorm(7, 0.1, **k), (3, 5, 7)),
    "layer, no bias": (
        lambda **k: ours.LayerNorm(7, bias=False, **k),
        lambda **k: nn.LayerNorm(7, bias=False, **k),
        (3, 7),
    ),
    "layer, bare": (
        lambda **k: ours.LayerNorm(7, elementwise_affine=False, **k),
        lambda **k: nn.LayerNorm(7, elementwise_affine=False, **k),
        (3, 7),
    ),
    "rms": (lambda **k: ours.RMSNorm(7, **k), lambda **k: nn.RMSNorm(7, **k), (3, 5, 7)),
    "rms, eps": (lambda **k: ours.RMSNorm((5, 7), 0.1, **k), lambda **k: nn.RMSNorm((5, 7), 0.1, **k), (3, 5, 7)),
    "batch, rank 2": (lambda **k: ours.BatchNorm(5, **k), lambda **k: nn.BatchNorm1d(5, **k), (6, 5)),
    "batch, rank 3": (lambda **k: ours.BatchNorm(5, **k), lambda **k: nn.BatchNorm1d(5, **k), (3, 5, 4)),
    "batch, rank 4": (lambda **k: ours.BatchNorm(5, **k), lambda **k: nn.BatchNorm2d(5, **k), (3, 5, 4, 2)),
    "batch, rank 5": (lambda **k: ours.BatchNorm(5, **k), lambda **k: nn.BatchNorm3d(5, **k), (3, 5, 4, 2, 3)),
    "batch, cumulative": (
        lambda **k: ours.BatchNorm(5, momentum=None, **k),
        lambda **k: nn.BatchNorm1d(5, momentum=None, **k),
        (6, 5),
    ),
    "batch, untracked": (
        lambda **k: ours.BatchNorm(5, 0.1, track_running_stats=False, **k),
        lambda **k: nn.BatchNorm1d(5, 0.1, track_running_stats=False, **k),
        (6, 5),
    ),
    "batch, bare": (
        lambda **k: ours.BatchNorm(5, affine=False, **k),
        lambda **k: nn.BatchNorm1d(5, affine=False, **k),
        (6, 5),
    ),
    "sync, one process": (lambda **k: ours.SyncBatchNorm(5, **k), lambda **k: nn.BatchNorm1d(5, **k), (6, 5)),
    "group": (lambda **k: ours.GroupNorm(3, 6, **k), lambda **k: nn.GroupNorm(3, 6, **k), (2, 6, 4, 5)),
    "group, rank 2": (lambda **k: ours.GroupNorm(2, 6, **k), lambda **k: nn.GroupNorm(2, 6, **k), (3, 6)),
    "group, bare": (
        lambda **k: ours.GroupNorm(1, 6, affine=False, **k),
        lambda **k: nn.GroupNorm(1, 6, affine=False, **k),
        (3, 6, 4),
    ),
    "instance": (lambda **k: ours.InstanceNorm(5, **k), lambda **k: nn.InstanceNorm2d(5, **k), (3, 5, 4, 2)),
    "instance, affine": (
        lambda **k: ours.InstanceNorm(5, affine=True, **k),
        lambda **k: nn.InstanceNorm1d(5, affine=True, **k),
        (3, 5, 4),
    ),
    "instance, tracked": (
        lambda **k: ours.InstanceNorm(5, affine=True, track_running_stats=True, **k),
        lambda **k: nn.InstanceNorm1d(5, affine=True, track_running_stats=True, **k),
        (3, 5, 4),
    ),
}
pairs = pytest.mark.parametrize("name", PAIRS)


def make(name, dtype=torch.float64, seed=0):
    """A pair of modules with the same parameters, far from 1 and 0, and rows of different means and scales."""
    make_ours, make_theirs, shape = PAIRS[name]
    mine, theirs = make_ours(dtype=dtype), make_theirs(dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter += 2 * torch.randn(parameter.shape, generator=generator).to(dtype)
    mine.load_state_dict(theirs.state_dict())
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    x = x * torch.rand(shape[0], *(1,) * (len(shape) - 1), generator=generator) * 3 + 1
    return mine, theirs, x.to(dtype)


def states_agree(mine, theirs):
    for key, value in theirs.state_dict().items():
        if key != "num_batches_tracked" or not isinstance(theirs, nn.modules.instancenorm._InstanceNorm):
            torch.testing.assert_close(mine.state_dict()[key], value)


def run(module, x):
    """Output and all gradients of ``module`` at ``x``, and the running statistics after it."""
    leaf = x.clone().requires_grad_()
    module.zero_grad()
    y = module(leaf)
    y.backward(torch.linspace(-1, 2, y.numel(), dtype=x.dtype).view(y.shape))
    running = [value.clone() for key, value in module.named_buffers() if key.startswith("running")]
    return [y.detach(), leaf.grad, *(p.grad for p in module.parameters()), *running]


@pairs
def test_outputs_gradients_and_running_statistics_are_torchs(name):
    mine, theirs, x = make(name)
    for step in range(3):
        batch = x * (step + 1) + step
        for got, expected in zip(run(mine, batch), run(theirs, batch), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
        states_agree(mine, theirs)
    mine.eval(), theirs.eval()
    for got, expected in zip(run(mine, x), run(theirs, x), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    states_agree(mine, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pairs
def test_lower_precision_is_as_close_to_the_exact_result_as_torchs(name, dtype):
    mine, theirs, x = make(name, dtype)
    exact = PAIRS[name][1](dtype=torch.float64)
    exact.load_state_dict(theirs.state_dict())
    for got, torchs, truth in zip(run(mine, x), run(theirs, x), run(exact, x.double()), strict=True):
        assert got.dtype == dtype
        error, torchs_error = ((each.double() - truth).abs().max() for each in (got, torchs))
        one_rounding = torch.finfo(dtype).eps * max(truth.abs().max(), 1.0)
        assert error <= 3 * torchs_error + 2 * one_rounding


@pairs
def test_checkpoints_load_both_ways(name):
    mine, theirs, x = make(name)
    mine(x)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(mine.state_dict(), strict=True)
    mine.eval(), theirs.eval()
    torch.testing.assert_close(theirs(x), mine(x))


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (ours.LayerNorm, nn.LayerNorm),
        (ours.RMSNorm, nn.RMSNorm),
        (ours.BatchNorm, nn.BatchNorm2d),
        (ours.GroupNorm, nn.GroupNorm),
        (ours.InstanceNorm, nn.InstanceNorm2d),
        (ours.SyncBatchNorm, nn.SyncBatchNorm),
    ],
)
def test_constructors_have_torchs_signature(mine, theirs):
    got, expected = (inspect.signature(cls).parameters for cls in (mine, theirs))
    assert list(got) == list(expected)
    for name in got:
        assert got[name].default == expected[name].default, name
        assert got[name].kind == expected[name].kind, name


@pairs
def test_non_contiguous_inputs_and_empty_batches(name):
    mine, theirs, x = make(name)
    scattered = x.repeat_interleave(2, dim=-1)[..., ::2]
    assert not scattered.is_contiguous()
    before = scattered.clone()
    torch.testing.assert_close(mine(scattered), theirs(x))
    assert torch.equal(scattered, before)
    state = {key: value.clone() for key, value in mine.state_dict().items() if key.startswith("running")}
    assert mine(x[:0]).shape == x[:0].shape
    for key, value in state.items():
        assert torch.equal(mine.state_dict()[key], value)


@pytest.mark.parametrize("name", ["layer", "batch, rank 4", "group", "instance"])
def test_a_large_offset_costs_no_more_than_torch(name):
    mine, theirs, x = make(name, torch.float32)
    shifted = x + 1e4
    exact = theirs.double()(shifted.double())
    got = (mine(shifted).double() - exact).abs().max()
    assert got < 0.05, "E[x²] - E[x]² would be off by more than 1"


@pytest.mark.parametrize("make_norm", [ours.LayerNorm, ours.RMSNorm])
def test_half_precision_statistics_do_not_overflow(make_norm):
    x = torch.tensor([[-3e4, 3e4, 2e4, -1e4]], dtype=torch.float16)  # the squares exceed float16's 65504
    exact = make_norm(4).double()(x.double())
    got = make_norm(4)(x)
    assert got.dtype == torch.float16
    torch.testing.assert_close(got.double(), exact, rtol=1e-3, atol=1e-3)


def test_constant_rows_and_single_features_give_the_bias():
    assert torch.equal(ours.LayerNorm(4)(torch.full((2, 4), 7.0)), torch.zeros(2, 4))
    assert torch.equal(ours.LayerNorm(1)(torch.randn(5, 1)), torch.zeros(5, 1))
    assert torch.equal(ours.GroupNorm(3, 3)(torch.randn(2, 3)), torch.zeros(2, 3))


def test_rms_norm_default_eps_is_that_of_the_type_of_the_statistics():
    for dtype, eps in ((torch.float64, 2.0**-52), (torch.float32, 2.0**-23), (torch.bfloat16, 2.0**-23)):
        x = torch.full((1, 4), 1e-4, dtype=dtype)
        wide = x.double()
        exact = wide / (wide.square().mean() + eps).sqrt()
        torch.testing.assert_close(ours.RMSNorm(4, dtype=dtype)(x).double(), exact, rtol=1e-2, atol=0)


def test_token_batch_norm_is_batch_norm_over_all_tokens():
    torch.manual_seed(0)
    x = torch.randn(3, 4, 5, dtype=torch.float64) * torch.arange(1, 6)
    tokens, rows = ours.TokenBatchNorm(5).double(), nn.BatchNorm1d(5).double()
    torch.testing.assert_close(tokens(x), rows(x.view(-1, 5)).view(x.shape))
    states_agree(tokens, rows)
    with pytest.raises(ValueError, match=r"x: expected shape \(\.\.\., 5\)"):
        tokens(x[..., :4])


def test_torchs_update_bn_finds_batch_norm():
    torch.manual_seed(0)
    batches = [torch.randn(8, 3) + i for i in range(3)]
    mine, theirs = nn.Sequential(ours.BatchNorm(3)), nn.Sequential(nn.BatchNorm1d(3))
    for model in (mine, theirs):
        torch.optim.swa_utils.update_bn(batches, model)
    torch.testing.assert_close(mine[0].running_mean, theirs[0].running_mean)
    torch.testing.assert_close(mine[0].running_var, theirs[0].running_var)
    assert mine[0].running_mean.abs().min() > 0.3


# --- norms that torch has not ----------------------------------------------------------------------------------------


def switch_pair(shape):
    generator = torch.Generator().manual_seed(1)
    norm = ours.SwitchNorm(shape[1]).double()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter += torch.randn(parameter.shape, generator=generator)
    return norm, torch.randn(shape, generator=generator, dtype=torch.float64) * 3 + torch.arange(shape[0]).view(
        -1, *(1,) * (len(shape) - 1)
    )


@pytest.mark.parametrize("shape", [(3, 5, 4), (3, 5, 4, 2)])
def test_switch_norm_is_the_references(shape):
    norm, x = switch_pair(shape)
    x.requires_grad_()
    y = norm(x)
    dy = torch.linspace(-1, 2, y.numel(), dtype=torch.float64).view(y.shape)
    y.backward(dy)
    arrays = [p.detach().numpy() for p in (norm.mean_weight, norm.var_weight, norm.weight, norm.bias)]
    expected, cache = reference.switch_norm(x.detach().numpy(), *arrays)
    np.testing.assert_allclose(y.detach(), expected, atol=1e-10)
    gradients = [x.grad, norm.mean_weight.grad, norm.var_weight.grad, norm.weight.grad, norm.bias.grad]
    for got, wanted in zip(gradients, reference.switch_norm_backward(dy.numpy(), cache), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-9)


@pytest.mark.parametrize(
    ("share", "norm"),
    [(0, nn.InstanceNorm2d(5)), (1, nn.GroupNorm(1, 5)), (2, nn.BatchNorm2d(5))],
    ids=["instance", "layer", "batch"],
)
def test_switch_norm_with_one_share_is_that_norm(share, norm):
    torch.manual_seed(0)
    x = torch.randn(3, 5, 4, 2) * 2 + 1
    switch = ours.SwitchNorm(5)
    with torch.no_grad():
        for logits in (switch.mean_weight, switch.var_weight):
            logits[share] = 200.0
    torch.testing.assert_close(switch(x), norm(x), atol=1e-5, rtol=1e-5)
    if share == 2:  # in evaluation the batch's part comes from the running statistics
        switch.eval(), norm.eval()
        torch.testing.assert_close(switch(x), norm(x), atol=1e-5, rtol=1e-5)


def test_switch_norm_of_rows_mixes_layer_and_batch_alone():
    norm, x = switch_pair((6, 5))
    with torch.no_grad():
        norm.mean_weight[0] = norm.var_weight[0] = 100.0  # instance: must not count
    mean_share, var_share = norm.shares(2)
    assert mean_share.shape == (2,) and abs(mean_share.sum().item() - 1) < 1e-12
    mean = mean_share[0] * x.mean(1, keepdim=True) + mean_share[1] * x.mean(0)
    var = var_share[0] * x.var(1, correction=0, keepdim=True) + var_share[1] * x.var(0, correction=0)
    torch.testing.assert_close(norm(x), (x - mean) / (var + 1e-5).sqrt() * norm.weight + norm.bias)


def test_dynamic_tanh_is_the_references():
    torch.manual_seed(0)
    norm = ours.DynamicTanh(7, alpha_init_value=0.8).double()
    assert list(norm.state_dict()) == ["alpha", "weight", "bias"]
    with torch.no_grad():
        norm.weight += torch.randn(7)
        norm.bias += torch.randn(7)
    x = torch.randn(3, 5, 7, dtype=torch.float64)
    arrays = [p.detach().numpy() for p in (norm.alpha, norm.weight, norm.bias)]
    np.testing.assert_allclose(norm(x).detach(), reference.dynamic_tanh(x.numpy(), *arrays)[0], atol=1e-12)
    assert norm.half()(x.half()).dtype == torch.float16


# --- errors name the argument ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ours.LayerNorm(4)(torch.ones(2, 4, dtype=torch.int64)), TypeError, "x: expected a floating-point"),
        (lambda: ours.LayerNorm(4)([1.0, 2.0]), TypeError, "x: expected a floating-point tensor, got list"),
        (lambda: ours.LayerNorm(4)(torch.ones(2, 5)), ValueError, r"x: expected shape \(\.\.\., 4\), got \(2, 5\)"),
        (lambda: ours.RMSNorm((3, 4))(torch.ones(4)), ValueError, r"x: expected shape \(\.\.\., 3, 4\)"),
        (lambda: ours.LayerNorm(0), ValueError, "normalized_shape: expected at least 1"),
        (lambda: ours.LayerNorm(()), ValueError, "normalized_shape: expected at least one size"),
        (lambda: ours.RMSNorm(4.0), TypeError, "normalized_shape: expected an int"),
        (lambda: ours.LayerNorm(4, eps=-1e-5), ValueError, "eps: expected a finite number"),
        (lambda: ours.RMSNorm(4, eps=float("nan")), ValueError, "eps: "),
        (lambda: ours.BatchNorm(4)(torch.ones(3, 5)), ValueError, r"x: expected shape \(N, 4, \.\.\.\)"),
        (lambda: ours.BatchNorm(4)(torch.ones(4)), ValueError, "x: expected shape"),
        (lambda: ours.BatchNorm(4)(torch.ones(1, 4)), ValueError, "x: expected more than one value a channel"),
        (lambda: ours.BatchNorm(0), ValueError, "num_features: "),
        (lambda: ours.GroupNorm(2, 3), ValueError, "num_groups"),
        (lambda: ours.GroupNorm(0, 3), ValueError, "num_groups: expected at least 1"),
        (lambda: ours.GroupNorm(3, 6)(torch.ones(2, 5)), ValueError, r"x: expected shape \(N, 6"),
        (lambda: ours.InstanceNorm(3)(torch.ones(2, 3)), ValueError, "x: expected shape .* with axes of space"),
        (lambda: ours.InstanceNorm(3)(torch.ones(2, 3, 1)), ValueError, "x: expected more than one value"),
        (lambda: ours.SwitchNorm(3)(torch.ones(1, 3)), ValueError, "x: expected more than one value"),
        (lambda: ours.DynamicTanh(4)(torch.ones(2, 3)), ValueError, r"x: expected shape \(\.\.\., 4\)"),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()
