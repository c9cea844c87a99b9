"""Batch normalization (Ioffe & Szegedy 2015, algorithms 1 and 2)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from lnorm.reference import _arguments as arguments
from lnorm.reference._arguments import FloatArray


class BatchNormCache(NamedTuple):
    """What the backward pass needs; per-channel arrays are shaped to broadcast against x."""

    x_hat: FloatArray
    rstd: FloatArray
    gamma: FloatArray | None
    training: bool
    dtype: DTypeLike


def batch_norm(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    running_mean: np.ndarray | None = None,
    running_var: np.ndarray | None = None,
    training: bool = True,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    *,
    unbiased_running_var: bool = True,
    num_batches_tracked: np.ndarray | None = None,
) -> tuple[FloatArray, BatchNormCache]:
    """Normalize every channel of ``x`` by its mean and variance over batch and space, then scale and shift.

    ``x`` has shape ``(N, C, ...)``, channels on axis 1; the other arrays have shape ``(C,)``. In training the
    statistics are the batch's, and ``running_mean`` and ``running_var``, where given, are updated in place::

        running = (1 - momentum) * running + momentum * batch

    ``momentum=None`` makes them the plain average of all batches so far: momentum is 1 / ``num_batches_tracked``, an
    integer array of shape ``()`` that, where given, every training batch increments in place, as in PyTorch.

    In evaluation (``training=False``) the running statistics are used and left alone. The batch is normalized with the
    variance over n values; the running variance takes the unbiased n / (n - 1) estimate, as PyTorch does, or the same
    biased one with ``unbiased_running_var=False``, as Keras does. An empty batch leaves the running statistics alone.

    Returns ``y`` with the shape and dtype of ``x``, and the cache for :func:`batch_norm_backward`.
    Raises TypeError for a dtype other than float16/32/64, ValueError for shapes that do not fit, for one value a
    channel in training (its variance would be 0), for missing running statistics in evaluation and for
    ``momentum=None`` without ``num_batches_tracked``.
    """
    x = arguments.channels_first("x", x)
    channels = x.shape[1]
    gamma = arguments.channel_parameter("gamma", gamma, x)
    beta = arguments.channel_parameter("beta", beta, x)
    _check_running(running_mean, running_var, channels)
    _check_momentum(momentum, num_batches_tracked)
    arguments.check_eps(eps)

    axes = (0, *range(2, x.ndim))
    per_channel = (1, channels) + (1,) * (x.ndim - 2)
    wide = x.astype(arguments.accumulator(x.dtype))
    count = x.size // channels if channels else 0  # values a channel

    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("running_mean and running_var: expected arrays when training=False, got None")
        mean = running_mean.astype(wide.dtype).reshape(per_channel)
        var = running_var.astype(wide.dtype).reshape(per_channel)
    elif count == 1:
        raise ValueError(f"x: expected more than one value a channel in training, got shape {x.shape}")
    elif count == 0:
        mean, var = np.zeros(per_channel, wide.dtype), np.ones(per_channel, wide.dtype)
    else:
        mean = wide.mean(axis=axes, keepdims=True)
        var = np.mean((wide - mean) ** 2, axis=axes, keepdims=True)

    counter = np.zeros((), int) if num_batches_tracked is None else num_batches_tracked
    if training:
        counter[...] += 1  # an empty batch counts too, as in PyTorch
    if training and count and running_mean is not None and running_var is not None:
        share = 1 / int(counter) if momentum is None else momentum
        tracked_var = var * count / (count - 1) if unbiased_running_var else var
        running_mean[:] = (1 - share) * running_mean + share * mean.reshape(-1)
        running_var[:] = (1 - share) * running_var + share * tracked_var.reshape(-1)

    rstd = 1 / np.sqrt(var + eps)
    x_hat = (wide - mean) * rstd
    y = x_hat
    if gamma is not None:
        y = y * gamma
    if beta is not None:
        y = y + beta
    return y.astype(x.dtype), BatchNormCache(x_hat, rstd, gamma, training, x.dtype)


def batch_norm_backward(dy: ArrayLike, cache: BatchNormCache) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return ``(dx, dgamma, dbeta)`` for the cotangent ``dy`` of the forward output.

    In training, LayerNorm's formula with the means taken over the batch instead of over the features::

        dx = (g - mean(g) - x_hat * mean(g * x_hat)) * rstd,   g = dy * gamma

    In evaluation the statistics are constants, and only ``dx = g * rstd`` is left.
    """
    x_hat, rstd, gamma, training, dtype = cache
    dy = arguments.cotangent(dy, x_hat.shape).astype(x_hat.dtype)
    axes = (0, *range(2, dy.ndim))
    g = dy if gamma is None else dy * gamma

    dx = g * rstd
    if training and dy.size:
        mean_g = g.mean(axis=axes, keepdims=True)
        mean_gx = np.mean(g * x_hat, axis=axes, keepdims=True)
        dx = (g - mean_g - x_hat * mean_gx) * rstd

    dgamma = np.sum(dy * x_hat, axis=axes)
    dbeta = np.sum(dy, axis=axes)
    return dx.astype(dtype), dgamma.astype(dtype), dbeta.astype(dtype)


def _check_running(running_mean: np.ndarray | None, running_var: np.ndarray | None, channels: int) -> None:
    for name, running in (("running_mean", running_mean), ("running_var", running_var)):
        if running is not None and not isinstance(running, np.ndarray):
            raise TypeError(f"{name}: expected a NumPy array, to be updated in place, got {type(running).__name__}")
        arguments.parameter(name, running, (channels,))
    if (running_mean is None) != (running_var is None):
        raise ValueError("running_mean and running_var: expected both or neither, got one")


def _check_momentum(momentum: float | None, num_batches_tracked: np.ndarray | None) -> None:
    if momentum is None and num_batches_tracked is None:
        raise ValueError("num_batches_tracked: expected an integer array of shape () when momentum=None, got None")
    if momentum is not None and not (arguments.is_finite(momentum) and 0 <= momentum <= 1):
        raise ValueError(f"momentum: expected a number from 0 to 1, or None, got {momentum!r}")
    counter = num_batches_tracked
    if counter is None:
        return
    if not (isinstance(counter, np.ndarray) and np.issubdtype(counter.dtype, np.integer)):
        raise TypeError(
            f"num_batches_tracked: expected an integer NumPy array, to be updated in place, got {counter!r}"
        )
    if counter.shape != ():
        raise ValueError(f"num_batches_tracked: expected shape (), got {counter.shape}")
