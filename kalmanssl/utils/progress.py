"""Progress of long work: the work reports its share, and whoever shows progress listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["COMPILING", "listen_to_progress", "progress_part", "report_progress"]

COMPILING = "compiling, only at the first use on this machine"  # what the user reads meanwhile

_LISTENER: ContextVar[Callable[[float], None] | None] = ContextVar("progress listener", default=None)


@contextmanager
def listen_to_progress(listener: Callable[[float], None]) -> Iterator[None]:
    """Inside the block, call `listener` with every share of the work that is reported, from 0 to 1."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


@contextmanager
def progress_part(start: float, stop: float) -> Iterator[None]:
    """Inside the block, reported shares are those of a part of the work, which begins and ends at these shares."""
    listener = _LISTENER.get()
    if listener is None:
        yield
        return
    with listen_to_progress(lambda share: listener(start + share * (stop - start))):
        yield
    listener(stop)


def report_progress(share: float) -> None:
    """Report the share of the work that is done; without a listener nothing happens."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(share)
