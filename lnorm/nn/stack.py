"""Models of one architecture run side by side, so that a sweep costs little more than one run."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel


class Stack:
    """``copies`` models of one architecture without buffers, with all parameters in one tensor ``(copies, P)``.

    ``stack(x)`` gives every model the same ``x`` and returns their outputs, ``(copies, ...)``; ``each=True`` splits the
    first axis of ``x`` among them. ``parameters`` is the tensor to differentiate with respect to, and to update.
    The models must not draw random numbers in their forward pass. Raises ValueError for models that differ in shape.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        named = [dict(model.named_parameters()) for model in models]
        self.shapes = {name: value.shape for name, value in named[0].items()}
        for index, each in enumerate(named):
            if {name: value.shape for name, value in each.items()} != self.shapes:
                raise ValueError(f"models: expected parameters of the same shapes, model {index} differs from model 0")
        self.models = list(models)
        flat = [torch.cat([value.detach().flatten() for value in each.values()]) for each in named]
        self.parameters = torch.stack(flat).requires_grad_()
        self._skeleton = copy.deepcopy(models[0])

    def __len__(self) -> int:
        return len(self.models)

    def __call__(self, x: Tensor, *, each: bool = False) -> Tensor:
        def forward(flat: Tensor, x: Tensor) -> Any:
            return functional_call(self._skeleton, self._unflatten(flat), (x,))

        with sdpa_kernel(SDPBackend.MATH):  # the fused attention kernels cannot be stacked
            return vmap(forward, in_dims=(0, 0 if each else None))(self.parameters, x)

    def write_back(self) -> None:
        """Copy the parameters into the models that the stack was made from."""
        for model, flat in zip(self.models, self.parameters.detach(), strict=True):
            for name, value in self._unflatten(flat).items():
                model.get_parameter(name).data.copy_(value)

    def _unflatten(self, flat: Tensor) -> dict[str, Tensor]:
        parts = flat.split([shape.numel() for shape in self.shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}
