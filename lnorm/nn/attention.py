"""Causal self-attention, with query-key normalization on demand."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from lnorm.nn import _arguments as arguments


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which a token sees itself and the tokens before it; ``(N, T, features)`` to the same.

    With ``qk_norm``, a function from a size to a norm, every head's queries and keys are normalized before their dot
    product, so that attention logits cannot grow with the weights (Henry et al. 2020 with ℓ2 norms; Dehghani et al.
    2023 with LayerNorm, as here). One norm serves the queries of all heads, one the keys.
    """

    def __init__(self, features: int, heads: int, qk_norm: Callable[[int], nn.Module] | None = None) -> None:
        super().__init__()
        arguments.positive("features", features)
        arguments.positive("heads", heads)
        if features % heads:
            raise ValueError(f"heads: expected a divisor of features, {features}, got {heads}")
        self.heads = heads
        self.query = nn.Linear(features, features)
        self.key = nn.Linear(features, features)
        self.value = nn.Linear(features, features)
        self.output = nn.Linear(features, features)
        self.norm_query = qk_norm(features // heads) if qk_norm else nn.Identity()
        self.norm_key = qk_norm(features // heads) if qk_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (N, heads, T, features / heads)
            for linear in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(self.norm_query(q), self.norm_key(k), v, is_causal=True)
        return self.output(mixed.transpose(1, 2).flatten(2))
