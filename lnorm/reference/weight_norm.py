"""Weight normalization (Salimans & Kingma 2016, equations 2 and 3): the length of a weight apart from its direction."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from lnorm.reference import _arguments as arguments
from lnorm.reference._arguments import FloatArray


class WeightNormCache(NamedTuple):
    """What the backward pass needs: the directions, and lengths wanted (g) and found (norm), shaped to broadcast."""

    direction: FloatArray
    norm: FloatArray
    g: FloatArray
    g_shape: tuple[int, ...]
    axes: tuple[int, ...]
    dtype: DTypeLike


def weight_norm(v: ArrayLike, g: ArrayLike, axis: int) -> tuple[FloatArray, WeightNormCache]:
    """Return ``w = g * v / ||v||``: every vector of ``v`` given the length that ``g`` holds for it.

    ``axis`` is the axis that is kept, PyTorch's ``dim``: there is one vector for each index along it, spanning all
    other axes, and ``axis=0`` is one for each output of a weight of shape ``(out, in, ...)``. Negative axes count from
    the end (PyTorch reads -1 as one vector for the whole of v). ``g`` has shape ``(v.shape[axis],)``, or that with
    ones for the other axes, as PyTorch stores it.

    Returns ``w`` with the shape and dtype of ``v``, and the cache for :func:`weight_norm_backward`.
    Raises TypeError for a dtype other than float16/32/64, ValueError for shapes and axes that do not fit and for a
    vector of length 0, which has no direction.
    """
    v = arguments.float_array("v", v)
    g = arguments.float_array("g", g)
    axis = arguments.axis_index("axis", axis, v.ndim)
    kept = tuple(size if i == axis else 1 for i, size in enumerate(v.shape))
    if g.shape not in ((v.shape[axis],), kept):
        raise ValueError(f"g: expected shape ({v.shape[axis]},) or {kept}, got {g.shape}")

    axes = tuple(i for i in range(v.ndim) if i != axis)
    wide = v.astype(arguments.accumulator(v.dtype))
    norm = np.sqrt(np.sum(wide**2, axis=axes, keepdims=True))
    if not norm.all():
        raise ValueError(
            f"v: expected vectors with a direction, got one of length 0 at index {norm.argmin()} of {axis=}"
        )
    direction = wide / norm
    gain = g.reshape(kept)
    cache = WeightNormCache(direction, norm, gain, g.shape, axes, v.dtype)
    return (gain * direction).astype(v.dtype), cache


def weight_norm_backward(dw: ArrayLike, cache: WeightNormCache) -> tuple[FloatArray, FloatArray]:
    """Return ``(dv, dg)`` for the cotangent ``dw`` of the weight.

    With the direction u = v / ||v||, dg is the component of dw along it, and dv what is left, rescaled::

        dg = sum(dw * u),   dv = (dw - u * dg) * g / ||v||

    So ``dv`` is orthogonal to ``v``: a gradient step can only make it longer.
    """
    direction, norm, g, g_shape, axes, dtype = cache
    dw = arguments.cotangent(dw, direction.shape, "dw").astype(direction.dtype)
    dg = np.sum(dw * direction, axis=axes, keepdims=True)
    dv = (dw - direction * dg) * g / norm
    return dv.astype(dtype), dg.reshape(g_shape).astype(dtype)
