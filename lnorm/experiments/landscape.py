"""Does BatchNorm help because the inputs of its layers hold still, or because the loss is smoother?

After Santurkar et al. (2018): MLPs of eight hidden layers of 64 on digits, Xavier's initialization, SGD with momentum
0.9, 300 steps of 128 digits at three learning rates. One of them puts noise of random mean and scale after BatchNorm,
so that what each layer receives changes from step to step. Accuracy, drift of a layer's mean input, and how far the
loss and its gradient change along the gradient.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from lnorm.data import digits
from lnorm.experiments.claim import Claim, Measurements
from lnorm.nn.mlp import Norm, StackedMLP
from lnorm.training import accuracies, batches, losses

Kind = Literal["none", "batch", "noisy", "layer", "noise_alone"]
RATES = (0.01, 0.05, 0.2)
NORMS: dict[Kind, Norm] = {"none": "none", "batch": "batch", "noisy": "batch", "layer": "layer", "noise_alone": "none"}
WALK = (0.02, 0.1, 0.2, 0.4)  # how far along the gradient the landscape is looked at
Parameters = dict[str, Tensor]


class Noise(nn.Module):
    """Add noise to ``(copies, N, features)`` in training: its mean and size for each feature are new at every call.

    Means are drawn from N(0, 0.5²), standard deviations from 0.5 to 0.75. All copies receive the same noise.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        _, n, features = x.shape
        mean = 0.5 * torch.randn(features, generator=self.generator)
        size = 0.5 + 0.25 * torch.rand(features, generator=self.generator)
        return x + mean + size * torch.randn(n, features, generator=self.generator)


