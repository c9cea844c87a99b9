"""Placements against their equations on a dummy sublayer; Fixup's branch; adaptive normalization."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lnorm.nn import AdaptiveLayerNorm, AdaptiveResidualBlock, FixupBranch, LayerNorm, ResidualBlock

D = 5
LN = partial(F.layer_norm, normalized_shape=(D,))


def f(x):
    return 3 * x.flip(-1) + 1


class Dummy(nn.Module):
    def forward(self, x):
        return f(x)


EQUATIONS = {
    "none": lambda x: x + f(x),
    "pre": lambda x: x + f(LN(x)),
    "post": lambda x: LN(x + f(x)),
    "deepnorm": lambda x: LN(1.7 * x + f(x)),
    "peri": lambda x: x + LN(f(LN(x))),
    "sandwich": lambda x: x + LN(f(LN(x))),
}


@pytest.mark.parametrize("placement", EQUATIONS)
def test_placements(placement):
    torch.manual_seed(0)
    x = 2 * torch.randn(2, 3, D, dtype=torch.float64) + 1
    alpha = 1.7 if placement == "deepnorm" else None
    block = ResidualBlock(Dummy(), partial(LayerNorm, D), placement, alpha=alpha)
    torch.testing.assert_close(block.double()(x), EQUATIONS[placement](x))
    norms = sum(isinstance(module, LayerNorm) for module in block.modules())
    assert norms == {"none": 0, "peri": 2, "sandwich": 2}.get(placement, 1)


def test_bad_arguments_are_named():
    norm = partial(LayerNorm, D)
    with pytest.raises(ValueError, match=r"placement: expected one of 'pre', .*, got 'middle'"):
        ResidualBlock(Dummy(), norm, "middle")
    with pytest.raises(TypeError, match="norm: expected a function that makes a norm, got LayerNorm"):
        ResidualBlock(Dummy(), LayerNorm(D))
    with pytest.raises(ValueError, match='alpha: expected a number with "deepnorm"'):
        ResidualBlock(Dummy(), norm, "deepnorm")
    with pytest.raises(ValueError, match=r'alpha: .* got 2.0 with "pre"'):
        ResidualBlock(Dummy(), norm, "pre", alpha=2.0)


def test_fixup_branch_has_its_scalars():
    torch.manual_seed(0)
    branch = FixupBranch(D, 7).double()
    x = torch.randn(3, D, dtype=torch.float64)
    plain = torch.relu(x @ branch.up.weight.T) @ branch.down.weight.T
    torch.testing.assert_close(branch(x), plain)
    with torch.no_grad():
        branch.biases.copy_(torch.tensor([0.5, -0.2, 0.3]))
        branch.multiplier.fill_(2.0)
    expected = 2.0 * (torch.relu((x + 0.5) @ branch.up.weight.T - 0.2) + 0.3) @ branch.down.weight.T
    torch.testing.assert_close(branch(x), expected)
    assert sum(p.numel() for p in branch.parameters()) == 2 * 7 * D + 4


def randomized(module):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module.double()


@pytest.mark.parametrize("shape", [(2, D), (2, 3, D), (2, 3, 4, D)])
def test_adaptive_layer_norm_takes_gain_and_bias_from_the_condition(shape):
    torch.manual_seed(1)
    x, condition = torch.randn(shape, dtype=torch.float64), torch.randn(2, 6, dtype=torch.float64)
    norm = AdaptiveLayerNorm(D, 6, eps=1e-5).double()
    torch.testing.assert_close(norm(x, condition), LN(x))  # starts as LayerNorm without gain and bias
    randomized(norm)
    y = norm(x, condition)
    for i in range(2):  # every example by its own condition
        shift, scale = norm.modulation(F.silu(condition[i])).chunk(2)
        torch.testing.assert_close(y[i], LN(x[i]) * (1 + scale) + shift)


def test_adaptive_residual_block_starts_as_the_identity():
    torch.manual_seed(1)
    x, condition = torch.randn(2, 3, D, dtype=torch.float64), torch.randn(2, 6, dtype=torch.float64)
    block = AdaptiveResidualBlock(Dummy(), D, 6).double()
    assert torch.equal(block(x, condition), x)
    block(x, condition).sum().backward()
    assert block.gate.weight.grad.abs().max() > 0  # and can leave it
    randomized(block)
    gate = block.gate(F.silu(condition))[:, None]
    torch.testing.assert_close(block(x, condition), x + gate * f(block.norm(x, condition)))


def test_a_condition_of_another_shape_is_refused():
    norm = AdaptiveLayerNorm(D, 6)
    with pytest.raises(ValueError, match=r"condition: expected shape \(2, 6\).*got \(3, 6\)"):
        norm(torch.ones(2, 3, D), torch.ones(3, 6))
    with pytest.raises(TypeError, match="condition: expected a floating-point"):
        norm(torch.ones(2, 3, D), torch.ones(2, 6, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"x: expected shape"):
        norm(torch.ones(2, 3, D + 1), torch.ones(2, 6))
