"""Models made faster in place: their norms keep weights, hooks and names, and compute with the kernels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lnorm.kernels import dispatch

_patched: dict[type, type] = {}  # from a class of norms to the subclass that computes with the kernels


class Patched:
    """Comes before a norm's own class in the method resolution order of what :func:`patch` has replaced."""

    original: type[nn.Module]

    def __reduce_ex__(
        self, protocol: Any
    ) -> tuple[Any, ...]:  # such classes cannot be imported, so say how to make one
        return _revive, (self.original,), self.__dict__


def _revive(original: Any) -> nn.Module:
    kind = _subclass(original)
    return kind.__new__(kind)


def _layer_norm(self: Any, x: Tensor) -> Tensor | None:
    shape, parameters = tuple(self.normalized_shape), (self.weight, self.bias)
    half = x.dtype in (torch.bfloat16, torch.float16)  # goes with gains of float32
    dtypes = {each.dtype for each in parameters if each is not None}
    if tuple(x.shape[-len(shape) :]) != shape or dtypes not in (set(), {x.dtype}, {torch.float32} if half else set()):
        return None
    return _call("layer_norm", x, len(shape), parameters, self.eps)


def _rms_norm(self: Any, x: Tensor) -> Tensor | None:
    shape = tuple(self.normalized_shape)
    if tuple(x.shape[-len(shape) :]) != shape or (self.weight is not None and self.weight.dtype != x.dtype):
        return None  # torch promotes to the wider type
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return _call("rms_norm", x, len(shape), (self.weight,), torch.finfo(wide).eps if self.eps is None else self.eps)


def _named_rms_norm(self: Any, x: Tensor) -> Tensor | None:
    if self.weight.dtype != x.dtype:  # some promote, some do not
        return None
    return _call("rms_norm", x, 1, (self.weight,), _eps(self))


def _rms_norm_around_one(self: Any, x: Tensor) -> Tensor | None:
    weight = self.weight  # added to one in float32, and rounded to the type of the rows at the end
    return _call("rms_norm", x, 1, (1 + (weight.float() if weight.dtype != torch.float64 else weight),), _eps(self))


def _call(norm: str, x: Tensor, axes: int, parameters: tuple[Tensor | None, ...], eps: float) -> Tensor | None:
    """Return the kernel's result, or None where the module's own code should run."""
    flat = tuple(None if each is None else each.reshape(-1) for each in parameters)
    given = [each for each in flat if each is not None]
    rows = x.reshape(*x.shape[: x.ndim - axes], -1) if x.is_floating_point() else x
    if not x.is_floating_point() or any(each.shape != rows.shape[-1:] for each in given):
        return None
    if dispatch._how(norm, rows, *flat) is None:
        return None
    y: Tensor = getattr(dispatch, norm)(rows, *flat, eps=eps)
    return y.view(x.shape)


def _eps(module: Any) -> float:
    for name in ("variance_epsilon", "eps", "epsilon"):
        value = getattr(module, name, None)
        if isinstance(value, (int, float)):
            return value
    raise AttributeError("no eps")


# RMSNorms of other packages, known by the name of their class. What their code does is tried out before it is replaced.
NAMED: dict[str, Callable[[Any, Tensor], Tensor | None]] = {
    "RMSNorm": _named_rms_norm,
    **{f"{t5}LayerNorm": _named_rms_norm for t5 in ["T5", "MT5", "UMT5", "LongT5"]},
    **{
        f"{model}RMSNorm": _named_rms_norm
        for model in (
            "Llama",
            "Mistral",
            "Mixtral",
            "Qwen2",
            "Qwen2Moe",
            "Qwen3",
            "Qwen3Moe",
            "Phi3",
            "Olmoe",
            "Olmo2",
            "DeepseekV2",
            "DeepseekV3",
            "Granite",
            "InternLM2",
            "Glm",
        )
    },
    **{f"{model}RMSNorm": _rms_norm_around_one for model in ["Gemma", "Gemma2", "Gemma3"]},
}
EXACT: dict[type, Callable[[Any, Tensor], Tensor | None]] = {nn.LayerNorm: _layer_norm, nn.RMSNorm: _rms_norm}


def patch(model: nn.Module) -> dict[str, str]:
    """Have the norms inside ``model`` compute with the kernels, and return their names and classes.

    Replaced are ``nn.LayerNorm``, ``nn.RMSNorm``, and the RMSNorms of other packages that are known by the name of
    their class, if a trial on random numbers gives what their own code gives. Modules stay the same objects, with
    their weights, hooks and ``state_dict``; only their class becomes a subclass of what it was. Where the kernel does
    not take an input, and under torch.compile, the module's own code runs. What is patched already is left alone.
    """
    replaced = {}
    for name, module in model.named_modules():
        original = type(module)
        if _how_of(original) is not None and _agrees(module):
            module.__class__ = _subclass(original)
            replaced[name] = original.__name__
    return replaced


def unpatch(model: nn.Module) -> dict[str, str]:
    """Undo :func:`patch`: return the names and classes of the norms that compute with their own code again."""
    restored = {}
    for name, module in model.named_modules():
        if isinstance(module, Patched):
            module.__class__ = module.original
            restored[name] = type(module).__name__
    return restored


def _how_of(kind: type) -> Callable[[Any, Tensor], Tensor | None] | None:
    return None if issubclass(kind, Patched) else EXACT.get(kind, NAMED.get(kind.__name__))


def _subclass(original: Any) -> Any:
    if original not in _patched:
        compute = _how_of(original)

        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            y = compute(self, args[0]) if compute and len(args) == 1 and not kwargs else None
            return original.forward(self, *args, **kwargs) if y is None else y

        _patched[original] = type(
            f"Patched{original.__name__}", (Patched, original), {"forward": forward, "original": original}
        )
    return _patched[original]


def _agrees(module: nn.Module) -> bool:
    """Whether the kernels compute what the module's own code does, on random numbers and with a random gain."""
    kind: Any = type(module)
    if kind in EXACT:
        return True
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 1 or weight.device.type != "cpu":
        return False
    generator = torch.Generator().manual_seed(0)
    x, gain = torch.randn(4, len(weight), generator=generator), torch.randn(len(weight), generator=generator)
    trial = kind.__new__(kind)  # the same module with another gain, and without hooks
    trial.__dict__ = {**module.__dict__, "_parameters": {**module._parameters, "weight": gain}}
    around_one = NAMED.get(kind.__name__) is _rms_norm_around_one
    try:
        with torch.no_grad():
            theirs = kind.forward(trial, x)
            ours = dispatch.rms_norm(x, 1 + gain if around_one else gain, _eps(module))
            return theirs.dtype == ours.dtype and torch.allclose(theirs, ours, rtol=1e-4, atol=1e-5)
    except Exception:  # whatever it does, it is not what we know
        return False
