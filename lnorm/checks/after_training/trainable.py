"""Exercise 13.2: the parameters that a way of fine-tuning trains."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from lnorm.checks.exercise import Answer, Case, Exercise, Inputs, Level, Outputs, UnusableError

METHODS = {"head": "the head", "norms": "the norms", "lora": "LoRA", "both": "LoRA and norms", "all": "all but LoRA"}
FACTORS = ("down", "up")


def _model(kind: str, width: int) -> Any:
    """Return a small model that is never run: "plain", "deep", "batch", "odd" or "shared"."""
    import torch
    from torch import nn

    class LowRank(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(width, width)
            self.down = nn.Parameter(torch.zeros(2, width))
            self.up = nn.Parameter(torch.zeros(width, 2))

    class Block(nn.Module):
        def __init__(self, norm: Any) -> None:
            super().__init__()
            self.first, self.second = norm(width), norm(width)
            self.query, self.value = LowRank(), LowRank()
            self.mlp = nn.ModuleDict({"up": nn.Linear(width, 2 * width), "down": nn.Linear(2 * width, width)})

    model = nn.Module()
    model.embedding = nn.Embedding(5, width)
    norm = {"batch": nn.BatchNorm1d, "deep": nn.RMSNorm}.get(kind, nn.LayerNorm)
    model.blocks = nn.ModuleList(Block(norm) for _ in range(1 if kind == "plain" else 2))
    model.final = norm(width)
    model.head = nn.Linear(width, 5)
    if kind == "odd":  # names and shapes that mislead, and a norm without parameters
        model.norm_gate = nn.Linear(width, width)
        model.bare = nn.LayerNorm(width, elementwise_affine=False)
        model.image = nn.LayerNorm((2, width))
    if kind == "shared":
        model.blocks[1].first = model.blocks[0].first
        model.head.weight = model.embedding.weight
    return model


def _cases(seed: int, level: Level) -> list[Case]:
    rng = np.random.default_rng(seed)

    def case(tests: str, kind: str, method: str) -> Case:
        return Case(tests, {"kind": kind, "width": int(rng.integers(3, 9)), "method": method})

    kinds = ("plain", "batch") if level == "visible" else ("plain", "deep", "batch", "odd")
    return [
        *(case(METHODS[method], kind, method) for method in METHODS for kind in kinds),
        *(case("a shared parameter once", "shared", method) for method in ("norms", "all")),
    ]


def _probe(answer: Answer, inputs: Inputs) -> Outputs:
    import torch

    model = _model(inputs["kind"], inputs["width"])
    found = answer(model, inputs["method"])
    if found is None or isinstance(found, (str, torch.Tensor)) or not isinstance(found, Iterable):
        raise UnusableError(f"expected a list of parameters, got {type(found).__name__}")
    listed = list(found)
    for each in listed:
        if each is not None and not isinstance(each, torch.Tensor):
            raise UnusableError(f"expected a list of parameters, got a list with {type(each).__name__} in it")
    parameters = {id(p) for p in model.parameters()}
    return {
        "times listed": np.array([sum(each is p for each in listed) for p in model.parameters()]),
        "others": np.array(sum(id(each) not in parameters for each in listed)),
    }


def _verify(case: Case, outputs: Outputs) -> str:
    right = _probe(_trained(), case.inputs)["times listed"]
    came, others = outputs["times listed"], int(outputs["others"])
    if missing := int(np.sum((came == 0) & (right == 1))):
        return f"{missing} parameters are missing from the list"
    if surplus := int(np.sum((came > 0) & (right == 0))):
        return f"{surplus} parameters are listed that this method does not train"
    if others:
        return f"{others} things are listed that are no parameters of the model: buffers, or None?"
    return "a parameter is listed more than once" if np.any(came > 1) else ""


def _trained(
    *,
    is_norm: Any = None,
    own: Any = lambda module: module.parameters(recurse=False),
    is_factor: Any = lambda name: name.split(".")[-1] in FACTORS,
    in_all: Any = None,
    head: Any = lambda model: model.head.parameters(),
    both: Any = lambda norms, lora: norms + lora,
    modules: Any = lambda model: model.modules(),
) -> Answer:
    """Return an answer made of these parts; by default the right one."""

    def trainable_parameters(model: Any, method: str) -> list[Any]:
        from torch import nn

        kinds = (nn.LayerNorm, nn.RMSNorm, nn.BatchNorm1d)
        norms = [p for m in modules(model) if (is_norm or (lambda m: isinstance(m, kinds)))(m) for p in own(m)]
        lora = [p for name, p in model.named_parameters() if is_factor(name)]
        every = [p for name, p in model.named_parameters() if (in_all or (lambda name: not is_factor(name)))(name)]
        return {"head": list(head(model)), "norms": norms, "lora": lora, "both": both(norms, lora), "all": every}[
            method
        ]

    return trainable_parameters


def _changed(method: str, listed: Any) -> Answer:
    """Return the right answer but for what is listed for some methods, a function of model and the right list."""

    def trainable_parameters(model: Any, asked: str) -> list[Any]:
        right = _trained()(model, asked)
        return listed(model, right) if asked in method.split() else right

    return trainable_parameters


def _is_layer_norm(module: Any) -> bool:
    from torch import nn

    return isinstance(module, nn.LayerNorm)


def _gain_alone(module: Any) -> list[Any]:
    return [] if module.weight is None else [module.weight]


def _lora_modules(model: Any) -> list[Any]:
    return [p for m in model.modules() if hasattr(m, "down") and hasattr(m, "up") for p in m.parameters()]


TRAINABLE_PARAMETERS = Exercise(
    name="trainable_parameters",
    signature="trainable_parameters(model, method)",
    properties={
        "the head": 1,
        "the norms": 3,
        "LoRA": 2,
        "LoRA and norms": 1,
        "all but LoRA": 1,
        "a shared parameter once": 1,
    },
    cases=_cases,
    probe=_probe,
    solution=_trained(),
    verify=_verify,
    forbids=("lnorm.nn.norm_parameters", "lnorm.experiments.fine_tuning.chosen"),
    mistakes={
        "everything with one axis, the biases of linear layers included": _changed(
            "norms", lambda model, right: [p for p in model.parameters() if p.ndim == 1]
        ),
        "the biases of the linear layers too": _changed(
            "norms both",
            lambda model, right: [
                *right,
                *(m.bias for m in model.modules() if hasattr(m, "in_features") and m.bias is not None),
            ],
        ),
        "norms found by “norm” in their names": _changed(
            "norms", lambda model, right: [p for name, p in model.named_parameters() if "norm" in name]
        ),
        "BatchNorm's running statistics, which are buffers and no parameters": _trained(
            own=lambda m: [*m.parameters(recurse=False), *m.buffers(recurse=False)]
        ),
        "gains without biases": _trained(own=_gain_alone),
        "LayerNorm alone: RMSNorm and BatchNorm forgotten": _trained(is_norm=_is_layer_norm),
        "only the modules directly below the model, not those inside blocks": _trained(
            modules=lambda model: model.children()
        ),
        "“up” or “down” anywhere in the name: the MLP's matrices too": _trained(
            is_factor=lambda name: "up" in name or "down" in name
        ),
        "all parameters of a layer with LoRA, its frozen weight and bias included": _changed(
            "lora both",
            lambda model, right: [*right, *(p for p in _lora_modules(model) if all(p is not q for q in right))],
        ),
        "`up` alone, without `down`": _trained(
            is_factor=lambda name: name.split(".")[-1] == "up", in_all=lambda name: name.split(".")[-1] not in FACTORS
        ),
        "LoRA's factors in “all”": _trained(in_all=lambda name: True),
        "norms left out of “all”": _changed(
            "all", lambda model, right: [p for p in right if all(p is not q for q in _trained()(model, "norms"))]
        ),
        "the head's bias forgotten": _trained(head=lambda model: [model.head.weight]),
        "the last norm taken for a part of the head": _trained(
            head=lambda model: [*model.final.parameters(), *model.head.parameters()]
        ),
        "“both” without LoRA": _trained(both=lambda norms, lora: norms),
        "a shared parameter listed once for every place where it is used": _changed(
            "norms all",
            lambda model, right: [
                p for _, p in model.named_parameters(remove_duplicate=False) if any(p is q for q in right)
            ],
        ),
        "None for norms that have no gain": _trained(
            own=lambda m: [m.weight, *([m.bias] if hasattr(m, "bias") else [])]
        ),
    },
)
