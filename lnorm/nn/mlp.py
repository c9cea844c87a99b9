"""Multilayer perceptrons trained side by side, so that a sweep over settings costs little more than one run."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Literal["none", "batch", "layer"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}


class StackedNorm(nn.Module):
    """Batch or layer normalization of ``(copies, N, features)``, each copy with its own statistics, gain and bias."""

    def __init__(self, norm: Norm, copies: int, features: int) -> None:
        super().__init__()
        self.norm = norm
        self.gamma = nn.Parameter(torch.ones(copies, 1, features))
        self.beta = nn.Parameter(torch.zeros(copies, 1, features))
        self.register_buffer("running_mean", torch.zeros(copies * features))
        self.register_buffer("running_var", torch.ones(copies * features))

    def forward(self, x: Tensor) -> Tensor:
        copies, n, features = x.shape
        if self.norm == "layer":
            x_hat = F.layer_norm(x, (features,))
        else:  # one long row of copies × features channels, so that no statistic crosses from copy to copy
            channels = x.transpose(0, 1).reshape(n, copies * features)
            x_hat = F.batch_norm(channels, self.running_mean, self.running_var, training=self.training)
            x_hat = x_hat.view(n, copies, features).transpose(0, 1)
        return torch.addcmul(self.beta, x_hat, self.gamma)


class StackedMLP(nn.Module):
    """``copies`` multilayer perceptrons in one module: linear, norm, activation, and a linear head.

    ``widths`` are the sizes from input to output. Weights are drawn once from N(0, 1 / fan_in) and shared by all
    copies, copy i scaling them by ``gains[i]``: √2 is He's initialization, 1 is Xavier's for square layers. Biases
    start at 0.
    The forward pass takes ``(N, widths[0])``, the same examples for all, and returns ``(copies, N, widths[-1])``.
    """

    def __init__(
        self,
        widths: Sequence[int],
        gains: Sequence[float],
        norm: Norm = "none",
        activation: str = "relu",
        *,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        gain = torch.tensor(gains).view(-1, 1, 1)
        copies = len(gains)
        self.activation = ACTIVATIONS[activation]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.norms = nn.ModuleList()
        for fan_in, fan_out in pairwise(widths):
            weight = torch.randn(fan_in, fan_out, generator=generator) * fan_in**-0.5
            self.weights.append(nn.Parameter(gain * weight))
            self.biases.append(nn.Parameter(torch.zeros(copies, 1, fan_out)))
        for features in widths[1:-1]:
            self.norms.append(nn.Identity() if norm == "none" else StackedNorm(norm, copies, features))

    def forward(self, x: Tensor) -> Tensor:
        h = x.expand(len(self.weights[0]), *x.shape)  # (copies, N, features)
        for weight, bias, norm in zip(self.weights, self.biases, self.norms, strict=False):
            h = self.activation(norm(torch.baddbmm(bias, h, weight)))
        return torch.baddbmm(self.biases[-1], h, self.weights[-1])
