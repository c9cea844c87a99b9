"""What an answer gave: plain arrays by name, or what went wrong; and how two of them differ."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Level = Literal["visible", "graded"]
Outputs = Mapping[str, np.ndarray]  # arrays by name
LONGEST = 300  # characters of an error's own text


class UnusableError(TypeError):
    """An answer returned something that is no array of numbers."""


@dataclass(frozen=True)
class Failure:
    """What is left when an answer raised an error or returned something that is no array: plain text."""

    kind: str  # the name of the exception
    message: str = ""  # our words
    said: str = ""  # the error's own text, which the student's code may have written
    line: str = ""  # the student's line

    def text(self, level: Level) -> str:
        """Return what to tell. On graded cases without any digit of the error's text: it might quote the case."""
        said = " ".join(self.said.split())[:LONGEST]
        if level == "graded":
            said = re.sub(r"[-+]?[\d.]*\d(e[-+]?\d+)?", "#", said)[:100]
        text = self.message or (f"{self.kind}: {said}" if said else self.kind)
        return text + (f", in your line `{self.line}`" if self.line else "")


def array(name: str, value: Any) -> np.ndarray:
    """Return what an answer returned, also a torch tensor, as a plain array; UnusableError that says what came."""
    if value is None:
        raise UnusableError(f"{name}: expected an array, got None; is there a `return`?")
    try:
        result = np.asarray(_out_of_torch(value))
    except Exception:
        raise UnusableError(f"{name}: expected an array, got {type(value).__name__}") from None
    if result.dtype.kind not in "fiub":
        raise UnusableError(f"{name}: expected an array of numbers, got {type(value).__name__}")
    return np.array(result)  # a plain copy: no subclass, no memory shared with the student's code


def arrays(names: tuple[str, ...], value: Any) -> dict[str, np.ndarray]:
    """Return a tuple that an answer returned as named plain arrays; UnusableError that says what came."""
    if not isinstance(value, (tuple, list)) or len(value) != len(names):
        came = f"{len(value)} values" if isinstance(value, (tuple, list)) else type(value).__name__
        raise UnusableError(f"expected {len(names)} return values ({', '.join(names)}), got {came}")
    return {name: array(name, each) for name, each in zip(names, value, strict=True)}


def difference(expected: Outputs, outputs: Outputs, tolerance: float, *, show_values: bool = False) -> str:
    """Say how ``outputs`` differ from ``expected``: name, shape, first place, size of the error. Empty if they agree.

    The error that is allowed is ``tolerance`` times the largest right value, or times 1 if that is larger.
    """
    for name, right in expected.items():
        came = outputs[name]
        if came.shape != right.shape:
            return f"{name} has shape {came.shape}, expected {right.shape}"
        allowed = tolerance * max(1.0, float(np.max(np.abs(right), initial=0.0, where=np.isfinite(right))))
        with np.errstate(invalid="ignore"):
            error = np.abs(came.astype(float) - right)
        # NaN is never within the tolerance; it agrees only with NaN, and only mistakes expect that.
        wrong = ~((error <= allowed) | (came == right) | (np.isnan(came) & np.isnan(right)))
        if wrong.any():
            largest = error.max(where=np.isfinite(error), initial=0.0)
            first = tuple(int(i) for i in np.argwhere(wrong)[0])
            place = f" at {name}[{', '.join(map(str, first))}]" if first else ""
            values = f": got {came[first]:.5g}, expected {right[first]:.5g}" if show_values else ""
            if (bad := ~np.isfinite(came) & np.isfinite(right)).any():
                return f"{name} contains {int(bad.sum())} values that are not finite, of {wrong.size}"
            return (
                f"{name} is off by up to {largest:.2g} (allowed {allowed:.1g}) in {int(wrong.sum())} of "
                f"{wrong.size} places" + (f", first{place}{values}" if place else values)
            )
    return ""


def same(one: Outputs | Failure, other: Outputs | Failure, tolerance: float) -> bool:
    """Return whether two answers gave the same: the same arrays, or an error of the same kind."""
    if isinstance(one, Failure) or isinstance(other, Failure):
        return isinstance(one, Failure) and isinstance(other, Failure) and one.kind == other.kind
    return one.keys() == other.keys() and not difference(one, other, tolerance)


def _out_of_torch(value: Any) -> Any:
    """Return a torch tensor as an array; NumPy knows no bfloat16. Recognized by its methods: torch is not imported."""
    if not (hasattr(value, "detach") and hasattr(value, "cpu")):
        return value
    value = value.detach().cpu()
    return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
