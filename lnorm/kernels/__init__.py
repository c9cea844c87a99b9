"""Normalization made fast: fused operators for torch tensors, differentiable, and usable under torch.compile.

On the CPU the work is done by kernels in numba that read and write memory once. A kernel is compiled on its first call,
which takes a few seconds, and kept on disk. Small tensors and whatever a kernel does not take go to torch's operations.
"""

from lnorm.kernels.dispatch import add_layer_norm, add_rms_norm, layer_norm, rms_norm

__all__ = ["add_layer_norm", "add_rms_norm", "layer_norm", "rms_norm"]
