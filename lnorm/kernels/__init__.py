"""Normalization made fast: fused operators for torch tensors, differentiable, and usable under torch.compile.

On the CPU the work is done by kernels in numba that read and write memory once. A kernel is compiled on its first call,
which takes a few seconds, and kept on disk. Small tensors and whatever a kernel does not take go to torch's operations.
``patch(model)`` has the norms of a model use them; ``info()`` says what runs on this machine, and why.
"""

from lnorm.kernels.dispatch import (
    add_layer_norm,
    add_rms_norm,
    layer_norm,
    layer_norm_gelu,
    rms_norm,
    rms_norm_int8,
)
from lnorm.kernels.patching import patch, unpatch
from lnorm.kernels.report import info

__all__ = [
    "add_layer_norm",
    "add_rms_norm",
    "info",
    "layer_norm",
    "layer_norm_gelu",
    "patch",
    "rms_norm",
    "rms_norm_int8",
    "unpatch",
]
