"""The mathematics of normalization in NumPy: forward and hand-derived backward, one file a norm, made to be read.

Every ``*_backward`` takes what its forward returned as ``cache``. Inputs are never modified, running statistics aside.
"""

from lnorm.reference.batch_norm import batch_norm, batch_norm_backward
from lnorm.reference.detached_layer_norm import detached_layer_norm, detached_layer_norm_backward
from lnorm.reference.dynamic_tanh import dynamic_tanh, dynamic_tanh_backward
from lnorm.reference.group_norm import group_norm, group_norm_backward
from lnorm.reference.instance_norm import instance_norm, instance_norm_backward
from lnorm.reference.layer_norm import layer_norm, layer_norm_backward
from lnorm.reference.masked_batch_norm import masked_batch_norm, masked_batch_norm_backward
from lnorm.reference.rms_norm import partial_rms_norm, partial_rms_norm_backward, rms_norm, rms_norm_backward
from lnorm.reference.sharded_batch_norm import (
    ghost_batch_norm,
    ghost_batch_norm_backward,
    merge_statistics,
    sync_batch_norm,
    sync_batch_norm_backward,
)
from lnorm.reference.switch_norm import switch_norm, switch_norm_backward
from lnorm.reference.weight_norm import weight_norm, weight_norm_backward
from lnorm.reference.weight_standardization import standardize_weight, standardize_weight_backward
from lnorm.reference.welford import welford

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "detached_layer_norm",
    "detached_layer_norm_backward",
    "dynamic_tanh",
    "dynamic_tanh_backward",
    "ghost_batch_norm",
    "ghost_batch_norm_backward",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "masked_batch_norm",
    "masked_batch_norm_backward",
    "merge_statistics",
    "partial_rms_norm",
    "partial_rms_norm_backward",
    "rms_norm",
    "rms_norm_backward",
    "standardize_weight",
    "standardize_weight_backward",
    "switch_norm",
    "switch_norm_backward",
    "sync_batch_norm",
    "sync_batch_norm_backward",
    "weight_norm",
    "weight_norm_backward",
    "welford",
]
