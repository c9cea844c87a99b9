"""LoRA starts at nothing, merges exactly; selectors choose norms, all of them and nothing else."""

import pytest
import torch
from torch import nn

import lnorm.nn as ours
from lnorm.nn import LoRALinear, Transformer, add_lora, lora_parameters, merge_lora, norm_parameters, train_only


def model():
    return Transformer(11, 8, 2, 2, 9, generator=torch.Generator().manual_seed(0)).double()


def tokens():
    return torch.randint(11, (3, 9), generator=torch.Generator().manual_seed(1))


def trained(net):
    """Give the updates some values, as training would."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for factor in lora_parameters(net):
            factor += torch.randn(factor.shape, generator=generator)
    return net


@torch.no_grad()
def test_lora_starts_as_the_layer_and_adds_a_scaled_product():
    torch.manual_seed(0)
    linear = nn.Linear(5, 7).double()
    x = torch.randn(3, 5, dtype=torch.float64)
    lora = LoRALinear(linear, rank=2, alpha=6)
    assert torch.equal(lora(x), linear(x))
    lora.up.normal_()
    torch.testing.assert_close(lora(x), linear(x) + 6 / 2 * x @ (lora.up @ lora.down).T)
    torch.testing.assert_close(lora.merged()(x), lora(x))
    assert [name for name, p in lora.named_parameters() if p.requires_grad] == ["down", "up"]
    assert LoRALinear(nn.Linear(5, 7), rank=3).scale == 1.0


def test_add_train_and_merge():
    net = model()
    before = net(tokens())
    added = add_lora(net, rank=2)
    assert torch.equal(net(tokens()), before)
    assert sum(isinstance(m, LoRALinear) for m in net.modules()) == 4  # query and value of two layers
    assert train_only(net, added) == 4 * 2 * (8 + 8)
    loss = trained(net)(tokens()).square().mean()
    loss.backward()
    assert {name.split(".")[-1] for name, p in net.named_parameters() if p.grad is not None} == {"down", "up"}
    after = net(tokens())
    assert (after - before).abs().max() > 1e-2
    merge_lora(net)
    assert not any(isinstance(m, LoRALinear) for m in net.modules())
    torch.testing.assert_close(net(tokens()), after, rtol=0, atol=1e-10)
    model().load_state_dict(net.state_dict())  # the architecture of before
    merge_lora(net)
    torch.testing.assert_close(net(tokens()), after, rtol=0, atol=1e-10)


def test_lora_names_and_repeats():
    net = model()
    assert len(add_lora(net, names=("up", "down", "head"), rank=1)) == 2 * 5
    assert len(add_lora(net, names=("output",), rank=1)) == 2 * 7  # those of before count too
    with pytest.raises(ValueError, match=r"names: .* got \('querry',\), which match none"):
        add_lora(net, names=("querry",))
    with pytest.raises(TypeError, match="names: expected a collection of names, got the string 'query'"):
        add_lora(net, names="query")
    with pytest.raises(ValueError, match="rank: expected at least 1"):
        add_lora(net, rank=0)
    with pytest.raises(TypeError, match="linear: expected Linear, got Conv1d"):
        LoRALinear(nn.Conv1d(2, 2, 1))


def test_norm_parameters_are_gains_and_biases_of_norms_alone():
    net = model()
    names = {id(p): name for name, p in net.named_parameters()}
    chosen = {names[id(p)] for p in norm_parameters(net)}
    assert chosen == {name for name in names.values() if "norm" in name}
    assert train_only(net, norm_parameters(net)) == 5 * 2 * 8
    assert {name for name, p in net.named_parameters() if p.requires_grad} == chosen


@pytest.mark.parametrize(
    ("norm", "count"),
    [
        (nn.LayerNorm(6), 12),
        (ours.LayerNorm(6), 12),
        (nn.RMSNorm(6), 6),
        (ours.RMSNorm(6), 6),
        (nn.BatchNorm2d(6), 12),
        (ours.BatchNorm(6), 12),
        (ours.SyncBatchNorm(6), 12),
        (nn.GroupNorm(2, 6), 12),
        (ours.GroupNorm(2, 6), 12),
        (nn.InstanceNorm1d(6, affine=True), 12),
        (ours.InstanceNorm(6), 0),
        (ours.SwitchNorm(6), 18),
        (ours.DynamicTanh(6), 13),
        (nn.Linear(6, 6), 0),
    ],
    ids=lambda each: type(each).__name__,
)
def test_every_norm_is_found(norm, count):
    assert sum(p.numel() for p in norm_parameters(nn.Sequential(nn.Linear(6, 6), norm))) == count


def test_the_numbers_of_the_small_language_model():
    net = Transformer(96, 64, layers=3, heads=4, context=32)
    assert train_only(net, norm_parameters(net)) == 896
    assert train_only(net, net.head.parameters()) == 6240
    assert train_only(net, net.parameters()) == 164_512
    assert train_only(net, []) == 0


def test_parameters_of_another_model_are_refused():
    with pytest.raises(ValueError, match="parameters: expected parameters of the model, got 2 that are not"):
        train_only(model(), nn.Linear(2, 2).parameters())
