"""Merging norms into the linear maps around them: the same function with fewer operations.

Nothing is changed in place: every function returns new layers. All of them are exact up to rounding.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lnorm.nn import _arguments as arguments
from lnorm.nn.instance_norm import InstanceNorm
from lnorm.nn.rms_norm import RMSNorm
from lnorm.nn.switch_norm import SwitchNorm

FOLLOWED_BY_BATCH_NORM = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@torch.no_grad()
def fold_batch_norm(layer: nn.Module, norm: nn.Module) -> nn.Module:
    """Return one linear or convolution layer that equals ``norm(layer(x))`` in evaluation.

    There a BatchNorm is a fixed affine map of each output channel: with s = γ / √(running_var + eps), the rows of W
    become ``s W`` and the bias becomes ``s (b - running_mean) + β`` (Ioffe & Szegedy 2015, algorithm 2, line 11).

    Raises TypeError for other layers and norms, ValueError for a BatchNorm that keeps no running statistics.
    """
    arguments.instance("layer", layer, FOLLOWED_BY_BATCH_NORM)
    arguments.instance("norm", norm, _BatchNorm)
    if isinstance(norm, (InstanceNorm, SwitchNorm)):
        raise TypeError(f"norm: expected BatchNorm, got {type(norm).__name__}, whose statistics depend on the input")
    if norm.running_mean is None:
        raise ValueError("norm: expected running statistics, got track_running_stats=False")
    if norm.num_features != len(layer.weight):
        raise ValueError(f"norm: expected the layer's {len(layer.weight)} channels, got {norm.num_features}")
    s = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        s = norm.weight * s
    bias = (0 if layer.bias is None else layer.bias) - norm.running_mean
    bias = s * bias + (0 if norm.bias is None else norm.bias)
    rows = (-1,) + (1,) * (layer.weight.ndim - 1)
    return with_weights(layer, s.view(rows) * layer.weight, bias)


@torch.no_grad()
def fold_gain(norm: nn.Module, *linears: nn.Module) -> tuple[nn.Module, ...]:
    """Return ``(bare_norm, *new_linears)``: the norm without gain and bias, which every linear that reads it took over.

    ``W (γ x̂ + β) + b = (W γ) x̂ + (W β + b)``: the gain scales the columns of W, the bias goes through W. All readers
    of the norm must be given, for attention the query, the key and the value.

    Raises TypeError for another norm than LayerNorm or RMSNorm and for readers that are not linear.
    """
    arguments.instance("norm", norm, (nn.LayerNorm, nn.RMSNorm))
    if not linears:
        raise ValueError("linears: expected all linear layers that read the norm, got none")
    bare = type(norm)(norm.normalized_shape, norm.eps, elementwise_affine=False)
    new = []
    for linear in linears:
        arguments.instance("linears", linear, nn.Linear)
        if norm.normalized_shape != (linear.in_features,):
            raise ValueError(f"linears: expected {norm.normalized_shape} inputs, got {linear.in_features}")
        weight, bias = linear.weight, linear.bias
        beta = getattr(norm, "bias", None)
        if beta is not None:
            bias = weight @ beta + (0 if bias is None else bias)
        if norm.weight is not None:
            weight = weight * norm.weight
        new.append(with_weights(linear, weight, bias))
    return (bare, *new)


@torch.no_grad()
def fold_centring(linear: nn.Module, norm: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Return ``(new_linear, rms_norm)`` with ``rms_norm(new_linear(x)) == layer_norm(linear(x))``.

    LayerNorm is RMSNorm after subtraction of the mean, and the subtraction is linear: take its mean over the outputs
    from each column of W and from b (Jiang et al. 2023). RMSNorm has no bias, so that LayerNorm must not
    have one either, or only zeros: :func:`fold_gain` moves it on.

    Raises TypeError for other layers, ValueError for sizes that do not fit and for a bias that is not 0.
    """
    arguments.instance("linear", linear, nn.Linear)
    arguments.instance("norm", norm, nn.LayerNorm)
    if norm.normalized_shape != (linear.out_features,):
        raise ValueError(f"norm: expected normalized_shape ({linear.out_features},), got {norm.normalized_shape}")
    if norm.bias is not None and norm.bias.any():
        raise ValueError(
            "norm: expected no bias, got one that is not 0; fold it into the next layer with fold_gain first"
        )
    weight = linear.weight - linear.weight.mean(dim=0)
    bias = None if linear.bias is None else linear.bias - linear.bias.mean()
    rms_norm = RMSNorm(norm.normalized_shape, norm.eps, elementwise_affine=norm.weight is not None)
    if norm.weight is not None:
        rms_norm.weight = nn.Parameter(norm.weight.clone())
    return with_weights(linear, weight, bias), rms_norm


def with_weights(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Return a copy of a linear or convolution layer with other values."""
    new = copy.deepcopy(layer)
    new.weight = nn.Parameter(weight.clone())
    new.bias = None if bias is None else nn.Parameter(bias.clone())
    return new