def losses_at(model: nn.Module, parameters: Parameters, x: Tensor, y: Tensor) -> Tensor:
    """Return the loss of each copy with ``parameters`` in place of its own; running statistics stay as they are."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    return losses(functional_call(model, {**parameters, **buffers}, (x,)), y)


def along_gradient(model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor]:
    """Walk down the gradient of the batch ``(x, y)``: return, for each copy, how much loss and gradient change.

    The first is the largest loss on the way minus the smallest, the second the largest distance between a gradient on
    the way and the one at the start (Santurkar et al. 2018, figure 4). Shapes ``(copies,)``. The model is not changed.
    """
    start = {name: parameter.detach() for name, parameter in model.named_parameters()}
    state = noise.get_state()

    def loss_and_gradient(parameters: Parameters) -> tuple[Tensor, Parameters]:
        noise.set_state(state)  # the same noise everywhere, or the loss would not be a function of the parameters
        leaves = {name: parameter.requires_grad_() for name, parameter in parameters.items()}
        loss = losses_at(model, leaves, x, y)
        gradient = torch.autograd.grad(loss.sum(), list(leaves.values()))
        return loss.detach(), dict(zip(leaves, gradient, strict=True))

    loss, gradient = loss_and_gradient({name: value.clone() for name, value in start.items()})
    seen, changes = [loss], []
    for step in WALK:
        loss, there = loss_and_gradient({name: start[name] - step * gradient[name] for name in start})
        seen.append(loss)
        square = sum((there[name] - gradient[name]).square().flatten(1).sum(1) for name in start)
        changes.append(torch.as_tensor(square).sqrt())
    low, high = torch.aminmax(torch.stack(seen), dim=0)
    return high - low, torch.stack(changes).amax(0)


def train(seed: int, kind: Kind, steps: int = 300, every: int = 10) -> dict[str, np.ndarray]:
    """Train one network per learning rate; look at drift and landscape in every tenth step.

    Returns test accuracies, ``(rates,)``; training losses, ``(steps, rates)``; drifts, loss ranges and changes of the
    gradient, ``(steps / every, rates)``.
    """
    train_x, train_y, test_x, test_y = map(torch.from_numpy, digits())
    generator, noise = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(1000 + seed)
    model = StackedMLP((64,) * 9 + (10,), [1.0] * len(RATES), NORMS[kind], generator=generator)
    if kind in ("noisy", "noise_alone"):
        model.norms = nn.ModuleList(nn.Sequential(norm, Noise(noise)) for norm in model.norms)
    inputs = []  # of layer 7, averaged over the batch, (copies, features) at every forward pass
    model.norms[5].register_forward_hook(lambda _module, _args, z: inputs.append(torch.relu(z.detach()).mean(1)))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    rate = torch.tensor(RATES)  # scaling a copy's loss by its rate is SGD at that rate
    found: dict[str, list[Tensor]] = {"loss": [], "drift": [], "loss_range": [], "gradient_change": []}
    for step, index in enumerate(batches(len(train_x), 128, steps, generator)):
        x, y = train_x[index], train_y[index]
        look = step % every == 0
        if look:
            loss_range, gradient_change = along_gradient(model, x, y, noise)
            found["loss_range"].append(loss_range)
            found["gradient_change"].append(gradient_change)
        optimizer.zero_grad()
        loss = losses(model(x), y)
        (rate * loss).sum().backward()
        optimizer.step()
        found["loss"].append(loss.detach())
        if look:  # the same examples through the network before and after one step
            before = inputs[-1]
            with torch.no_grad():
                losses_at(model, dict(model.named_parameters()), x, y)
            found["drift"].append((inputs[-1] - before).norm(dim=1) / before.norm(dim=1))
        inputs.clear()
    series = {name: torch.stack(values).numpy() for name, values in found.items()}
    return {"accuracy": accuracies(model, test_x, test_y).numpy(), **series}


def run(seed: int, steps: int = 300) -> Measurements:
    """Measure 15 networks: 5 kinds × 3 learning rates. About 8 s on one core."""
    m: Measurements = {"rates": np.array(RATES), "steps": np.arange(0, steps, 10)}
    for kind in NORMS:
        for name, values in train(seed, kind, steps).items():
            m[f"{name}_{kind}"] = values
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """Unsteady inputs do not spoil BatchNorm's advantage; a smoother loss comes with it."""

    def accuracy(kind: Kind, rate: float) -> np.ndarray:
        return np.array([run[f"accuracy_{kind}"][RATES.index(rate)] for run in runs])

    def average(name: str, kind: Kind) -> np.ndarray:  # over training, at the rate at which all kinds but one learn
        return np.array([run[f"{name}_{kind}"][:, 0].mean() for run in runs])

    return [
        Claim(
            "Drift of layer 7's mean input in one step: noisy BatchNorm minus no norm",
            tuple(average("drift", "noisy") - average("drift", "none")),
            low=0.2,
            published="noisy BatchNorm is less stable",
            source="santurkar2018how",
            where="section 2.1",
        ),
        Claim(
            "Drift of layer 7's mean input in one step: no norm ÷ BatchNorm",
            tuple(average("drift", "none") / average("drift", "batch")),
            low=5,
        ),
        Claim("Learning rate 0.2, no norm: accuracy", tuple(accuracy("none", 0.2)), high=0.3),
        Claim(
            "Learning rate 0.2, noisy BatchNorm: accuracy",
            tuple(accuracy("noisy", 0.2)),
            low=0.85,
            published="about as good as BatchNorm",
            source="santurkar2018how",
            where="section 2.1",
        ),
        Claim(
            "Learning rate 0.01, last 20 steps: training loss of noisy BatchNorm minus BatchNorm's: noise has a price",
            tuple(float(np.mean((run["loss_noisy"] - run["loss_batch"])[-20:, 0])) for run in runs),
            low=0.3,
        ),
        Claim(
            "Learning rate 0.01, the same noise without BatchNorm: accuracy",
            tuple(accuracy("noise_alone", 0.01)),
            high=0.3,
            published="does not train",
            source="santurkar2018how",
            where="section 2.1",
        ),
        Claim(
            "Range of the loss along the gradient: no norm ÷ BatchNorm",
            tuple(average("loss_range", "none") / average("loss_range", "batch")),
            low=5,
            published="far larger",
            source="santurkar2018how",
            where="figure 4",
        ),
        Claim(
            "Change of the gradient along the gradient: no norm ÷ BatchNorm",
            tuple(average("gradient_change", "none") / average("gradient_change", "batch")),
            low=5,
            published="far larger",
            source="santurkar2018how",
            where="figure 4",
        ),
    ]
