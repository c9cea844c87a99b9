"""Adapting a trained model with few parameters: low-rank updates, norms alone, or both."""

from collections.abc import Collection, Iterable

import torch
from torch import Generator, Tensor, nn
from torch.nn.modules.batchnorm import _NormBase  # batch and instance norms of torch and of this package

from lnorm.nn import _arguments as arguments
from lnorm.nn.dynamic_tanh import DynamicTanh
from lnorm.nn.fold import with_weights
from lnorm.nn.remove import FrozenNorm

NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, _NormBase, DynamicTanh, FrozenNorm)


class LoRALinear(nn.Module):
    """A frozen linear layer plus a trainable update of low rank, ``linear(x) + alpha / rank * up(down(x))``.

    Hu et al. (2022, equation 3). ``down``, shape ``(rank, in_features)``, is drawn as nn.Linear draws its weights,
    ``up``, shape ``(out_features, rank)``, starts at 0, so that the layer starts as ``linear``. ``alpha`` defaults to
    ``rank``. Raises TypeError if ``linear`` is not one.
    """

    def __init__(
        self, linear: nn.Linear, rank: int = 4, alpha: float | None = None, generator: Generator | None = None
    ) -> None:
        super().__init__()
        arguments.instance("linear", linear, nn.Linear)
        self.linear = linear.requires_grad_(False)
        self.rank = arguments.positive("rank", rank)
        self.scale = 1.0 if alpha is None else alpha / rank
        self.down = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        self.up = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.scale * (x @ self.down.T) @ self.up.T

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return one linear layer that computes the same; this one stays as it is."""
        return with_weights(self.linear, self.linear.weight + self.scale * self.up @ self.down, self.linear.bias)


def add_lora(
    model: nn.Module,
    names: Collection[str] = ("query", "value"),
    rank: int = 4,
    alpha: float | None = None,
    generator: Generator | None = None,
) -> list[nn.Parameter]:
    """Put a :class:`LoRALinear` around every linear layer whose own name is in ``names``, in place.

    The name is the last part of the dotted one: "query" takes ``blocks.0.sublayer.query``. The paper adapts queries and
    values, hence the default. Returns the new parameters; :func:`train_only` trains them and nothing else.

    Raises ValueError if no linear layer has such a name.
    """
    if isinstance(names, str):
        raise TypeError(f"names: expected a collection of names, got the string {names!r}")
    found = [name for name, m in model.named_modules() if isinstance(m, nn.Linear) and name.split(".")[-1] in names]
    if not found:
        raise ValueError(f"names: expected names of linear layers in the model, got {tuple(names)}, which match none")
    for name in found:
        model.set_submodule(name, LoRALinear(model.get_submodule(name), rank, alpha, generator))
    return lora_parameters(model)


def merge_lora(model: nn.Module) -> None:
    """Replace every :class:`LoRALinear` of the model by the one linear layer that computes the same, in place."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LoRALinear):
            model.set_submodule(name, module.merged())


def lora_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the two factors of every :class:`LoRALinear` in the model."""
    return [factor for m in model.modules() if isinstance(m, LoRALinear) for factor in (m.down, m.up)]


def norm_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return gains, biases and whatever else the norms of the model learn: torch's norms and this package's."""
    found = {id(p): p for m in model.modules() if isinstance(m, NORMS) for p in m.parameters(recurse=False)}
    return list(found.values())


def train_only(model: nn.Module, parameters: Iterable[nn.Parameter]) -> int:
    """Let only ``parameters`` be trained, freeze all others of the model, and return how many numbers that leaves.

    ``train_only(model, norm_parameters(model))`` is LN-tuning (Zhao et al. 2024). Buffers, such as the running
    statistics of BatchNorm, are not parameters: they move in training unless the model is in evaluation mode.

    Raises ValueError for parameters that are not the model's.
    """
    chosen = {id(parameter): parameter for parameter in parameters}
    strangers = chosen.keys() - {id(parameter) for parameter in model.parameters()}
    if strangers:
        raise ValueError(f"parameters: expected parameters of the model, got {len(strangers)} that are not")
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
    return sum(parameter.numel() for parameter in chosen.values())
