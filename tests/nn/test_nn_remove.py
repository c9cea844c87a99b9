"""Freezing norms: the constant is the mean standard deviation. Removing them: the same function without a norm."""

import pytest
import torch
from torch import nn

from lnorm.nn import FrozenNorm, LayerNorm, RMSNorm, Transformer, freeze_norms, remove_norms

NORMS = (nn.LayerNorm, nn.RMSNorm, FrozenNorm)


def model(placement="pre", norm=LayerNorm, **options):
    generator = torch.Generator().manual_seed(0)
    built = Transformer(11, 8, 2, 2, 9, placement=placement, norm=norm, generator=generator, **options).double()
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter += 0.5 * torch.randn(parameter.shape, generator=generator)
    return built


def tokens(seed=1):
    return torch.randint(11, (4, 9), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("norm", [LayerNorm(5, eps=0.1), nn.LayerNorm(5), RMSNorm(5, eps=0.1), nn.RMSNorm(5)])
@torch.no_grad()
def test_the_constant_is_the_mean_over_rows_of_their_standard_deviation(norm):
    torch.manual_seed(0)
    norm = norm.double()
    norm.weight.normal_()
    x = torch.randn(3, 4, 5, dtype=torch.float64) * torch.rand(3, 4, 1) * 3 + 1
    centred = x - x.mean(-1, keepdim=True) if isinstance(norm, nn.LayerNorm) else x
    eps = torch.finfo(torch.float64).eps if norm.eps is None else norm.eps
    sigma = (centred.square().mean(-1) + eps).sqrt().mean()

    net = nn.Sequential(norm)
    frozen = freeze_norms(net, x)
    assert net[0] is norm
    expected = centred / sigma * norm.weight + (norm.bias if isinstance(norm, nn.LayerNorm) else 0)
    torch.testing.assert_close(frozen(x), expected)
    torch.testing.assert_close(frozen(2 * x) - frozen(0 * x), 2 * (frozen(x) - frozen(0 * x)))  # linear


@torch.no_grad()
def test_freezing_rows_of_one_spread_changes_nothing():
    torch.manual_seed(0)
    net = nn.Sequential(LayerNorm(6), nn.Linear(6, 4)).double()
    x = nn.functional.layer_norm(torch.randn(7, 6, dtype=torch.float64), (6,), eps=0) * 3 + 2
    torch.testing.assert_close(freeze_norms(net, x)(x), net(x))


def test_frozen_norms_keep_training_and_mode():
    frozen = freeze_norms(model(), tokens())
    assert frozen.training and not any(isinstance(m, (nn.LayerNorm, nn.RMSNorm)) for m in frozen.modules())
    frozen(tokens()).sum().backward()
    norms = [m for m in frozen.modules() if isinstance(m, FrozenNorm)]
    assert len(norms) == 5
    assert all(norm.weight.grad is not None and norm.bias.grad is not None for norm in norms)
    loaded = freeze_norms(model(), tokens(2))
    loaded.load_state_dict(frozen.state_dict())  # the constants travel with the checkpoint
    torch.testing.assert_close(loaded(tokens()), frozen(tokens()))


@pytest.mark.parametrize("norm", [LayerNorm, RMSNorm])
@pytest.mark.parametrize("placement", ["pre", "sandwich", "peri", "none"])
@torch.no_grad()
def test_removal_is_exact(placement, norm):
    trained = model(placement, norm)
    frozen = trained if placement == "none" else freeze_norms(trained, tokens())
    bare = remove_norms(frozen)
    torch.testing.assert_close(bare(tokens(3)), frozen(tokens(3)), rtol=0, atol=1e-10)
    assert not any(isinstance(module, NORMS) for module in bare.modules())
    assert not any("norm" in name for name in bare.state_dict())
    if placement != "none":
        assert (frozen(tokens(3)) - trained(tokens(3))).abs().max() > 1e-3  # freezing, not removal, is what costs
        assert any(isinstance(module, FrozenNorm) for module in frozen.modules())


@torch.no_grad()
def test_norms_of_queries_and_keys_stay_frozen():
    frozen = freeze_norms(model(qk_norm=True), tokens())
    bare = remove_norms(frozen)
    torch.testing.assert_close(bare(tokens(3)), frozen(tokens(3)), rtol=0, atol=1e-10)
    assert {name.split(".")[-1] for name, m in bare.named_modules() if isinstance(m, NORMS)} == {
        "norm_query",
        "norm_key",
    }


def test_what_cannot_be_frozen_or_removed_is_refused():
    with pytest.raises(ValueError, match="model: expected a model with LayerNorm or RMSNorm inside"):
        freeze_norms(nn.Linear(2, 2), torch.ones(1, 2))
    unused = nn.Linear(2, 2)
    unused.norm = nn.LayerNorm(2)
    with pytest.raises(ValueError, match="inputs: expected inputs that reach every norm, got none at norm"):
        freeze_norms(unused, torch.ones(1, 2))
    with pytest.raises(
        ValueError, match=r"model: expected norms that freeze_norms has frozen.*got LayerNorm at blocks"
    ):
        remove_norms(model())
    for placement in ("post", "deepnorm"):
        with pytest.raises(ValueError, match=r"leaves the stream alone, got FrozenNorm at blocks\.0\.norm_stream"):
            remove_norms(freeze_norms(model(placement), tokens()))
    with pytest.raises(TypeError, match="model: expected Transformer, got Linear"):
        remove_norms(nn.Linear(2, 2))
