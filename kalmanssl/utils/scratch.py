"""Paths that users give, locks on folders, and temporary folders beside the files that they replace."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kalmanssl.errors import InputError, first_line

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["as_path", "locked", "make_folder", "scratch_folder"]


def as_path(name: str, value: Any) -> Path:
    """Return an argument as a path; raise `InputError` if no file system can have a file of this name."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise InputError(f"{name} must be a path, got {type(value).__name__}", parameter=name)
    text = os.fspath(value)
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise InputError(f"{name} has characters that file names cannot have: {text!a:.80}", parameter=name) from None
    if not text or "\0" in text:
        raise InputError(f"{name} must be a path, got {text!a:.80}", parameter=name)
    return Path(value)


def make_folder(name: str, value: Any) -> Path:
    """Create the folder that an argument names, if it does not exist, and check that files can be written there."""
    folder = as_path(name, value)
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{name} must be a folder, but {folder} is a file", parameter=name)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        message = f"{name}: no files can be written in {str(folder)[:200]} ({error.strerror}): choose another folder"
        raise InputError(message, parameter=name) from error
    return folder


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
    lock = _lock(path)
    if lock is None:
        raise InputError(refusal)
    try:
        yield
    finally:
        _unlock(lock)


def _lock(path: Path) -> int | None:
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


@contextmanager
def scratch_folder(target: Path) -> Iterator[tuple[Path, Path]]:
    """Create a temporary folder beside `target`, which is removed after the block.

    Temporary folders of processes that were killed are removed, too. If such a process had already put the old version
    of `target` there and not yet its new one, the old version is moved back.

    Yields
    ------
    (new, old)
        Paths for the new and the old version of `target` in the temporary folder, whose parents exist.

    Raises
    ------
    InputError
        If the folder cannot be created.
    """
    # Long names, to which a random suffix is added, would exceed the limit of the file system.
    prefix = f".{target.name[:40]}-"
    lock = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for stale in target.parent.glob(f"{_escaped(prefix)}*.tmp"):
            _clean(stale, target)
        while lock is None:  # until no other process has removed the folder before it was locked
            scratch = Path(tempfile.mkdtemp(prefix=prefix, suffix=".tmp", dir=target.parent))
            lock = _lock(scratch)
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise InputError(f"cannot write to {str(target)[:200]}: {reason}") from error
    try:
        new, old = scratch / "new" / target.name, scratch / "old" / target.name
        new.parent.mkdir()
        old.parent.mkdir()
        yield new, old
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        _unlock(lock)


def _clean(scratch: Path, target: Path) -> None:
    """Remove a temporary folder unless a process still uses it."""
    if fcntl is None or not scratch.is_dir() or scratch.is_symlink():
        return
    lock = _lock(scratch)
    if lock is None:
        return
    try:
        old = scratch / "old" / target.name
        if old.exists() and not target.exists():
            os.rename(old, target)
        shutil.rmtree(scratch, ignore_errors=True)
    finally:
        _unlock(lock)


def _unlock(lock: int) -> None:
    """End a lock."""
    if lock >= 0:
        os.close(lock)


def _escaped(text: str) -> str:
    """Return text without the wildcards of `glob`."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in text)
