"""How small may the group be over which BatchNorm averages, while the optimizer's batch stays at 32?

Digits, three hidden layers of 128, He's initialization, SGD at 0.1 with a cosine schedule, 600 steps of 32. For the
statistics alone, the batch is cut into groups of 32, 16, 8, 4 or 2 (ghost batches, Hoffer et al. 2017). Beside it
LayerNorm, no norm, groups of 2 with two changes, and batches that hold only a few of the ten classes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from lnorm.data import digits
from lnorm.experiments.claim import Claim, Measurements
from lnorm.nn.mlp import Norm, StackedMLP
from lnorm.training import accuracies, batches, losses

BATCH = 32
GROUPS = (32, 16, 8, 4, 2)
CLASSES = (1, 2)
WIDTHS = (64, 128, 128, 128, 10)
LAST = 50  # the final training loss is the mean over so many steps


class GhostNorm(nn.Module):
    """BatchNorm of ``(copies, 32, features)`` whose copy i takes statistics over ``groups[i]`` consecutive examples.

    The running statistics of a copy move once a step, towards the average over its groups.
    """

    def __init__(self, groups: Sequence[int], features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        # Row n of a copy's matrix averages over the group of example n: one product takes the means of all copies.
        average = [torch.block_diag(*[torch.full((b, b), 1 / b)] * (BATCH // b)) for b in groups]
        self.register_buffer("average", torch.stack(average))
        self.register_buffer("unbias", torch.tensor([b / (b - 1) for b in groups]).view(-1, 1, 1))
        self.register_buffer("running_mean", torch.zeros(len(groups), 1, features))
        self.register_buffer("running_var", torch.ones(len(groups), 1, features))
        self.gamma = nn.Parameter(torch.ones(len(groups), 1, features))
        self.beta = nn.Parameter(torch.zeros(len(groups), 1, features))

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance, those of each example's group in training and the running ones otherwise."""
        if not self.training:
            return self.running_mean, self.running_var
        mean = self.average @ x
        var = self.average @ (x - mean).square()
        with torch.no_grad():
            self.running_mean.lerp_(mean.mean(1, keepdim=True), 0.1)
            self.running_var.lerp_((var * self.unbias).mean(1, keepdim=True), 0.1)
        return mean, var

    def forward(self, x: Tensor) -> Tensor:
        mean, var = self.statistics(x)
        return torch.addcmul(self.beta, (x - mean) * torch.rsqrt(var + self.eps), self.gamma)


def network(norm: Norm, generator: torch.Generator) -> StackedMLP:
    """Return one MLP with He's initialization."""
    return StackedMLP(WIDTHS, [2**0.5], norm, generator=generator)


def ghost_network(
    generator: torch.Generator, groups: Sequence[int] = GROUPS, norm: Callable[..., GhostNorm] = GhostNorm
) -> StackedMLP:
    """Return an MLP for each of ``groups``, all with the weights that :func:`network` would draw."""
    model = StackedMLP(WIDTHS, [2**0.5] * len(groups), generator=generator)
    model.norms = nn.ModuleList(norm(groups, features) for features in WIDTHS[1:-1])
    return model


def train(model: StackedMLP, drawn: Iterable[Tensor], steps: int) -> tuple[Tensor, Tensor]:
    """Train on batches of indices; return losses and norms of the first layer's gradient, both ``(steps, copies)``."""
    x, y = map(torch.from_numpy, digits()[:2])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    loss, gradient = [], []
    for index in drawn:
        optimizer.zero_grad()
        each = losses(model(x[index]), y[index])
        each.sum().backward()
        gradient.append(torch.linalg.vector_norm(model.weights[0].grad, dim=(1, 2)))
        optimizer.step()
        schedule.step()
        loss.append(each.detach())
    return torch.stack(loss), torch.stack(gradient)


