"""A remote file that is read in blocks, for h5py."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from typing import Any

from kalmanssl.datasets.dandi._block_store import BLOCK, BlockStore
from kalmanssl.datasets.dandi._http import HttpClient, Location

__all__ = ["RemoteFile"]

_LONGEST_READ_AHEAD = 32  # blocks


class RemoteFile(io.RawIOBase):
    """File object over HTTP range requests. Every block is read once and stored on disk.

    Blocks that follow each other are read ahead in growing numbers, since each request costs a round trip.

    Parameters
    ----------
    location : Location
    client : HttpClient
    store : BlockStore
    on_block : callable, optional
        Called after each new block.

    Attributes
    ----------
    error : BaseException or None
        The error or interrupt of a failed read. From then on, `readinto` gives zeros, since HDF5 can crash if an
        exception passes through it. The caller must raise it.
    """

    def __init__(
        self, location: Location, client: HttpClient, store: BlockStore, on_block: Callable[[], None] | None = None
    ) -> None:
        super().__init__()
        self.error: BaseException | None = None
        self._location = location
        self._client = client
        self._store = store
        self._on_block = on_block
        self._position = 0
        self._expected = -1  # the block after the last one that was requested
        self._ahead = 1

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position, bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position and return it, bytes."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._location.size}[whence]
        self._position = origin + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer from the position on; return the number of bytes."""
        view = memoryview(buffer).cast("B")
        if self.error is None:
            try:
                return self._readinto(view)
            except BaseException as error:
                self.error = _without_tracebacks(error)
        view[:] = bytes(len(view))
        return len(view)

    def sha256(self) -> str:
        """Return the checksum of the whole file, which is read for that."""
        last = (self._location.size - 1) // BLOCK
        self._require(0, last)
        digest = hashlib.sha256()
        for block in range(last + 1):
            digest.update(self._store.read(block, 0, BLOCK if block < last else self._length(last)))
        return digest.hexdigest()

    def _length(self, block: int) -> int:
        return min(BLOCK, self._location.size - block * BLOCK)

    def _readinto(self, view: memoryview) -> int:
        stop = min(self._position + len(view), self._location.size)
        if stop <= self._position:
            return 0
        first, last = self._position // BLOCK, (stop - 1) // BLOCK
        self._require(first, last)
        filled = 0
        for block in range(first, last + 1):
            start = max(self._position - block * BLOCK, 0)
            part = self._store.read(block, start, min(stop - block * BLOCK, BLOCK))
            view[filled : filled + len(part)] = part
            filled += len(part)
        self._position = stop
        return filled

    def _require(self, first: int, last: int) -> None:
        """Download the missing blocks from `first` to `last`, each run of missing blocks with one request."""
        block = first
        while block <= last:
            if block in self._store:
                block += 1
                continue
            self._ahead = min(2 * self._ahead, _LONGEST_READ_AHEAD) if block == self._expected else 1
            n_blocks = -(-self._location.size // BLOCK)
            limit = min(max(last + 1, block + self._ahead), n_blocks)
            end = block + 1
            while end < limit and end not in self._store:
                end += 1
            self._download(block, end)
            self._expected = block = end

    def _download(self, first: int, end: int) -> None:
        """Download the blocks from `first` to `end` (exclusive); complete blocks are stored as they arrive."""
        current, pending = first, bytearray()

        def receive(piece: bytes) -> None:
            nonlocal current
            pending.extend(piece)
            while current < end and len(pending) >= self._length(current):
                length = self._length(current)
                self._store.add(current, bytes(pending[:length]))
                del pending[:length]
                current += 1
                if self._on_block is not None:
                    self._on_block()

        self._client.get_range(self._location, first * BLOCK, min(end * BLOCK, self._location.size), receive)


def _without_tracebacks(error: BaseException) -> BaseException:
    """Remove the tracebacks of an error and its causes.

    Their frames include those of h5py, whose file access object would live until the interpreter ends and crash it.
    """
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error
