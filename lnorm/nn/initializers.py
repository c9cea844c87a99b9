"""Initial values that decide, together with the placement of the norms, whether a deep network trains.

Each function sets the linear layers, convolutions and embeddings of a model in place. Residual branches are the
sublayers of its :class:`lnorm.nn.ResidualBlock`; the last layer registered in a branch is the one that writes to the
residual stream. Biases become 0; norms, which torch starts at gain 1 and bias 0, are left alone.
"""

import torch
from torch import Generator, nn
from torch.nn import init

from lnorm.nn import _arguments as arguments
from lnorm.nn.attention import CausalSelfAttention
from lnorm.nn.residual import ResidualBlock

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def deepnorm_constants(layers: int) -> tuple[float, float]:
    """Return DeepNorm's ``(alpha, beta)`` for an encoder or a decoder of ``layers`` layers of two sublayers each.

    ``alpha = (2 N)^(1/4)`` multiplies the residual stream, ``beta = (8 N)^(-1/4)`` is the initial gain of the branches
    (Wang et al. 2022, figure 2). An encoder-decoder has other constants, which are not given here.
    """
    arguments.positive("layers", layers)
    return (2 * layers) ** 0.25, (8 * layers) ** -0.25


def xavier_(model: nn.Module, generator: Generator | None = None) -> None:
    """Draw weights from Glorot & Bengio's (2010, equation 16) uniform distribution and embeddings from N(0, 1).

    The setting of Xiong et al. (2020). Every matrix counts for itself, queries, keys and values too.
    """
    _start(model, 1.0, generator)
    for layer in _weighted(model):
        init.xavier_uniform_(layer.weight, generator=generator)


def gpt2_(model: nn.Module, std: float = 0.02, generator: Generator | None = None) -> None:
    """Draw weights and embeddings from N(0, std²), and divide what writes to the stream by √(number of branches).

    Radford et al. (2019, section 2.3). What all branches together add to the stream then does not grow with depth.
    """
    _start(model, std, generator)
    branches = _branches(model)
    for layer in _weighted(model):
        init.normal_(layer.weight, std=std, generator=generator)
    for layers in branches:
        init.normal_(layers[-1].weight, std=std * len(branches) ** -0.5, generator=generator)


def deepnorm_(model: nn.Module, generator: Generator | None = None) -> None:
    """Draw weights from Xavier's normal with gain beta in the branches; gain 1 for queries, keys and other layers.

    Wang et al. (2022, figure 2), beta as in :func:`deepnorm_constants`, two branches making one layer. Belongs with
    ``placement="deepnorm"``. Embeddings are drawn from N(0, 1).
    """
    _start(model, 1.0, generator)
    branches = _branches(model)
    beta = (4 * len(branches)) ** -0.25  # (8 N)^(-1/4) with N = branches / 2
    for layer in _weighted(model):
        init.xavier_normal_(layer.weight, generator=generator)
    for layers in branches:
        for layer in layers:
            init.xavier_normal_(layer.weight, gain=beta, generator=generator)


@torch.no_grad()
def fixup_(model: nn.Module, generator: Generator | None = None) -> None:
    """Set the last layer of every branch and the head to 0; multiply a branch's other layers by L^(-1 / (2m - 2)).

    Zhang, Dauphin & Ma (2019, rules 1 and 2): L branches of m layers each, weights otherwise He's normal.
    The head is the last layer outside of the branches. Rule 3, scalar biases and multipliers, is a matter of
    architecture: :class:`lnorm.nn.FixupBranch`. Queries and keys do not lie on the way from stream to stream: they do
    not count in m and are drawn from Xavier's normal. Embeddings are drawn from N(0, 1).
    """
    _start(model, 1.0, generator)
    branches = _branches(model)
    for layer in _weighted(model):
        init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
    for layer in _queries_and_keys(model):
        init.xavier_normal_(layer.weight, generator=generator)
    for layers in branches:
        for layer in layers[:-1]:
            layer.weight *= len(branches) ** (-1 / (2 * len(layers) - 2))
        init.zeros_(layers[-1].weight)
    in_blocks = {id(layer) for block in _blocks(model) for layer in _weighted(block)}
    for layer in [layer for layer in _weighted(model) if id(layer) not in in_blocks][-1:]:
        init.zeros_(layer.weight)


def _start(model: nn.Module, embedding_std: float, generator: Generator | None) -> None:
    """Set all biases to 0 and draw the embeddings."""
    arguments.instance("model", model, nn.Module)
    for layer in _weighted(model):
        if layer.bias is not None:
            init.zeros_(layer.bias)
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=embedding_std, generator=generator)


def _weighted(module: nn.Module) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, WEIGHTED)]


def _blocks(model: nn.Module) -> list[nn.Module]:
    return [block for block in model.modules() if isinstance(block, ResidualBlock)]


def _queries_and_keys(module: nn.Module) -> list[nn.Module]:
    found = [layer for layer in module.modules() if isinstance(layer, CausalSelfAttention)]
    return [linear for attention in found for linear in (attention.query, attention.key)]


def _branches(model: nn.Module) -> list[list[nn.Module]]:
    """Return, for each residual block, the layers that the signal passes from stream to stream, in order."""
    branches = []
    for block in _blocks(model):
        beside = {id(layer) for layer in _queries_and_keys(block)}
        branches.append([layer for layer in _weighted(block.sublayer) if id(layer) not in beside])
    if not branches or not all(branches):
        raise ValueError("model: expected residual blocks (lnorm.nn.ResidualBlock) with linear or convolution layers")
    return branches
