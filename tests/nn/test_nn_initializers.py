"""Initial values: the spread of every weight, and what follows from it for the network."""

from functools import partial

import pytest
import torch
from torch import nn

from lnorm.nn import (
    FixupBranch,
    LayerNorm,
    ResidualBlock,
    Transformer,
    deepnorm_,
    deepnorm_constants,
    fixup_,
    gpt2_,
    xavier_,
)

D, LAYERS = 128, 3


def built(init, placement="none"):
    generator = torch.Generator().manual_seed(0)
    return Transformer(200, D, LAYERS, context=64, placement=placement, init=init, generator=generator)


def spread(layer):
    return layer.weight.std().item()


def close(got, expected):
    assert got == pytest.approx(expected, rel=0.03)  # at least 8192 draws each: four standard errors


@pytest.mark.parametrize("init", [xavier_, gpt2_, deepnorm_, fixup_])
def test_biases_are_zero_and_the_generator_decides(init):
    first, second = built(init), built(init)
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
        if name.endswith("bias"):
            assert not a.any()


def test_xavier():
    model = built(xavier_)
    attention, feed_forward = (block.sublayer for block in model.blocks[:2])
    for layer in (attention.query, attention.key, attention.value, attention.output):
        close(spread(layer), D**-0.5)
        assert layer.weight.abs().max() <= (3 / D) ** 0.5 + 1e-6  # uniform
    for layer in (feed_forward.up, feed_forward.down):
        close(spread(layer), (2 / (5 * D)) ** 0.5)
    close(spread(model.tokens), 1.0)
    close(spread(model.positions), 1.0)


def test_gpt2_scales_what_writes_to_the_stream():
    model = built(gpt2_)
    for attention in (block.sublayer for block in model.blocks[::2]):
        for layer in (attention.query, attention.key, attention.value):
            close(spread(layer), 0.02)
        close(spread(attention.output), 0.02 / (2 * LAYERS) ** 0.5)
    for feed_forward in (block.sublayer for block in model.blocks[1::2]):
        close(spread(feed_forward.up), 0.02)
        close(spread(feed_forward.down), 0.02 / (2 * LAYERS) ** 0.5)
    close(spread(model.head), 0.02)
    close(spread(model.tokens), 0.02)


def test_deepnorm_scales_all_but_queries_keys_and_head():
    model = built(deepnorm_, "deepnorm")
    beta = (8 * LAYERS) ** -0.25
    for attention in (block.sublayer for block in model.blocks[::2]):
        close(spread(attention.query), D**-0.5)
        close(spread(attention.key), D**-0.5)
        close(spread(attention.value), beta * D**-0.5)
        close(spread(attention.output), beta * D**-0.5)
    for feed_forward in (block.sublayer for block in model.blocks[1::2]):
        close(spread(feed_forward.up), beta * (2 / (5 * D)) ** 0.5)
        close(spread(feed_forward.down), beta * (2 / (5 * D)) ** 0.5)
    close(spread(model.head), (2 / (D + 200)) ** 0.5)


def test_deepnorm_constants():
    alpha, beta = deepnorm_constants(8)
    assert alpha == pytest.approx(2.0)
    assert beta == pytest.approx(64**-0.25)
    assert deepnorm_constants(2)[1] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="layers: "):
        deepnorm_constants(0)


def residual_mlp(branches, width=64, make=FixupBranch):
    blocks = [ResidualBlock(make(width, width), partial(LayerNorm, width), "none") for _ in range(branches)]
    return nn.Sequential(nn.Linear(20, width), *blocks, nn.Linear(width, 10))


def test_fixup():
    model = residual_mlp(16)
    fixup_(model, torch.Generator().manual_seed(0))
    he = (2 / 64) ** 0.5
    for block in model[1:-1]:
        assert not block.sublayer.down.weight.any()
        assert spread(block.sublayer.up) == pytest.approx(he * 16**-0.5, rel=0.06)  # m = 2: L^(-1/2)
    assert not model[-1].weight.any()
    assert spread(model[0]) == pytest.approx((2 / 20) ** 0.5, rel=0.1)


def test_fixup_counts_the_layers_of_a_branch():
    def three(width, _):
        return nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        )

    model = residual_mlp(16, make=three)
    fixup_(model, torch.Generator().manual_seed(0))
    for block in model[1:-1]:
        first, second, last = block.sublayer[0], block.sublayer[2], block.sublayer[4]
        for layer in (first, second):
            assert spread(layer) == pytest.approx((2 / 64) ** 0.5 * 16**-0.25, rel=0.06)  # m = 3: L^(-1/4)
        assert not last.weight.any()


def test_fixup_of_a_transformer_starts_with_uniform_predictions_and_trains():
    model = built(fixup_)
    tokens = torch.randint(200, (4, 33), generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    losses = []
    for _ in range(8):
        loss = nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(torch.tensor(200.0).log().item(), rel=1e-5)
    assert losses[-1] < losses[0] - 1


@torch.no_grad()
def test_signals_keep_their_size_through_fixup_and_explode_without():
    x = torch.randn(256, 20, generator=torch.Generator().manual_seed(2))
    sizes = {}
    for name in ("fixup", "he"):
        model = residual_mlp(20)
        fixup_(model, torch.Generator().manual_seed(0))
        if name == "he":
            for block in model[1:-1]:
                for layer in (block.sublayer.up, block.sublayer.down):
                    nn.init.kaiming_normal_(
                        layer.weight, nonlinearity="relu", generator=torch.Generator().manual_seed(3)
                    )
        sizes[name] = (model[:-1](x).square().mean() / model[0](x).square().mean()).item()
    assert sizes["fixup"] == pytest.approx(1.0)
    assert sizes["he"] > 1e6  # about 3 times a block


@pytest.mark.parametrize("init", [gpt2_, deepnorm_, fixup_])
def test_a_model_without_residual_blocks_is_refused(init):
    with pytest.raises(ValueError, match="model: expected residual blocks"):
        init(nn.Sequential(nn.Linear(3, 3)))
