"""Norms and small networks as torch modules."""

from lnorm.nn.mlp import StackedMLP

__all__ = ["StackedMLP"]
