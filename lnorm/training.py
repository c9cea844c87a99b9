"""The few lines of a training loop that every experiment shares."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F


def batches(examples: int, size: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield ``steps`` index tensors of shape ``(size,)``, drawn epoch by epoch without replacement."""
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < size:
            order = torch.randperm(examples, generator=generator)
        yield order[:size]
        order = order[size:]


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy (nats) of each copy of a stacked model: logits ``(copies, N, classes)``, labels ``(N,)``."""
    copies = logits.shape[0]
    each = F.cross_entropy(logits.flatten(0, 1), labels.repeat(copies), reduction="none")
    return each.view(copies, -1).mean(dim=1)


@torch.no_grad()
def accuracies(model: torch.nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Share of right answers of each copy of a stacked model in evaluation mode, shape ``(copies,)``."""
    was_training = model.training
    model.eval()
    right = (model(x).argmax(dim=-1) == y).float().mean(dim=1)
    model.train(was_training)
    return right
