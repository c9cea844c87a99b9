"""Conditional layer normalization, as diffusion Transformers use it (Peebles & Xie 2023, adaLN-Zero)."""

from torch import Tensor, nn
from torch.nn import functional as F

from lnorm.nn import _arguments as arguments
from lnorm.nn.layer_norm import LayerNorm


def _zeros(condition_features: int, features: int) -> nn.Linear:
    """Return a linear map that starts at 0, weight and bias."""
    linear = nn.Linear(condition_features, features)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


class AdaptiveLayerNorm(nn.Module):
    """LayerNorm whose gain and bias are computed from a condition, such as a time step or a class.

    ``forward(x, condition)`` with ``x`` of shape ``(N, ..., features)`` and ``condition`` of shape
    ``(N, condition_features)`` gives ``layer_norm(x) * (1 + scale) + shift``, where ``(shift, scale)`` is a linear map
    of ``silu(condition)``. The map starts at 0, so that the module starts as LayerNorm without gain and bias.

    Raises TypeError and ValueError, naming the argument, for inputs of a wrong type or shape.
    """

    def __init__(self, features: int, condition_features: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.features = arguments.positive("features", features)
        self.condition_features = arguments.positive("condition_features", condition_features)
        self.norm = LayerNorm(features, eps, elementwise_affine=False)
        self.modulation = _zeros(condition_features, 2 * features)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x_hat = self.norm(x)
        arguments.floating("condition", condition)
        expected = (len(x), self.condition_features)
        if tuple(condition.shape) != expected:
            raise ValueError(f"condition: expected shape {expected}, one row an example, got {tuple(condition.shape)}")
        shift, scale = spread(self.modulation(F.silu(condition)), x.ndim).chunk(2, dim=-1)
        return x_hat * (1 + scale) + shift


class AdaptiveResidualBlock(nn.Module):
    """``x + gate * sublayer(adaptive_layer_norm(x))``, with shift, scale and gate computed from the condition.

    All three start at 0, so that the block starts as the identity: the "Zero" of adaLN-Zero. Shapes and errors are
    those of :class:`AdaptiveLayerNorm`.
    """

    def __init__(self, sublayer: nn.Module, features: int, condition_features: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.norm = AdaptiveLayerNorm(features, condition_features, eps)
        self.sublayer = sublayer
        self.gate = _zeros(condition_features, features)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        branch = self.sublayer(self.norm(x, condition))
        return x + spread(self.gate(F.silu(condition)), x.ndim) * branch


def spread(per_example: Tensor, rank: int) -> Tensor:
    """Return ``(N, D)`` as ``(N, 1, ..., 1, D)`` with ``rank`` axes, one value for all tokens of an example."""
    return per_example.view(len(per_example), *(1,) * (rank - 2), per_example.shape[1])
