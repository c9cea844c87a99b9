"""Instance normalization (Ulyanov, Vedaldi & Lempitsky 2016): GroupNorm with one channel a group."""

from numpy.typing import ArrayLike

from lnorm.reference import _arguments as arguments
from lnorm.reference._arguments import FloatArray
from lnorm.reference.group_norm import GroupNormCache, group_norm, group_norm_backward


def instance_norm(
    x: ArrayLike, gamma: ArrayLike | None = None, beta: ArrayLike | None = None, eps: float = 1e-5
) -> tuple[FloatArray, GroupNormCache]:
    """Normalize every channel of every sample by its mean and variance over its positions, then scale and shift.

    ``x`` has shape ``(N, C, ...)``; ``gamma`` and ``beta`` have shape ``(C,)``; None means 1 and 0. A channel with one
    position has variance 0 and becomes ``beta``; PyTorch refuses it.

    Returns ``y`` with the shape and dtype of ``x``, and the cache for :func:`instance_norm_backward`.
    Raises TypeError for a dtype other than float16/32/64, ValueError for shapes that do not fit.
    """
    x = arguments.channels_first("x", x)
    return group_norm(x, x.shape[1] or 1, gamma, beta, eps)


def instance_norm_backward(dy: ArrayLike, cache: GroupNormCache) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return ``(dx, dgamma, dbeta)``, as :func:`lnorm.reference.group_norm_backward` does."""
    return group_norm_backward(dy, cache)
