"""LayerNorm whose statistics are constants to the backward pass (DetachNorm, Xu et al. 2019).

It is not a norm to train with but an experiment: what of LayerNorm is its forward pass, and what its gradient?
"""

from collections.abc import Sequence

from numpy.typing import ArrayLike

from lnorm.reference import _arguments as arguments
from lnorm.reference._arguments import FloatArray
from lnorm.reference.layer_norm import LayerNormCache, layer_norm, layer_norm_backward


def detached_layer_norm(
    x: ArrayLike,
    normalized_shape: int | Sequence[int],
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    eps: float = 1e-5,
) -> tuple[FloatArray, LayerNormCache]:
    """Do exactly what :func:`lnorm.reference.layer_norm` does; only the backward pass differs.

    Returns ``y`` with the shape and dtype of ``x``, and the cache for :func:`detached_layer_norm_backward`.
    Raises what :func:`lnorm.reference.layer_norm` raises.
    """
    return layer_norm(x, normalized_shape, gamma, beta, eps)


def detached_layer_norm_backward(dy: ArrayLike, cache: LayerNormCache) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return ``(dx, dgamma, dbeta)`` as if mean and variance did not depend on x.

    Of LayerNorm's formula only the scaling is left, neither re-centred nor freed of its component along x_hat::

        dx = g * rstd,   g = dy * gamma

    So this is not the derivative of the forward pass.
    """
    x_hat, rstd, gamma, _, dtype = cache
    _, dgamma, dbeta = layer_norm_backward(dy, cache)  # gain and bias never saw the statistics
    dy = arguments.cotangent(dy, x_hat.shape).astype(x_hat.dtype)
    g = dy if gamma is None else dy * gamma
    dx = g * rstd
    return dx.astype(dtype), dgamma, dbeta
