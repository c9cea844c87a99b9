"""What holds while a student's answer runs: a time limit, and no call of what the exercise asks to write."""

import inspect
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lnorm.checks.forbidden import no_calls_of


class OutOfTimeError(BaseException):
    """The time is up. No Exception, so that a student's `except Exception` does not swallow it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTimeError in the block after ``seconds``, where the platform and the thread have a timer."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise OutOfTimeError(f"did not finish within {seconds:g} s; is there an endless loop?")

    start = time.monotonic()
    before = signal.signal(signal.SIGALRM, stop)
    outer, _ = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again every second: `except:` may swallow one
    try:
        yield
    finally:
        left = max(outer - (time.monotonic() - start), 1e-3) if outer else 0.0
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left)  # somebody else's timer goes on


@contextmanager
def guard(answer: Any, forbids: tuple[str, ...], seconds: float) -> Iterator[None]:
    """Hold the time limit and the list of forbidden calls over the block, in which ``answer`` runs."""
    with time_limit(seconds), no_calls_of(forbids, answer):
        yield


def signature_of(answer: Any) -> str:
    """Return `name(arguments)` of a student's function or class, without annotations; empty if it has none."""
    try:
        signature = inspect.signature(answer)
    except (TypeError, ValueError):
        return ""
    plain = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
    named = signature.replace(parameters=plain, return_annotation=signature.empty)
    return f"{getattr(answer, '__name__', 'answer')}{named}"
