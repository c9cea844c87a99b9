"""Taking the norms out of a trained model (Baroni et al. 2025): first freeze them, then fold them away."""

import copy
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from lnorm.nn import _arguments as arguments
from lnorm.nn._numerics import moments, widen
from lnorm.nn.attention import CausalSelfAttention
from lnorm.nn.fold import with_weights
from lnorm.nn.transformer import Transformer


class FrozenNorm(nn.Module):
    """LayerNorm or RMSNorm with a constant ``sigma``: ``(x - mean(x)) / sigma * weight + bias``, a linear map of x.

    The mean is still that of the row; a frozen RMSNorm subtracts none. Gain and bias are the norm's and stay trainable.
    """

    def __init__(self, norm: nn.Module, sigma: Tensor) -> None:
        super().__init__()
        self.normalized_shape = norm.normalized_shape
        self.centres = isinstance(norm, nn.LayerNorm)
        self.weight = norm.weight
        self.bias = getattr(norm, "bias", None)
        self.register_buffer("sigma", sigma)

    def forward(self, x: Tensor) -> Tensor:
        axes = arguments.trailing_axes("x", x, self.normalized_shape)
        y = (x - x.mean(axes, keepdim=True) if self.centres else x) / self.sigma
        y = y if self.weight is None else y * self.weight
        return y if self.bias is None else y + self.bias

    def as_matrix(self) -> tuple[Tensor, Tensor]:
        """Return ``(A, c)`` with ``forward(x) == A x + c``, for rows of one axis: shapes ``(D, D)`` and ``(D,)``."""
        unit = torch.eye(*self.normalized_shape, dtype=self.sigma.dtype, device=self.sigma.device)
        c = self(torch.zeros_like(unit[0]))
        return (self(unit) - c).T, c


@torch.no_grad()
def freeze_norms(model: nn.Module, *inputs: Any) -> nn.Module:
    """Return a copy of ``model`` in which every LayerNorm and RMSNorm divides by a constant.

    The constant is the mean over all rows that reach the norm in ``model(*inputs)`` of their own
    ``√(var + eps)``, or ``√(mean square + eps)``. The closer these are to one another, the less is lost.

    Raises ValueError if the model has no such norm, or one that the inputs do not reach.
    """
    arguments.instance("model", model, nn.Module)
    frozen = copy.deepcopy(model)
    norms = {name: norm for name, norm in frozen.named_modules() if isinstance(norm, (nn.LayerNorm, nn.RMSNorm))}
    if not norms or "" in norms:
        raise ValueError("model: expected a model with LayerNorm or RMSNorm inside, got none")
    seen: dict[str, list[Tensor]] = defaultdict(list)
    hooks = [
        norm.register_forward_pre_hook(lambda norm, args, name=name: seen[name].append(_sigmas(norm, args[0])))
        for name, norm in norms.items()
    ]
    was_training = frozen.training
    frozen.eval()
    frozen(*inputs)
    frozen.train(was_training)
    for hook in hooks:
        hook.remove()
    for name, norm in norms.items():
        if name not in seen:
            raise ValueError(f"inputs: expected inputs that reach every norm, got none at {name}")
        frozen.set_submodule(name, FrozenNorm(norm, torch.cat(seen[name]).mean()))
    return frozen


def _sigmas(norm: nn.Module, x: Tensor) -> Tensor:
    """Return what each row of ``x`` is divided by, as one axis."""
    wide = widen(x)
    axes = tuple(range(-len(norm.normalized_shape), 0))
    spread = moments(wide, axes)[2] if isinstance(norm, nn.LayerNorm) else wide.square().mean(axes)
    eps = torch.finfo(wide.dtype).eps if norm.eps is None else norm.eps
    return (spread + eps).sqrt().flatten()


@torch.no_grad()
def remove_norms(model: Transformer) -> Transformer:
    """Return a copy of a Transformer with frozen norms that has no norms left, and computes the same.

    A frozen norm is a linear map: one on a sublayer's input, or before the head, goes into the weights that read it;
    one on a sublayer's output into the weights that write it; one on the embeddings into their tables. Frozen norms of
    queries and keys stay. A norm on the residual stream itself ("post", "deepnorm") has nothing to be folded into.

    Raises TypeError for another model, ValueError for those placements and for norms that :func:`freeze_norms` has not
    frozen.
    """
    arguments.instance("model", model, Transformer)
    bare = copy.deepcopy(model)
    if isinstance(bare.norm_embedding, FrozenNorm):
        matrix, shift = bare.norm_embedding.as_matrix()
        bare.tokens.weight.copy_(bare.tokens.weight @ matrix.T)
        bare.positions.weight.copy_(bare.positions.weight @ matrix.T + shift)
        bare.norm_embedding = nn.Identity()
    for block in bare.blocks:
        sublayer = block.sublayer
        attends = isinstance(sublayer, CausalSelfAttention)
        readers, writer = (("query", "key", "value"), "output") if attends else (("up",), "down")
        _fold_into_readers(block, "norm_input", sublayer, readers)
        _fold_into_writer(block, "norm_output", sublayer, writer)
    _fold_into_readers(bare, "norm_final", bare, ("head",))

    places = ("norm_embedding", "norm_input", "norm_output", "norm_stream", "norm_final")
    for name, module in bare.named_modules():
        if name.endswith(places) and not isinstance(module, nn.Identity):
            raise ValueError(
                "model: expected norms that freeze_norms has frozen, in a placement that leaves the stream alone, "
                f"got {type(module).__name__} at {name}"
            )
    return bare


def _fold_into_readers(owner: nn.Module, place: str, parent: nn.Module, readers: tuple[str, ...]) -> None:
    """Fold the frozen norm at ``owner.place`` into the linear layers of ``parent`` that read it: W (A x + c) + b."""
    norm = getattr(owner, place)
    if isinstance(norm, FrozenNorm):
        matrix, shift = norm.as_matrix()
        for name in readers:
            linear = getattr(parent, name)
            setattr(parent, name, with_weights(linear, linear.weight @ matrix, linear.weight @ shift + linear.bias))
        setattr(owner, place, nn.Identity())


def _fold_into_writer(owner: nn.Module, place: str, parent: nn.Module, writer: str) -> None:
    """Fold the frozen norm at ``owner.place`` into the linear layer of ``parent`` before it: A (W x + b) + c."""
    norm = getattr(owner, place)
    if isinstance(norm, FrozenNorm):
        matrix, shift = norm.as_matrix()
        linear = getattr(parent, writer)
        setattr(parent, writer, with_weights(linear, matrix @ linear.weight, matrix @ linear.bias + shift))
        setattr(owner, place, nn.Identity())
