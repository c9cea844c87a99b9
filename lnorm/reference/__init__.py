"""The mathematics of normalization in NumPy: forward and hand-derived backward, one file a norm, made to be read.

Every ``*_backward`` takes what its forward returned as ``cache``. Inputs are never modified, running statistics aside.
"""

from lnorm.reference.batch_norm import batch_norm, batch_norm_backward
from lnorm.reference.layer_norm import layer_norm, layer_norm_backward
from lnorm.reference.rms_norm import rms_norm, rms_norm_backward

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "rms_norm",
    "rms_norm_backward",
]
