"""The small Transformer: causal, deterministic, of the stated size, built from the parts that its arguments name."""

from typing import get_args

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lnorm.nn import (
    CausalSelfAttention,
    DynamicTanh,
    LayerNorm,
    Placement,
    RMSNorm,
    TokenBatchNorm,
    Transformer,
    gpt2_,
    xavier_,
)

PLACEMENTS = get_args(Placement)


def small(**options):
    options = {"vocabulary": 11, "features": 8, "layers": 2, "heads": 2, "context": 9} | options
    return Transformer(**options, generator=torch.Generator().manual_seed(0)).double()


def tokens():
    return torch.randint(11, (3, 9), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("placement", PLACEMENTS)
@torch.no_grad()
def test_editing_later_tokens_leaves_earlier_logits_unchanged(placement, qk_norm):
    model = small(placement=placement, qk_norm=qk_norm)
    first = tokens()
    second = first.clone()
    second[:, 5:] = (second[:, 5:] + 1) % 11
    before, after = model(first), model(second)
    assert before.shape == (3, 9, 11)
    assert torch.equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] - after[:, 5:]).abs().amax(dim=(0, 2)).min() > 1e-3
    torch.testing.assert_close(model(first[:, :5]), before[:, :5])  # a prefix alone says the same


@torch.no_grad()
def test_batch_norm_breaks_causality_which_the_test_above_would_see():
    model = small(norm=TokenBatchNorm)
    first = tokens()
    second = first.clone()
    second[:, 5:] = (second[:, 5:] + 1) % 11
    assert (model(first)[:, :5] - model(second)[:, :5]).abs().max() > 1e-3


@torch.no_grad()
def test_attention_is_softmax_of_scaled_dot_products():
    torch.manual_seed(0)
    attention = CausalSelfAttention(6, 2, LayerNorm).double()
    for norm in (attention.norm_query, attention.norm_key):
        norm.weight.normal_()
    x = torch.randn(2, 4, 6, dtype=torch.float64)
    heads = []
    for head in (slice(0, 3), slice(3, 6)):
        q, k, v = (linear(x)[..., head] for linear in (attention.query, attention.key, attention.value))
        logits = attention.norm_query(q) @ attention.norm_key(k).transpose(1, 2) / 3**0.5
        logits = logits.masked_fill(torch.ones(4, 4).triu(1).bool(), -torch.inf)
        heads.append(logits.softmax(-1) @ v)
    torch.testing.assert_close(attention(x), attention.output(torch.cat(heads, -1)))


@torch.no_grad()
def test_qk_norm_takes_the_scale_of_queries_and_keys_away():
    x = torch.randn(2, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for qk_norm, changes in ((None, True), (LayerNorm, False)):
        torch.manual_seed(0)
        attention = CausalSelfAttention(6, 2, qk_norm).double()
        before = attention(x)
        for linear in (attention.query, attention.key):
            linear.weight *= 30
            linear.bias *= 30
        assert ((attention(x) - before).abs().max() > 1e-2) == changes


@pytest.mark.parametrize(
    ("placement", "norms"),
    [("none", 0), ("post", 4), ("deepnorm", 4), ("pre", 5), ("sandwich", 9), ("peri", 10)],
)
def test_number_of_norms(placement, norms):
    model = small(placement=placement, norm=RMSNorm)
    assert sum(isinstance(module, RMSNorm) for module in model.modules()) == norms
    assert (
        sum(isinstance(module, RMSNorm) for module in small(placement=placement, norm=RMSNorm, qk_norm=True).modules())
        == norms + 4
    )


def test_the_stream_goes_through_embed_blocks_final_norm_and_head():
    model = small()
    x = model.embed(tokens())
    torch.testing.assert_close(x, model.tokens.weight[tokens()] + model.positions.weight)
    for block in model.blocks:
        x = block(x)
    expected = model.head(F.layer_norm(x, (8,)))
    torch.testing.assert_close(model(tokens()), expected)


def test_deepnorm_takes_its_alpha_from_the_number_of_layers():
    assert small(placement="deepnorm", layers=8).blocks[0].alpha == pytest.approx(2.0)
    assert small(placement="post", layers=8).blocks[0].alpha == 1.0


def test_number_of_parameters():
    model = Transformer(96, 64, layers=3, heads=4, context=32)
    assert sum(p.numel() for p in model.parameters()) == 164_512


@pytest.mark.parametrize("norm", [LayerNorm, RMSNorm, DynamicTanh, TokenBatchNorm, nn.LayerNorm])
def test_norms_are_interchangeable_and_a_generator_decides_everything(norm):
    first, second = small(norm=norm), small(norm=norm)
    torch.manual_seed(5)  # the global generator has no part in it
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    loss = F.cross_entropy(first(tokens()).flatten(0, 1), tokens().flatten())
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in first.parameters())


def test_init_is_an_argument():
    assert small(init=gpt2_).tokens.weight.std() < 0.05 < 0.5 < small(init=xavier_).tokens.weight.std()


def test_one_token_too_many_and_wrong_types_are_refused():
    model = small()
    with pytest.raises(ValueError, match="tokens: expected at most 9 a row, got 10"):
        model(torch.zeros(1, 10, dtype=torch.int64))
    with pytest.raises(TypeError, match="tokens: expected an integer tensor"):
        model(torch.zeros(1, 5))
    with pytest.raises(TypeError, match="tokens: "):
        model(torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ValueError, match="heads: expected a divisor of features, 8, got 3"):
        small(heads=3)
    with pytest.raises(ValueError, match="layers: expected at least 1"):
        small(layers=0)
    with pytest.raises(ValueError, match="placement: "):
        small(placement="elsewhere")
