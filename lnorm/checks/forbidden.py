"""Calls that an exercise forbids: what it asks to write.

Python reports every call to a profile function. Ours looks for the forbidden functions themselves, so that it does not
matter when and under which name they were imported, and nothing has to be patched or put back. Only calls that come
from the student's own code count: a check may build a torch.nn.LayerNorm and hand it over.
"""

import functools
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class ForbiddenCallError(Exception):
    """The student's code calls what the exercise asks to write."""

    def __init__(self, name: str) -> None:
        super().__init__(f"calls {name}, which this exercise asks you to write")


@contextmanager
def no_calls_of(names: tuple[str, ...], answer: Any) -> Iterator[None]:
    """Raise ForbiddenCallError when ``answer`` calls one of ``names`` in the block, however deep.

    ``names`` are dotted: ``"torch.nn.LayerNorm"``. Modules that are not loaded are not loaded for this. An error that
    the student's code catches is raised again at the end.
    """
    if not names:
        yield
        return
    answer = _unwrapped(answer)
    for name in names:
        if answer is not None and answer is _unwrapped(_named(name)):
            raise ForbiddenCallError(name)

    own = _globals_of(answer)
    candidates = {name.rpartition(".")[2] for name in names} | {"__init__", "forward"}
    found: list[str] = []

    def watch(frame: FrameType, event: str, callee: Any) -> None:
        if event == "call" and frame.f_code.co_name in candidates:
            caller = frame.f_back
        elif event == "c_call" and getattr(callee, "__name__", "") in candidates:
            caller = frame
        else:
            return
        for name in names:
            is_it = _enters(frame, _named(name)) if event == "call" else _is_builtin(callee, _named(name))
            if is_it and _is_called_from(caller, own):
                found.append(name)
                raise ForbiddenCallError(name)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(before)
        if found and not isinstance(sys.exception(), ForbiddenCallError):
            raise ForbiddenCallError(found[0])


def _named(name: str) -> Any:
    """Return what a dotted name stands for, None if its package is not loaded or has no such thing."""
    root, *rest = name.split(".")
    found: Any = sys.modules.get(root)
    for attribute in rest:
        found = getattr(found, attribute, None)
    return found


def _unwrapped(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "py_func", function)  # numba's
    return inspect.unwrap(getattr(function, "__func__", function))


def _enters(frame: FrameType, target: Any) -> bool:
    """Return whether the frame is a call of ``target``: of its code or, for a class, of one of its instances."""
    if isinstance(target, type):
        arguments = frame.f_code.co_varnames[:1]
        return bool(arguments) and isinstance(frame.f_locals.get(arguments[0]), target)
    return target is not None and frame.f_code is getattr(_unwrapped(target), "__code__", None)


def _is_builtin(callee: Any, target: Any) -> bool:
    """Return whether the built-in function is ``target``, or ``target``, say torch.Tensor.var, bound to an object."""
    if callee == target:
        return True
    owner = getattr(target, "__objclass__", None)
    return owner is not None and callee.__name__ == target.__name__ and isinstance(callee.__self__, owner)


def _globals_of(answer: Any) -> Any:
    """Return the namespace in which the student's code was defined: their notebook."""
    if isinstance(answer, type) or not hasattr(answer, "__globals__"):
        return vars(sys.modules.get(getattr(answer, "__module__", None) or "__main__", sys.modules["__main__"]))
    return answer.__globals__


def _is_called_from(frame: FrameType | None, own: Any) -> bool:
    """Return whether code of the namespace ``own`` is among the callers, up to the one that runs the check."""
    while frame is not None and frame.f_globals.get("__name__") != "lnorm.checks.exercise":
        if frame.f_globals is own:
            return True
        frame = frame.f_back
    return False
