"""Interrupts of the command line: the first Ctrl-C ends a command, and further ones do not break its clean-up."""

from __future__ import annotations

import signal
import sys
import threading
import time
from types import FrameType

__all__ = ["catch_interrupts", "ignore_interrupts"]

_PATIENCE = 15.0  # seconds of clean-up after which another interrupt ends it


class _Interrupts:
    """Handler of the signal: raises `KeyboardInterrupt`, unless an earlier one is being handled."""

    def __init__(self) -> None:
        self._began: float | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        # The exception that is handled in any of the running frames, such as in a `finally` block that removes files.
        is_ending = isinstance(sys.exc_info()[1], KeyboardInterrupt)
        if not is_ending:
            # Also if an earlier one was lost: Python ignores exceptions in callbacks such as `__del__`.
            self._began = time.monotonic()
            raise KeyboardInterrupt
        if self._began is not None and time.monotonic() - self._began > _PATIENCE:
            raise KeyboardInterrupt


def catch_interrupts() -> None:
    """Let the first Ctrl-C raise `KeyboardInterrupt`, and ignore further ones while it is handled.

    Nothing changes outside the main thread, and where the signal is ignored or has another handler.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _Interrupts())


def ignore_interrupts() -> None:
    """Ignore Ctrl-C from now on, as the command has ended, if `catch_interrupts` was called."""
    if isinstance(signal.getsignal(signal.SIGINT), _Interrupts):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
