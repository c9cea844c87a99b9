"""The kernels for NVIDIA's GPUs, in Triton: one program a few rows, statistics in float32."""

from functools import cache
from importlib.util import find_spec

import torch


@cache
def usable(device: torch.device) -> bool:
    """Whether the kernels run on a device: a GPU of NVIDIA's, of compute capability 8.0 or later, beside Triton."""
    if device.type != "cuda" or torch.version.cuda is None or find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)
