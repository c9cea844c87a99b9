"""The few lines of a training loop that every experiment shares."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lnorm.nn.stack import Stack


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


class Adam:
    """Adam's direction (Kingma & Ba 2015) for a tensor of gradients; subtract it times the learning rate."""

    def __init__(self, beta1: float = 0.9, beta2: float = 0.98, eps: float = 1e-8) -> None:
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.step = 0
        self.mean: Tensor | None = None
        self.square: Tensor | None = None

    def __call__(self, gradient: Tensor) -> Tensor:
        if self.mean is None or self.square is None:
            self.mean, self.square = torch.zeros_like(gradient), torch.zeros_like(gradient)
        self.step += 1
        self.mean.lerp_(gradient, 1 - self.beta1)
        self.square.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
        mean, square = self.mean / (1 - self.beta1**self.step), self.square / (1 - self.beta2**self.step)
        return mean / (square.sqrt() + self.eps)


class Momentum:
    """The direction of gradient descent with momentum: the sum of past gradients, each ``decay`` times the next."""

    def __init__(self, decay: float = 0.9) -> None:
        self.decay = decay
        self.sum: Tensor | None = None

    def __call__(self, gradient: Tensor) -> Tensor:
        self.sum = gradient.clone() if self.sum is None else self.sum.mul_(self.decay).add_(gradient)
        return self.sum


@dataclass(frozen=True)
class History:
    """What a training run of several models leaves behind: arrays ``(steps, copies)``."""

    losses: np.ndarray  # nats, on the batch of the step, before the update
    gradient_norms: np.ndarray  # before clipping


def token_losses(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return every model's mean cross-entropy (nats): logits ``(copies, N, T, V)``, next tokens ``(N, T)``."""
    copies = logits.shape[0]
    each = F.cross_entropy(logits.flatten(0, 2), tokens.flatten().repeat(copies), reduction="none")
    return each.view(copies, -1).mean(dim=1)


def token_batches(tokens: Tensor, length: int, size: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield ``steps`` batches of ``size`` windows of ``length`` + 1 tokens, drawn with replacement."""
    windows = tokens.unfold(0, length + 1, 1)
    for _ in range(steps):
        yield windows[torch.randint(len(windows), (size,), generator=generator)]


def train_language_models(
    stack: Stack,
    batches: Iterable[Tensor],
    learning_rate: Callable[[int], Tensor | float],
    direction: Callable[[Tensor], Tensor],
    clip: Tensor | float | None = None,
) -> History:
    """Train all models of a stack on the same batches ``(N, T + 1)`` of tokens; the stack's parameters change.

    ``learning_rate`` maps the step, from 1, to one number or one a model ``(copies,)``. ``direction`` is an
    :class:`Adam` or :class:`Momentum` of its own. With ``clip``, each model's gradient is scaled to at most that norm
    (one number or one a model; infinity for those that are not to be clipped). A model whose loss overflows does not
    disturb the others.
    """
    losses, norms = [], []
    for step, batch in enumerate(batches, start=1):
        loss = token_losses(stack(batch[:, :-1]), batch[:, 1:])
        (gradient,) = torch.autograd.grad(loss.sum(), stack.parameters)
        norm = gradient.norm(dim=1)
        losses.append(loss.detach())
        norms.append(norm)
        with torch.no_grad():
            if clip is not None:
                gradient *= (torch.as_tensor(clip) / norm).clamp(max=1.0).unsqueeze(1)
            rate = torch.as_tensor(learning_rate(step)).reshape(-1, 1)
            stack.parameters -= rate * direction(gradient)
    return History(torch.stack(losses).numpy(), torch.stack(norms).numpy())


def warm_up(rate: float, steps: int) -> Callable[[int], float]:
    """Return the schedule that rises linearly to ``rate`` over ``steps`` steps, then stays; 0: always ``rate``."""
    return lambda step: rate * min(1.0, step / steps) if steps else rate
