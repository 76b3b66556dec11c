"""Locks on files and folders, which end with the process that holds them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kalmanssl.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["HAS_LOCKS", "locked", "release_lock", "take_lock"]

HAS_LOCKS = fcntl is not None


@contextmanager
def locked(path: Path, refusal: str) -> Iterator[None]:
    """Hold the only lock on a file or folder inside the block. The lock ends with the process, however it ends.

    Parameters
    ----------
    path : Path
        It must exist.
    refusal : str
        Message if another process, or another block in this process, holds the lock.

    Raises
    ------
    InputError
        With the message `refusal`.
    """
    lock = take_lock(path)
    if lock is None:
        raise InputError(refusal)
    try:
        yield
    finally:
        release_lock(lock)


def take_lock(path: Path) -> int | None:
    """Lock a file or folder and return the open file that holds the lock; None if it is locked or was removed.

    -1 on systems without such locks.
    """
    if fcntl is None:
        return -1
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(path).st_ino == os.fstat(file).st_ino:  # otherwise the path was replaced meanwhile
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:  # a file system without locks
        return file
    os.close(file)
    return None


def release_lock(lock: int) -> None:
    """End a lock."""
    if lock >= 0:
        os.close(lock)
