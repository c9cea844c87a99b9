"""The arithmetic that the norms share."""

from collections.abc import Sequence

from torch import Tensor


def widen(x: Tensor) -> Tensor:
    """Return float16 and bfloat16 as float32, so that statistics neither overflow nor lose digits; others as they are.

    The square of a deviation above 255 overflows float16, and eps = 1e-8 rounds to 0 in it.
    """
    return x.float() if x.element_size() < 4 else x


def moments(x: Tensor, axes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return mean and variance of ``x`` over ``axes``, which stay as axes of size 1. The variance divides by n."""
    mean = x.mean(axes, keepdim=True)
    var = (x - mean).square().mean(axes, keepdim=True)  # two passes: E[x²] - E[x]² would cancel
    return mean, var


def scale_and_shift(x_hat: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Return ``x_hat * weight + bias`` with channels, shape ``(C,)``, along axis 1 of ``x_hat``; None means 1 and 0."""
    per_channel = (1, -1) + (1,) * (x_hat.ndim - 2)
    if weight is not None:
        x_hat = x_hat * weight.view(per_channel)
    if bias is not None:
        x_hat = x_hat + bias.view(per_channel)
    return x_hat
