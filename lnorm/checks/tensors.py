"""For probes of exercises in PyTorch: from arrays to tensors and modules, and back.

Cases hold NumPy arrays only; a probe makes tensors of them, runs the answer and returns arrays. torch is imported in
the functions that need it, so that exercises in NumPy do without.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lnorm.checks.outputs import UnusableError, array


def tensor(values: Any, *, requires_grad: bool = False, dtype: str | None = None) -> Any:
    """Return a new tensor of the array's values and dtype, or of torch's ``dtype``, say ``"bfloat16"``."""
    import torch

    made = torch.tensor(np.ascontiguousarray(values), dtype=getattr(torch, dtype) if dtype else None)
    return made.requires_grad_(requires_grad)


def with_gradients(
    function: Callable[..., Any], inputs: Mapping[str, np.ndarray], dy: np.ndarray
) -> dict[str, np.ndarray]:
    """Call ``function(*inputs)`` on tensors and go back from ``dy``: return y and the gradient d<name> of every input.

    An input that got no gradient has the gradient 0.
    """
    tensors = {name: tensor(values, requires_grad=True) for name, values in inputs.items()}
    y = _as_tensor("y", function(*tensors.values()))
    _go_back(y, dy)
    return {"y": array("y", y)} | {f"d{name}": _gradient(name, each) for name, each in tensors.items()}


def module_with_gradients(module: Any, x: np.ndarray, dy: np.ndarray) -> dict[str, np.ndarray]:
    """Call a module on ``x`` and go back from ``dy``: return y, dx and the gradient d<name> of every parameter."""
    t = tensor(x, requires_grad=True)
    y = _as_tensor("y", module(t))
    module.zero_grad()
    _go_back(y, dy)
    return {"y": array("y", y), "dx": _gradient("x", t)} | {
        f"d{name}": _gradient(name, parameter) for name, parameter in module.named_parameters()
    }


def set_state(module: Any, **values: np.ndarray) -> Any:
    """Copy arrays into parameters and buffers of ``module`` by name (``__`` for a dot), and return it.

    UnusableError says which names the module has if one is missing, or which shape if it does not fit.
    """
    import torch

    has = dict(module.named_parameters()) | dict(module.named_buffers())
    for name, value in values.items():
        name = name.replace("__", ".")
        if name not in has:
            raise UnusableError(f"the module has no parameter or buffer `{name}`; it has: {', '.join(has) or 'none'}")
        if tuple(has[name].shape) != np.shape(value):
            raise UnusableError(f"{name} has shape {tuple(has[name].shape)}, expected {np.shape(value)}")
        with torch.no_grad():
            has[name].copy_(tensor(value))
    return module


def state(module: Any) -> dict[str, np.ndarray]:
    """Return all parameters and buffers of a module as arrays."""
    return {name: array(name, each) for name, each in (*module.named_parameters(), *module.named_buffers())}


def _as_tensor(name: str, value: Any) -> Any:
    import torch

    if not isinstance(value, torch.Tensor):
        raise UnusableError(f"{name}: expected a tensor, got {type(value).__name__}")
    return value


def _go_back(y: Any, dy: np.ndarray) -> None:
    if tuple(y.shape) != dy.shape:
        raise UnusableError(f"y has shape {tuple(y.shape)}, expected {dy.shape}")
    if not y.requires_grad:
        raise UnusableError("y carries no gradient: was it detached, or computed outside torch?")
    y.backward(tensor(dy).to(y.dtype))


def _gradient(name: str, each: Any) -> np.ndarray:
    return np.zeros(tuple(each.shape)) if each.grad is None else array(f"d{name}", each.grad)
