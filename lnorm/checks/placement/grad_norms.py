"""Exercise 7.7: the gradient of every layer, with the loss of one position."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, array
from lnorm.checks.tensors import tensor

SHAPES = {"visible": (2, 4, 5, 3, 3), "graded": (3, 5, 4, 6, 4)}  # examples, positions, features, classes, layers


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed + 707)
    n, t, d, classes, depth = SHAPES[level]

    def case(tests: str, layers: int, position: int, **more: Any) -> Case:
        weights = rng.uniform(0.5, 2.0, size=(layers, 1, 1)) * rng.normal(size=(layers, d, d)) / d**0.5
        model = {"weights": weights, "biases": rng.normal(size=(layers, d)), "head": rng.normal(size=(classes, d))}
        data = {"x": rng.normal(size=(n, t, d)), "labels": rng.integers(classes, size=(n, t)), "position": position}
        return Case(tests, {**model, **data, **more})

    return [
        case("one layer", 1, 1),
        case("several layers", depth, t - 2),
        case("several layers", depth + 2, 1),
        case("the first and the last position", depth, 0),
        case("the first and the last position", depth, t - 1),
        case("gradients that are there already", depth, 1, asks="before"),
        case("called twice", depth, 2, asks="twice"),
        case("leaves the weights alone", 2, 1, asks="weights"),
    ]


def _model(inputs: Inputs) -> Any:
    """Return a residual network whose tokens look at those before them: ``(N, T, features)`` to logits."""
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self, layers: int, features: int, classes: int) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Linear(features, features) for _ in range(layers))
            self.head = nn.Linear(features, classes, bias=False)

        def forward(self, x: Any) -> Any:
            counts = torch.arange(1, x.shape[1] + 1, dtype=x.dtype).unsqueeze(-1)
            for block in self.blocks:
                x = x + torch.tanh(block(x))
                x = x + x.cumsum(dim=1) / counts  # the mean of all positions up to this one
            return self.head(x)

    layers, features, _ = inputs["weights"].shape
    model = Model(layers, features, len(inputs["head"])).double()
    with torch.no_grad():
        model.head.weight.copy_(tensor(inputs["head"]))
        for block, weight, bias in zip(model.blocks, inputs["weights"], inputs["biases"], strict=True):
            block.weight.copy_(tensor(weight))
            block.bias.copy_(tensor(bias))
    if inputs.get("asks") == "before":
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
    return model


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    model, x, labels = _model(inputs), tensor(inputs["x"]), tensor(inputs["labels"])
    asks = inputs.get("asks")
    out = {"norms": array("norms", answer(model, x, labels, inputs["position"]))}
    if asks == "twice":
        out["norms of the second call"] = array("norms", answer(model, x, labels, inputs["position"]))
    if asks == "weights":
        found = [parameter.detach().numpy().ravel() for parameter in model.parameters()]
        out["the parameters after the call"] = np.concatenate(found)
    return out


def _cross_entropy(logits: Any, labels: Any, position: int) -> Any:
    from torch.nn import functional as F

    return F.cross_entropy(logits[:, position], labels[:, position])


def _norms(
    loss: Callable[[Any, Any, int], Any] = _cross_entropy,
    size: Callable[[Any], Any] = lambda g: g.norm(),
    of: Callable[[Any], Any] = lambda block: block.weight,
) -> Answer:
    """Return an answer that measures the gradient of ``loss(logits, labels, position)`` by ``size``."""

    def grad_norms(model: Any, x: Any, labels: Any, position: int) -> Any:
        import torch

        weights = [of(block) for block in model.blocks]
        gradients = torch.autograd.grad(loss(model(x), labels, position), weights)
        return np.array([float(size(gradient)) for gradient in gradients])

    return grad_norms


_solution = _norms()


def _all_positions(logits: Any, labels: Any, position: int) -> Any:
    from torch.nn import functional as F

    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def _summed(logits: Any, labels: Any, position: int) -> Any:
    return len(logits) * _cross_entropy(logits, labels, position)


def _one_example(logits: Any, labels: Any, position: int) -> Any:
    return _cross_entropy(logits[:1], labels[:1], position)


def _squared(logits: Any, labels: Any, position: int) -> Any:
    from torch.nn import functional as F

    wanted = F.one_hot(labels[:, position], logits.shape[-1]).to(logits.dtype)
    return F.mse_loss(logits[:, position], wanted)


def _softmax_twice(logits: Any, labels: Any, position: int) -> Any:
    return _cross_entropy(logits.softmax(dim=-1), labels, position)


def _wrong_label(logits: Any, labels: Any, position: int) -> Any:
    from torch.nn import functional as F

    return F.cross_entropy(logits[:, position], labels[:, 0])


def _wrong_example(logits: Any, labels: Any, position: int) -> Any:
    from torch.nn import functional as F

    return F.cross_entropy(logits[position % len(logits)], labels[position % len(labels)])


def _sum_of_logits(logits: Any, labels: Any, position: int) -> Any:
    return logits[:, position].sum(dim=-1).mean()


def _at(choose: Callable[[int, int], int]) -> Answer:
    """Return an answer that takes the position ``choose(position, positions)``."""

    def loss(logits: Any, labels: Any, position: int) -> Any:
        return _cross_entropy(logits, labels, choose(position, logits.shape[1]))

    return _norms(loss)


def _backward(model: Any, x: Any, labels: Any, position: int) -> None:
    _cross_entropy(model(x), labels, position).backward()


def _accumulates(model: Any, x: Any, labels: Any, position: int) -> Any:
    _backward(model, x, labels, position)
    return np.array([float(block.weight.grad.norm()) for block in model.blocks])


def _clears_afterwards(model: Any, x: Any, labels: Any, position: int) -> Any:
    found = _accumulates(model, x, labels, position)
    model.zero_grad()
    return found


def _bias_included(model: Any, x: Any, labels: Any, position: int) -> Any:
    model.zero_grad()
    _backward(model, x, labels, position)
    return np.array([float(sum(p.grad.square().sum() for p in block.parameters()) ** 0.5) for block in model.blocks])


def _descends(model: Any, x: Any, labels: Any, position: int) -> Any:
    import torch

    found = _solution(model, x, labels, position)
    model.zero_grad()
    _backward(model, x, labels, position)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    return found


GRAD_NORMS = Exercise(
    name="grad_norms",
    signature="grad_norms(model, x, labels, position)",
    properties={
        "one layer": 1,
        "several layers": 2,
        "the first and the last position": 1,
        "gradients that are there already": 2,
        "called twice": 1,
        "leaves the weights alone": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_solution,
    mistakes={
        "new gradients are added to those that are there: nothing sets them to zero": _accumulates,
        "the gradients are set to zero after the measurement, not before it": _clears_afterwards,
        "the loss of all positions": _norms(_all_positions),
        "the sum over the examples in place of their mean": _norms(_summed),
        "the first example only": _norms(_one_example),
        "positions counted from 1": _at(lambda position, positions: (position - 1) % positions),
        "the next position": _at(lambda position, positions: (position + 1) % positions),
        "always the last position": _at(lambda position, positions: positions - 1),
        "always the first position": _at(lambda position, positions: 0),
        "the label of the first position": _norms(_wrong_label),
        "one example in place of one position: the axes are swapped": _norms(_wrong_example),
        "a softmax before the cross-entropy, which has its own": _norms(_softmax_twice),
        "squared error in place of cross-entropy": _norms(_squared),
        "the sum of the logits in place of a loss": _norms(_sum_of_logits),
        "the square of the norm": _norms(size=lambda g: g.square().sum()),
        "the root of the mean square": _norms(size=lambda g: g.square().mean().sqrt()),
        "the largest entry": _norms(size=lambda g: g.abs().max()),
        "the sum of absolute values": _norms(size=lambda g: g.abs().sum()),
        "the largest singular value": _norms(size=lambda g: g.svd().S[0]),
        "the bias is counted with the weight": _bias_included,
        "the bias in place of the weight": _norms(of=lambda block: block.bias),
        "the norm of the weight, not of its gradient": lambda model, x, labels, position: np.array(
            [float(block.weight.detach().norm()) for block in model.blocks]
        ),
        "the layers from the last to the first": lambda *args: _solution(*args)[::-1],
        "one norm for the whole model": lambda *args: np.linalg.norm(_solution(*args)),
        "divided by the largest": lambda *args: _solution(*args) / _solution(*args).max(),
        "a step of gradient descent is taken as well": _descends,
    },
)
