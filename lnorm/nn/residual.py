"""Residual blocks, and the six answers to the question where the norm goes."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lnorm.nn import _arguments as arguments

Placement = Literal["pre", "post", "peri", "sandwich", "deepnorm", "none"]


class ResidualBlock(nn.Module):
    """``x + sublayer(x)`` with norms N where ``placement`` says::

        none        x + f(x)
        post        N(x + f(x))              Vaswani et al. 2017
        pre         x + f(N(x))              Xiong et al. 2020
        sandwich    x + N(f(N(x)))           Ding et al. 2021 (CogView)
        peri        x + N(f(N(x)))           Kim et al. 2025
        deepnorm    N(alpha x + f(x))        Wang et al. 2022

    A block has at most three places for a norm: on the sublayer's input, on its output, and on the stream after the
    addition. Sandwich-LN and Peri-LN fill the same two; they differ outside of the block, where Peri-LN may also
    normalize the embeddings. Wherever the stream itself is left unnormalized (pre, sandwich, peri) it grows from block
    to block, and the network needs one more norm after the last block, before what reads the stream.

    ``norm`` is called without arguments once for each norm. ``alpha`` is for "deepnorm" alone, which needs it:
    :func:`lnorm.nn.deepnorm_constants` gives it. The output has the shape of the input.
    """

    def __init__(
        self,
        sublayer: nn.Module,
        norm: Callable[[], nn.Module],
        placement: Placement = "pre",
        *,
        alpha: float | None = None,
    ) -> None:
        super().__init__()
        arguments.one_of("placement", placement, get_args(Placement))
        if isinstance(norm, nn.Module) or not callable(norm):
            raise TypeError(
                f"norm: expected a function that makes a norm, got {type(norm).__name__}; try lambda: LayerNorm(64)"
            )
        if (alpha is None) == (placement == "deepnorm"):
            raise ValueError(
                f'alpha: expected a number with "deepnorm" and None otherwise, got {alpha} with "{placement}"'
            )
        self.placement = placement
        self.alpha = 1.0 if alpha is None else alpha
        self.sublayer = sublayer
        inside = ("pre", "sandwich", "peri")
        self.norm_input = norm() if placement in inside else nn.Identity()
        self.norm_output = norm() if placement in ("sandwich", "peri") else nn.Identity()
        self.norm_stream = norm() if placement in ("post", "deepnorm") else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        branch = self.norm_output(self.sublayer(self.norm_input(x)))
        return self.norm_stream(torch.add(branch, x, alpha=self.alpha))  # branch + alpha x

    def extra_repr(self) -> str:
        return f"placement={self.placement!r}, alpha={self.alpha:.4g}"


class FixupBranch(nn.Module):
    """Linear, ReLU, linear with Fixup's scalars: a bias before each of the three, a multiplier at the end.

    Maps ``(..., features)`` to itself through ``width`` hidden units (Zhang, Dauphin & Ma 2019, rule 3). The
    other two rules are initial values, which :func:`lnorm.nn.fixup_` sets.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(features, width, bias=False)
        self.down = nn.Linear(width, features, bias=False)
        self.biases = nn.Parameter(torch.zeros(3))
        self.multiplier = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        before_up, before_relu, before_down = self.biases
        h = torch.relu(self.up(x + before_up) + before_relu)
        return self.multiplier * self.down(h + before_down)
