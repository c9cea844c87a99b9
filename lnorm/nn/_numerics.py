"""The arithmetic that the norms share."""

from collections.abc import Sequence

from torch import Tensor


def widen(x: Tensor) -> Tensor:
    """Return float16 and bfloat16 as float32, so that statistics neither overflow nor lose digits; others as they are.

    The square of a deviation above 255 overflows float16, and eps = 1e-8 rounds to 0 in it.
    """
    return x.float() if x.element_size() < 4 else x


def moments(x: Tensor, axes: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``x`` minus its mean over ``axes``, that mean and the variance, which divides by n.

    The axes of mean and variance stay, with size 1. A mean near 1e4 is known to 0.001 in float32, so it is taken off in
    two steps: the second finds the little that rounding left of it. To autograd the first step is a constant, which
    changes no gradient, because what is left does not depend on it.
    """
    rough = x.detach().mean(axes, keepdim=True)
    nearly = x - rough
    rest = nearly.mean(axes, keepdim=True)
    centred = nearly - rest
    var = centred.square().mean(axes, keepdim=True)  # of deviations: E[x²] - E[x]² would cancel
    return centred, rough + rest, var


def scale_and_shift(x_hat: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Return ``x_hat * weight + bias`` with channels, shape ``(C,)``, along axis 1 of ``x_hat``; None means 1 and 0."""
    per_channel = (1, -1) + (1,) * (x_hat.ndim - 2)
    if weight is not None:
        x_hat = x_hat * weight.view(per_channel)
    if bias is not None:
        x_hat = x_hat + bias.view(per_channel)
    return x_hat
