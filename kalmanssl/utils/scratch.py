"""Temporary folders beside the files or folders that they replace."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kalmanssl.errors import InputError, first_line
from kalmanssl.utils.locks import HAS_LOCKS, release_lock, take_lock

__all__ = ["scratch_folder"]


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
        for stale in target.parent.glob(f"{glob.escape(prefix)}*.tmp"):
            _clean(stale, target)
        while lock is None:  # until no other process has removed the folder before it was locked
            scratch = Path(tempfile.mkdtemp(prefix=prefix, suffix=".tmp", dir=target.parent))
            lock = take_lock(scratch)
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
        release_lock(lock)


def _clean(scratch: Path, target: Path) -> None:
    """Remove a temporary folder unless a process still uses it."""
    if not HAS_LOCKS or not scratch.is_dir() or scratch.is_symlink():
        return
    lock = take_lock(scratch)
    if lock is None:
        return
    try:
        old = scratch / "old" / target.name
        if old.exists() and not target.exists():
            os.rename(old, target)
        shutil.rmtree(scratch, ignore_errors=True)
    finally:
        release_lock(lock)
