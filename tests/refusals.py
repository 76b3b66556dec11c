"""Check that malformed input is refused with one line, in bounded time."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from kalmanssl.errors import InputError

LONGEST_MESSAGE = 600  # characters


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the block after so many seconds."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"no answer within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def assert_refused(call: Callable[[], object], match: str | None = None, seconds: float = 60.0) -> str:
    """Check that a call raises InputError with one line of readable length in time, and return the line.

    Parameters
    ----------
    call : callable
        The call with malformed input, without arguments.
    match : str, optional
        Regular expression that the message must contain, such as the name of the argument.
    seconds : float
        Time limit. Compilation of a kernel counts, on a busy machine.
    """
    with time_limit(seconds), pytest.raises(InputError, match=match) as refusal:
        call()
    line = str(refusal.value)
    assert line.strip(), "the message is empty"
    assert len(line.splitlines()) == 1, f"the message has several lines: {line!r}"
    assert len(line) <= LONGEST_MESSAGE, f"the message has {len(line)} characters: {line!r}"
    return line
