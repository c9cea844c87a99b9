"""Norms as torch modules, and the networks that the course builds from them.

A norm has the constructor, the parameters and the ``state_dict`` keys of the torch module of its name, so that a
checkpoint loads both ways; its forward pass is written out in plain operations, and autograd gives the backward. Weight
normalization is not repeated here: :func:`torch.nn.utils.parametrizations.weight_norm` serves.
"""

from lnorm.nn.adaptive_layer_norm import AdaptiveLayerNorm, AdaptiveResidualBlock
from lnorm.nn.attention import CausalSelfAttention
from lnorm.nn.batch_norm import BatchNorm, TokenBatchNorm
from lnorm.nn.detached_layer_norm import DetachedLayerNorm
from lnorm.nn.dynamic_tanh import DynamicTanh
from lnorm.nn.fold import fold_batch_norm, fold_centring, fold_gain
from lnorm.nn.ghost_batch_norm import GhostBatchNorm
from lnorm.nn.group_norm import GroupNorm
from lnorm.nn.initializers import deepnorm_, deepnorm_constants, fixup_, gpt2_, xavier_
from lnorm.nn.instance_norm import InstanceNorm
from lnorm.nn.layer_norm import LayerNorm
from lnorm.nn.masked_batch_norm import MaskedBatchNorm
from lnorm.nn.mlp import StackedMLP
from lnorm.nn.recurrent import LayerNormGRUCell, LayerNormLSTMCell, LayerNormRNNCell
from lnorm.nn.remove import FrozenNorm, freeze_norms, remove_norms
from lnorm.nn.residual import FixupBranch, Placement, ResidualBlock
from lnorm.nn.rms_norm import PartialRMSNorm, RMSNorm
from lnorm.nn.stack import Stack
from lnorm.nn.switch_norm import SwitchNorm
from lnorm.nn.sync_batch_norm import SyncBatchNorm
from lnorm.nn.transformer import FeedForward, Transformer
from lnorm.nn.tuning import LoRALinear, add_lora, lora_parameters, merge_lora, norm_parameters, train_only
from lnorm.nn.weight_standardization import WeightStandardization

__all__ = [
    "AdaptiveLayerNorm",
    "AdaptiveResidualBlock",
    "BatchNorm",
    "CausalSelfAttention",
    "DetachedLayerNorm",
    "DynamicTanh",
    "FeedForward",
    "FixupBranch",
    "FrozenNorm",
    "GhostBatchNorm",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "LayerNormGRUCell",
    "LayerNormLSTMCell",
    "LayerNormRNNCell",
    "LoRALinear",
    "MaskedBatchNorm",
    "PartialRMSNorm",
    "Placement",
    "RMSNorm",
    "ResidualBlock",
    "Stack",
    "StackedMLP",
    "SwitchNorm",
    "SyncBatchNorm",
    "TokenBatchNorm",
    "Transformer",
    "WeightStandardization",
    "add_lora",
    "deepnorm_",
    "deepnorm_constants",
    "fixup_",
    "fold_batch_norm",
    "fold_centring",
    "fold_gain",
    "freeze_norms",
    "gpt2_",
    "lora_parameters",
    "merge_lora",
    "norm_parameters",
    "remove_norms",
    "train_only",
    "xavier_",
]
