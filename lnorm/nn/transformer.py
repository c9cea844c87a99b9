"""A small causal Transformer in which norm, placement and initial values are arguments."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

from lnorm.nn import _arguments as arguments
from lnorm.nn.attention import CausalSelfAttention
from lnorm.nn.initializers import deepnorm_, deepnorm_constants, xavier_
from lnorm.nn.layer_norm import LayerNorm
from lnorm.nn.residual import Placement, ResidualBlock


class FeedForward(nn.Module):
    """``down(relu(up(x)))``: the position-wise sublayer, ``(..., features)`` to the same through ``width`` units."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(features, width)
        self.down = nn.Linear(width, features)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(torch.relu(self.up(x)))


class Transformer(nn.Module):
    """Causal language model: token and position embeddings, ``layers`` pairs of attention and feed-forward, a head.

    ``forward(tokens)`` takes int64 tokens ``(N, T)`` with T at most ``context`` and returns logits
    ``(N, T, vocabulary)``; :meth:`embed` gives the residual stream before ``blocks``, the 2 · layers residual blocks.

    ``norm`` makes a norm from a size: LayerNorm, RMSNorm, DynamicTanh, TokenBatchNorm, or torch's fused nn.LayerNorm,
    which trains faster. ``placement`` is that of :class:`lnorm.nn.ResidualBlock`. "pre", "sandwich" and "peri" have a
    norm before the head; "peri" has one on the embeddings too, which Kim et al. (2025) call optional. "deepnorm" takes
    its alpha from the number of layers. ``qk_norm=True`` normalizes queries and keys with the same ``norm``.

    ``init`` sets the initial values, called as ``init(model, generator=generator)``; by default ``deepnorm_`` with
    "deepnorm" and ``xavier_`` otherwise.
    """

    def __init__(
        self,
        vocabulary: int,
        features: int = 64,
        layers: int = 4,
        heads: int = 4,
        context: int = 64,
        *,
        norm: Callable[[int], nn.Module] = LayerNorm,
        placement: Placement = "pre",
        qk_norm: bool = False,
        init: Callable[..., None] | None = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("vocabulary", vocabulary), ("layers", layers), ("context", context)):
            arguments.positive(name, value)
        alpha = deepnorm_constants(layers)[0] if placement == "deepnorm" else None
        block = partial(ResidualBlock, norm=partial(norm, features), placement=placement, alpha=alpha)
        self.tokens = nn.Embedding(vocabulary, features)
        self.positions = nn.Embedding(context, features)
        self.norm_embedding = norm(features) if placement == "peri" else nn.Identity()
        self.blocks = nn.Sequential()
        for _ in range(layers):
            self.blocks.append(block(CausalSelfAttention(features, heads, norm if qk_norm else None)))
            self.blocks.append(block(FeedForward(features, 4 * features)))
        self.norm_final = norm(features) if placement in ("pre", "sandwich", "peri") else nn.Identity()
        self.head = nn.Linear(features, vocabulary)
        if init is None:
            init = deepnorm_ if placement == "deepnorm" else xavier_
        init(self, generator=generator)

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the residual stream before the first block, ``(N, T, features)``."""
        self._check(tokens)
        here = torch.arange(tokens.shape[1], device=tokens.device)
        return self.norm_embedding(self.tokens(tokens) + self.positions(here))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm_final(self.blocks(self.embed(tokens))))

    def _check(self, tokens: Any) -> None:
        if not isinstance(tokens, Tensor) or tokens.is_floating_point() or tokens.ndim != 2:
            came = f"{tokens.dtype} {tuple(tokens.shape)}" if isinstance(tokens, Tensor) else type(tokens).__name__
            raise TypeError(f"tokens: expected an integer tensor of shape (N, T), got {came}")
        if tokens.shape[1] > self.positions.num_embeddings:
            raise ValueError(f"tokens: expected at most {self.positions.num_embeddings} a row, got {tokens.shape[1]}")
