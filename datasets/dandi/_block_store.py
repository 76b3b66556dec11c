"""Blocks of a remote file that were already read, in one file on disk, so that an interrupted fetch can continue."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

from kalmanssl.errors import InputError
from kalmanssl.utils.locks import release_lock, take_lock

__all__ = ["BLOCK", "BlockStore"]

BLOCK = 2**18  # bytes
_RECORD = struct.Struct("<QI32s")  # number of the block, its length, SHA-256


def open_unbuffered(path: Path) -> Any:
    """Open a file for reading and writing, and create it if it does not exist."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)


class BlockStore:
    """Read blocks of a remote file, each with its checksum, in one file on disk.

    A file of an earlier, interrupted fetch of the same asset is continued. A damaged or incomplete record at its end is
    removed.

    Parameters
    ----------
    path : path
        Created if it does not exist.
    asset_id : str
        Identifier of the content. Blocks of another content are removed.
    size : int
        Size of the remote file, bytes.

    Raises
    ------
    InputError
        If another process uses the file.
    OSError
        If it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], asset_id: str, size: int) -> None:
        self.path = Path(path)
        self._size = size
        self._offsets: dict[int, int] = {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file: Any = open_unbuffered(self.path)
        lock = take_lock(self.path)
        if lock is None:
            self._file.close()
            raise InputError(
                f"another fetch is writing {self.path}: wait until it has finished, or choose another file",
                parameter="out",
            )
        self._lock = lock
        try:
            header = json.dumps({"format": 1, "asset": asset_id, "size": size, "block": BLOCK}).encode() + b"\n"
            if self._file.read(len(header)) == header:
                self._end = self._scan(len(header))
                self._file.truncate(self._end)
            else:
                self._file.truncate(0)
                self._end = 0
                self._append(header)
        except BaseException:
            self.close()
            raise

    @property
    def n_bytes(self) -> int:
        """Number of bytes of the remote file that are on disk."""
        return sum(self._length(block) for block in self._offsets)

    def __contains__(self, block: int) -> bool:
        return block in self._offsets

    def read(self, block: int, start: int, stop: int) -> bytes:
        """Return the bytes from `start` to `stop` of a block that is on disk."""
        self._file.seek(self._offsets[block] + start)
        return bytes(self._file.read(stop - start))

    def add(self, block: int, data: bytes) -> None:
        """Write a complete block; an error leaves the earlier blocks intact."""
        self._append(_RECORD.pack(block, len(data), hashlib.sha256(data).digest()) + data)
        self._offsets[block] = self._end - len(data)

    def close(self) -> None:
        """Close the file and keep it, so that a later fetch continues."""
        self._file.close()
        self._release()

    def remove(self) -> None:
        """Close the file and delete it."""
        self._file.close()
        self.path.unlink(missing_ok=True)
        self._release()

    def _release(self) -> None:
        release_lock(self._lock)
        self._lock = -1  # released once

    def _length(self, block: int) -> int:
        return min(BLOCK, self._size - block * BLOCK)

    def _append(self, data: bytes) -> None:
        """Write at the end; after an error, the file ends where it did before."""
        try:
            self._file.seek(self._end)
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            self._file.truncate(self._end)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._end += len(data)

    def _scan(self, position: int) -> int:
        """Index the intact records from `position` on; return where they end."""
        while True:
            head = self._file.read(_RECORD.size)
            if len(head) < _RECORD.size:
                return position
            block, length, digest = _RECORD.unpack(head)
            if block * BLOCK >= self._size or length != self._length(block):
                return position
            if hashlib.sha256(self._file.read(length)).digest() != digest:
                return position
            self._offsets[block] = position + _RECORD.size
            position += _RECORD.size + length