def few_classes(labels: Tensor, classes: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield batches of 32 from ``classes`` of the ten classes, drawn anew for every batch, in equal parts."""
    members = [torch.nonzero(labels == c).flatten() for c in range(10)]
    for _ in range(steps):
        chosen = [members[c] for c in torch.randperm(10, generator=generator)[:classes]]
        yield torch.cat([m[torch.randint(len(m), (BATCH // classes,), generator=generator)] for m in chosen])


@torch.no_grad()
def errors_in_training_mode(model: StackedMLP, x: Tensor, y: Tensor) -> Tensor:
    """Share of wrong answers with the statistics of groups of test images, as in training.

    Only whole batches are asked. Call it last: like every pass in training mode, it moves the running statistics.
    """
    model.train()
    whole = len(x) // BATCH * BATCH
    answers = [model(rows).argmax(dim=-1) for rows in x[:whole].split(BATCH)]
    return (torch.cat(answers, dim=1) != y[:whole]).float().mean(dim=1)


def run(seed: int, steps: int = 600) -> Measurements:
    """Train five group sizes at once, and eight more networks for comparison. About 7 s on one core."""
    train_y, test_x, test_y = map(torch.from_numpy, digits()[1:])
    m: Measurements = {"groups": np.array(GROUPS), "classes": np.array(CLASSES)}

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(seed)  # so all start with the same weights

    def train_as(name: str, model: StackedMLP, drawn: Iterable[Tensor]) -> None:
        loss, gradient = train(model, drawn, steps)
        m[f"loss_{name}"] = loss[-LAST:].mean(0).numpy()
        m[f"error_{name}"] = 1 - accuracies(model, test_x, test_y).numpy()
        m[f"median_gradient_{name}"] = gradient.median(0).values.numpy()
        m[f"largest_gradient_{name}"] = gradient.max(0).values.numpy()

    ghost, frozen = ghost_network(seeded()), ghost_network(seeded(), (2,))
    for weight in frozen.weights[:-1]:
        weight.register_hook(torch.zeros_like)  # a gradient of zero: hidden layers stay as they were drawn
    models = {
        "ghost": ghost,
        "two_frozen": frozen,
        "two_large_eps": ghost_network(seeded(), (2,), partial(GhostNorm, eps=0.1)),
        "layer": network("layer", seeded()),
        "none": network("none", seeded()),
    }
    for name, model in models.items():
        train_as(name, model, batches(len(train_y), BATCH, steps, seeded()))  # the same batches, too
    m["training_mode_error_ghost"] = errors_in_training_mode(ghost, test_x, test_y).numpy()

    skewed: tuple[Norm, ...] = ("batch", "layer")
    for norm in skewed:
        for classes in CLASSES:
            train_as(f"{norm}_{classes}", network(norm, seeded()), few_classes(train_y, classes, steps, seeded()))
    return m


def claims(runs: Sequence[Measurements]) -> list[Claim]:
    """Training suffers at every halving, the test error only at the end; and what batches of one class do."""

    def at(name: str, group: int) -> tuple[float, ...]:
        return tuple(float(run[name][GROUPS.index(group)]) for run in runs)

    def only(name: str) -> tuple[float, ...]:
        return tuple(float(run[name][0]) for run in runs)

    def difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, ...]:
        return tuple(a - b for a, b in zip(first, second, strict=True))

    def spike(group: int) -> tuple[float, ...]:
        largest, median = at("largest_gradient_ghost", group), at("median_gradient_ghost", group)
        return tuple(a / b for a, b in zip(largest, median, strict=True))

    halvings = tuple(float(np.min(run["loss_ghost"][1:] / run["loss_ghost"][:-1])) for run in runs)
    return [
        Claim("Training loss when the group is halved, over the loss before: smallest of the four", halvings, low=1.2),
        Claim(
            "Groups of 8: test error minus test error with groups of 32",
            difference(at("error_ghost", 8), at("error_ghost", 32)),
            low=-0.02,
            high=0.02,
            published="+0.012 (ImageNet)",
            source="wu2018group",
            where="table 2",
        ),
        Claim(
            "Groups of 2: test error minus test error with groups of 32",
            difference(at("error_ghost", 2), at("error_ghost", 32)),
            low=0.1,
            published="+0.111 (ImageNet)",
            source="wu2018group",
            where="table 2",
        ),
        Claim(
            "Groups of 32: test error minus LayerNorm's",
            difference(at("error_ghost", 32), only("error_layer")),
            low=-0.02,
            high=0.02,
            published="−0.017 (ImageNet)",
            source="wu2018group",
            where="section 4.1",
        ),
        Claim(
            "Groups of 2: test error with group statistics minus test error with running statistics",
            difference(at("training_mode_error_ghost", 2), at("error_ghost", 2)),
            low=0.0,
        ),
        Claim(
            "Groups of 32: largest gradient of the first layer over the median one",
            spike(32),
            high=20,
        ),
        Claim("Groups of 2: largest gradient over the median one, its power of ten", tuple(np.log10(spike(2))), low=2),
        Claim(
            "Groups of 2: training loss minus training loss with hidden layers that are never trained",
            difference(at("loss_ghost", 2), only("loss_two_frozen")),
            low=0.0,
        ),
        Claim("Groups of 2 with eps = 0.1: test error", only("error_two_large_eps"), high=0.15),
        Claim("Batches of one class: BatchNorm's test error (chance is 0.9)", only("error_batch_1"), low=0.8),
        Claim("Batches of one class: LayerNorm's test error", only("error_layer_1"), high=0.06),
        Claim("Batches of two classes: BatchNorm's test error", only("error_batch_2"), high=0.08),
    ]
