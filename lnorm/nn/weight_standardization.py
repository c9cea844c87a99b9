"""Weight standardization (Qiao et al. 2019): LayerNorm of the weights, one row an output channel."""

from torch import Tensor, nn

from lnorm.nn import _arguments as arguments
from lnorm.nn._numerics import moments, widen


class WeightStandardization(nn.Module):
    """Give the weights of every output channel mean 0 and variance 1, each time they are used.

    It is a parametrization, for any layer whose weight has shape ``(out, in, ...)``; the weight behind it is trained::

        torch.nn.utils.parametrize.register_parametrization(conv, "weight", WeightStandardization())

    The variance is biased and ``eps`` is inside the root; the authors' code divides by the unbiased standard deviation
    plus eps instead. Raises TypeError for a weight that is not floating point, ValueError for one without inputs.
    """

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        arguments.check_eps(eps)
        self.eps = eps

    def forward(self, weight: Tensor) -> Tensor:
        arguments.floating("weight", weight)
        if weight.ndim < 2 or 0 in weight.shape[1:]:
            raise ValueError(
                f"weight: expected shape (out, in, ...) with at least one input, got {tuple(weight.shape)}"
            )
        centred, _, var = moments(widen(weight), tuple(range(1, weight.ndim)))
        return (centred * (var + self.eps).rsqrt()).to(weight.dtype)

    def extra_repr(self) -> str:
        return f"eps={self.eps}"
