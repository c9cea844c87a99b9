"""Folds are exact: in float64 to 1e-10, and they leave what they fold untouched."""

import copy

import pytest
import torch
from torch import nn

from lnorm.nn import BatchNorm, InstanceNorm, LayerNorm, RMSNorm, SwitchNorm, fold_batch_norm, fold_centring, fold_gain


def randomized(module):
    """Parameters and running statistics far from their initial values."""
    generator = torch.Generator().manual_seed(0)
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator))
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.1)
    return module.eval()


def close(got, expected):
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda bias: nn.Linear(5, 7, bias=bias), (3, 5)),
        (lambda bias: nn.Linear(5, 5, bias=bias), (3, 5)),
        (lambda bias: nn.Conv1d(4, 6, 3, bias=bias), (2, 4, 8)),
        (lambda bias: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=bias), (2, 4, 5, 6)),
        (lambda bias: nn.Conv3d(2, 3, 2, bias=bias), (2, 2, 4, 3, 5)),
    ],
    ids=["linear", "square", "conv1d", "conv2d", "conv3d"],
)
def test_batch_norm_folds_into_the_layer_before(layer, shape, affine, bias):
    layer = randomized(layer(bias))
    norm = randomized(BatchNorm(len(layer.weight), eps=0.1, affine=affine))
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    before = copy.deepcopy(layer.state_dict())
    folded = fold_batch_norm(layer, norm)
    assert type(folded) is type(layer)
    close(folded(x), norm(layer(x)))
    for key, value in before.items():
        assert torch.equal(layer.state_dict()[key], value)


def test_folding_torchs_batch_norm_agrees_with_torch():
    conv, norm = randomized(nn.Conv2d(3, 4, 2)), randomized(nn.BatchNorm2d(4))
    expected = torch.nn.utils.fusion.fuse_conv_bn_eval(conv, norm)
    got = fold_batch_norm(conv, norm)
    close(got.weight, expected.weight)
    close(got.bias, expected.bias)


def test_what_batch_norm_folding_refuses():
    linear = nn.Linear(3, 4)
    with pytest.raises(TypeError, match=r"layer: expected Linear or Conv1d .*, got ConvTranspose1d"):
        fold_batch_norm(nn.ConvTranspose1d(3, 4, 2), BatchNorm(4))
    for norm in (SwitchNorm(4), InstanceNorm(4, track_running_stats=True)):
        with pytest.raises(TypeError, match=f"norm: expected BatchNorm, got {type(norm).__name__}"):
            fold_batch_norm(linear, norm)
    with pytest.raises(TypeError, match="norm: "):
        fold_batch_norm(linear, LayerNorm(4))
    with pytest.raises(ValueError, match="norm: expected running statistics"):
        fold_batch_norm(linear, BatchNorm(4, track_running_stats=False))
    with pytest.raises(ValueError, match="norm: expected the layer's 4 channels, got 3"):
        fold_batch_norm(linear, BatchNorm(3))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "norm",
    [
        lambda: LayerNorm(5, eps=0.1),
        lambda: LayerNorm(5, bias=False),
        lambda: RMSNorm(5, eps=0.1),
        lambda: RMSNorm(5),
        lambda: nn.LayerNorm(5),
        lambda: LayerNorm(5, elementwise_affine=False),
    ],
)
def test_the_gain_folds_into_every_reader(norm, bias):
    norm = randomized(norm())
    readers = [randomized(nn.Linear(5, outputs, bias=bias)) for outputs in (3, 4, 7)]
    x = 3 * torch.randn(2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 1
    bare, *folded = fold_gain(norm, *readers)
    assert type(bare) is type(norm) and not list(bare.parameters())
    for old, new in zip(readers, folded, strict=True):
        close(new(bare(x)), old(norm(x)))
        assert new.weight.requires_grad


def test_what_gain_folding_refuses():
    with pytest.raises(TypeError, match="norm: expected LayerNorm or RMSNorm, got GroupNorm"):
        fold_gain(nn.GroupNorm(1, 5), nn.Linear(5, 3))
    with pytest.raises(TypeError, match="linears: expected Linear, got Conv1d"):
        fold_gain(LayerNorm(5), nn.Conv1d(5, 3, 1))
    with pytest.raises(ValueError, match=r"linears: expected \(5,\) inputs, got 4"):
        fold_gain(LayerNorm(5), nn.Linear(4, 3))
    with pytest.raises(ValueError, match=r"linears: .* got none"):
        fold_gain(LayerNorm(5))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_centring_folds_into_the_layer_before(bias, affine):
    linear = randomized(nn.Linear(4, 6, bias=bias))
    norm = randomized(LayerNorm(6, eps=0.1, elementwise_affine=affine, bias=False))
    x = torch.randn(2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    centred, rms = fold_centring(linear, norm)
    assert isinstance(rms, RMSNorm)
    close(rms(centred(x)), norm(linear(x)))
    close(centred(x).mean(-1), torch.zeros(2, 5, dtype=torch.float64))


def test_a_bias_must_be_folded_first():
    first, norm, second = randomized(nn.Linear(4, 6)), randomized(LayerNorm(6)), randomized(nn.Linear(6, 3))
    x = torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with pytest.raises(ValueError, match=r"norm: expected no bias, .* fold_gain first"):
        fold_centring(first, norm)
    bare, new_second = fold_gain(norm, second)
    new_first, rms = fold_centring(first, bare)
    close(new_second(rms(new_first(x))), second(norm(first(x))))
    with pytest.raises(ValueError, match=r"norm: expected normalized_shape \(6,\), got \(5,\)"):
        fold_centring(first, LayerNorm(5))
