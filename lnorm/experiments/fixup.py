"""Do 30 residual blocks without a norm learn digits, and what makes them: Fixup, Weight Norm, or where they start?

``x + W₂ relu(W₁ x)`` thirty times, width 64, SGD with momentum 0.9 at 0.001 to 0.05, 100 steps of 64 digits. Without a
norm from He's initial values; with Fixup; with LayerNorm in every branch; with Weight Norm, which starts as the same
function as the first; started from data, a first batch that sets size and bias of every layer; and with both.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from lnorm.data import digits
from lnorm.experiments.claim import Claim, Measurements
from lnorm.nn import FeedForward, FixupBranch, Placement, ResidualBlock, Stack, fixup_
from lnorm.training import Momentum, batches, losses

BLOCKS, WIDTH = 30, 64
RATES = {
    "none": (0.001,),
    "weight": (0.001,),
    "data": (0.001, 0.01),
    "weight_data": (0.001, 0.003, 0.01, 0.05),
    "fixup": (0.05,),
    "layer": (0.05,),
}
STACKS = (("none", "data"), ("weight", "weight_data"), ("fixup",), ("layer",))  # one architecture each


def network(branch: Callable[[int, int], nn.Module], placement: Placement, generator: Generator) -> nn.Sequential:
    """Return 30 residual blocks and a head, with He's initial values."""
    norm = partial(nn.LayerNorm, WIDTH)
    blocks = [ResidualBlock(branch(WIDTH, WIDTH), norm, placement) for _ in range(BLOCKS)]
    model = nn.Sequential(*blocks, norm() if placement == "pre" else nn.Identity(), nn.Linear(WIDTH, 10))
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return model


class WeightNormLinear(nn.Module):
    """A linear layer with the weight ``g · v / ‖v‖``, one length g for each output; at first, the same function.

    As :func:`torch.nn.utils.parametrizations.weight_norm` makes it, which models in a stack do not run fast.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.v = nn.Parameter(linear.weight.detach().clone())
        self.g = nn.Parameter(self.v.detach().norm(dim=1, keepdim=True))
        self.bias = nn.Parameter(linear.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.v * (self.g / self.v.norm(dim=1, keepdim=True)), self.bias)


@torch.no_grad()
def start_from_data(model: nn.Sequential, x: Tensor) -> None:
    """Rescale and shift each layer, in order, such that its outputs on ``x`` have mean 0 and variance 1 a feature.

    Salimans & Kingma (2016, section 3): of a normalized weight, only g is changed. The head is left alone.
    """

    def start(linear: nn.Linear | WeightNormLinear, x: Tensor) -> Tensor:
        std, mean = torch.std_mean(linear(x), dim=0)
        length = linear.g if isinstance(linear, WeightNormLinear) else linear.weight
        length /= std.unsqueeze(1)
        linear.bias -= mean / std
        return linear(x)

    for block in model[:BLOCKS]:
        x = x + start(block.sublayer.down, torch.relu(start(block.sublayer.up, x)))


def without_norm(generator: Generator, weight_norm: bool = False, first: Tensor | None = None) -> nn.Sequential:
    """Return the network without a norm; with normalized weights and started from the batch ``first`` on demand."""
    model = network(FeedForward, "none", generator)
    if weight_norm:
        for name, layer in list(model.named_modules()):
            if isinstance(layer, nn.Linear):
                model.set_submodule(name, WeightNormLinear(layer))
    if first is not None:
        start_from_data(model, first)
    return model


def with_fixup(generator: Generator) -> nn.Sequential:
    """Return the network of Fixup branches, with Fixup's initial values."""
    model = network(FixupBranch, "none", generator)
    fixup_(model, generator)
    return model


@torch.no_grad()
def growth(model: nn.Sequential, x: Tensor) -> np.ndarray:
    """Return the mean square of the stream before the first block and after each."""
    states = [x] + [x := block(x) for block in model[:BLOCKS]]
    return np.array([float(state.square().mean()) for state in states])


def accuracies(models: Sequence[nn.Sequential], rates: Sequence[float], seed: int, steps: int) -> np.ndarray:
    """Train models of one architecture side by side, each at its own learning rate; return their test accuracies."""
    train_x, train_y, test_x, test_y = map(torch.from_numpy, digits())
    stack = Stack(models)
    direction, rate = Momentum(0.9), torch.tensor(rates).unsqueeze(1)
    for index in batches(len(train_x), 64, steps, torch.Generator().manual_seed(seed)):
        (gradient,) = torch.autograd.grad(losses(stack(train_x[index]), train_y[index]).sum(), stack.parameters)
        with torch.no_grad():
            stack.parameters -= rate * direction(gradient)
    with torch.no_grad():
        return (stack(test_x).argmax(-1) == test_y).float().mean(1).numpy()


def run(seed: int, steps: int = 100) -> Measurements:
    """Train six kinds, and follow the stream through their first forward pass. About 8 s on one core."""
    first = torch.from_numpy(digits().train_x[:256])
    kinds: dict[str, Callable[[Generator], nn.Sequential]] = {
        "none": without_norm,
        "fixup": with_fixup,
        "layer": partial(network, FeedForward, "pre"),
        "weight": partial(without_norm, weight_norm=True),
        "data": partial(without_norm, first=first),
        "weight_data": partial(without_norm, weight_norm=True, first=first),
    }
    m: Measurements = {}
    for group in STACKS:
        trained = [(name, rate) for name in group for rate in RATES[name]]
        models = [kinds[name](torch.Generator().manual_seed(seed)) for name, _ in trained]
        for name in group:
            m[f"growth_{name}"] = growth(models[[n for n, _ in trained].index(name)], first)
        reached = accuracies(models, [rate for _, rate in trained], seed, steps)
        for name in group:
            m[f"accuracy_{name}"] = reached[[n == name for n, _ in trained]]
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """Plain blocks explode by the law and are dead; Fixup, LayerNorm and a start from data train."""

    def at(name: str, rate: float) -> tuple[float, ...]:
        return tuple(float(run[f"accuracy_{name}"][RATES[name].index(rate)]) for run in runs)

    def factor(name: str) -> tuple[float, ...]:
        return tuple(float((run[f"growth_{name}"][-1] / run[f"growth_{name}"][0]) ** (1 / BLOCKS)) for run in runs)

    return [
        Claim(
            "No norm, He's initial values: growth of the mean square per block",
            factor("none"),
            low=2.0,
            high=4.0,
            published="3 (law)",
            where="chapter 12",
        ),
        Claim("No norm, He's initial values: test accuracy at 0.001 (chance is 0.1)", at("none", 0.001), high=0.2),
        Claim(
            "Fixup: test accuracy at 0.05",
            at("fixup", 0.05),
            low=0.88,
            published="as stable as with normalization",
            source="zhang2019fixup",
            where="abstract",
        ),
        Claim("LayerNorm: test accuracy at 0.05", at("layer", 0.05), low=0.88),
        Claim("Weight Norm, He's initial values: test accuracy at 0.001", at("weight", 0.001), high=0.2),
        Claim("No norm, started from data: test accuracy at 0.001", at("data", 0.001), low=0.8),
        Claim("No norm, started from data: test accuracy at 0.01", at("data", 0.01), high=0.2),
        Claim("Weight Norm, started from data: test accuracy at 0.003", at("weight_data", 0.003), low=0.8),
        Claim("Weight Norm, started from data: test accuracy at 0.05", at("weight_data", 0.05), high=0.2),
    ]
