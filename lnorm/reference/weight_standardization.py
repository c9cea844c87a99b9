"""Weight standardization (Qiao et al. 2019): LayerNorm of the weights, one row an output channel."""

from numpy.typing import ArrayLike

from lnorm.reference import _arguments as arguments
from lnorm.reference._arguments import FloatArray
from lnorm.reference.layer_norm import LayerNormCache, layer_norm, layer_norm_backward


def standardize_weight(w: ArrayLike, eps: float = 1e-5) -> tuple[FloatArray, LayerNormCache]:
    """Give the weights of every output channel mean 0 and variance 1.

    ``w`` has shape ``(out, in, ...)``, as in PyTorch: ``(C_out, C_in, H, W)`` for a convolution. There is no gain and
    no bias. The variance is biased and ``eps`` is inside the root; the authors' PyTorch code divides by the unbiased
    standard deviation plus eps instead.

    Returns the standardized weight with the shape and dtype of ``w``, and the cache for
    :func:`standardize_weight_backward`.
    Raises TypeError for a dtype other than float16/32/64, ValueError for a shape without inputs.
    """
    w = arguments.float_array("w", w)
    if w.ndim < 2 or 0 in w.shape[1:]:
        raise ValueError(f"w: expected shape (out, in, ...) with at least one input, got {w.shape}")
    return layer_norm(w, w.shape[1:], eps=eps)


def standardize_weight_backward(dy: ArrayLike, cache: LayerNormCache) -> FloatArray:
    """Return ``dw`` for the cotangent ``dy`` of the standardized weight, by LayerNorm's formula."""
    dw, _, _ = layer_norm_backward(dy, cache)
    return dw
