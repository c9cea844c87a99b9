"""What the tests of lnorm.kernels share: the four operators, float64 truth, and how to reach the kernel at any size."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from lnorm import kernels, reference
from lnorm.kernels import dispatch


@pytest.fixture
def every_size(monkeypatch):
    """Send small tensors to the kernel, too."""
    for least in ("LEAST", "LEAST_DIRECT"):
        monkeypatch.setattr(dispatch, least, dict.fromkeys(getattr(dispatch, least), 0))


def numbers(*shape, seed=0, offset=0.0, scale=1.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1000 * seed + len(shape))
    return (offset + scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(dtype)


@dataclass(frozen=True)
class Operator:
    name: str
    norm: str
    adds: bool

    @property
    def call(self) -> Any:
        return getattr(kernels, self.name)

    @property
    def affine(self) -> int:
        return 2 if self.norm == "layer_norm" else 1

    def inputs(self, *shape, dtype=torch.float32, **data):
        arrays = [numbers(*shape, dtype=dtype, **data)]
        if self.adds:
            arrays.append(numbers(*shape, seed=1, dtype=dtype))
        return arrays + [numbers(*shape[-1:], seed=2 + i, offset=1.0, dtype=dtype) for i in range(self.affine)]

    def cotangents(self, *shape, dtype=torch.float32):
        return [numbers(*shape, seed=8 + i, dtype=dtype) for i in range(1 + self.adds)]

    def values(self, inputs, cotangents):
        """Outputs and gradients of the operator."""
        leaves = [each.detach().requires_grad_() for each in inputs]
        outputs = self.call(*leaves)
        outputs = outputs if self.adds else (outputs,)
        return [each.detach() for each in outputs], list(torch.autograd.grad(outputs, leaves, cotangents))

    def truth(self, inputs, cotangents):
        """The same from lnorm.reference in float64."""
        arrays = [each.detach().to(torch.float64).numpy() for each in inputs]
        dy, *dtotal = [each.to(torch.float64).numpy() for each in cotangents]
        x = arrays[0]
        if self.adds:  # the sum as the operator rounds it: what follows is the norm's own error
            x = (inputs[0] + inputs[1]).detach().to(torch.float64).numpy()
        eps = 1e-5 if self.norm == "layer_norm" else 1e-6
        y, cache = getattr(reference, self.norm)(x, x.shape[-1], *arrays[1 + self.adds :], eps=eps)
        dx, *gradients = getattr(reference, f"{self.norm}_backward")(dy, cache)
        if self.adds:
            dx = dx + dtotal[0]
            return [y, x], [dx, dx, *gradients]
        return [y], [dx, *gradients]


OPERATORS = [
    Operator("layer_norm", "layer_norm", False),
    Operator("rms_norm", "rms_norm", False),
    Operator("add_layer_norm", "layer_norm", True),
    Operator("add_rms_norm", "rms_norm", True),
]
every_operator = pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.name)


def relative_error(ours, right):
    """Length of the difference over the length of the truth."""
    ours, size = np.asarray(ours.to(torch.float64)), np.linalg.norm(right)
    return np.linalg.norm(ours - right) / size if size else np.abs(ours).max(initial=0)
