"""LayerNorm whose statistics are constants to the backward pass (DetachNorm, Xu et al. 2019)."""

import torch
from torch import Tensor

from lnorm.nn import _arguments as arguments
from lnorm.nn._numerics import moments, widen
from lnorm.nn.layer_norm import LayerNorm


class DetachedLayerNorm(LayerNorm):
    """The forward pass of :class:`LayerNorm`, with a gradient as if mean and variance did not depend on the input.

    Not a norm to train with but an experiment: what of LayerNorm is its forward pass, and what its gradient?
    Constructor, parameters, ``state_dict`` and errors are those of :class:`LayerNorm`.
    """

    def forward(self, x: Tensor) -> Tensor:
        axes = arguments.trailing_axes("x", x, self.normalized_shape)
        wide = widen(x)
        with torch.no_grad():
            centred, _, var = moments(wide, axes)
        # The value is `centred`, which no gradient reaches; the gradient is that of `wide`, which adds zero.
        y = (centred + (wide - wide.detach())) * torch.rsqrt(var + self.eps)
        if self.weight is not None:
            y = y * self.weight
        if self.bias is not None:
            y = y + self.bias
        return y.to(x.dtype)
