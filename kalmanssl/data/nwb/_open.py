"""Opening of NWB files with clear errors."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kalmanssl.data.nwb._access import FOREIGN_ERRORS, DamagedError
from kalmanssl.errors import InputError
from kalmanssl.utils.paths import as_path
from kalmanssl.utils.text import shorten
from kalmanssl.utils.validation import short_repr

if TYPE_CHECKING:
    import h5py

__all__ = ["open_nwb", "path_text"]


@contextmanager
def open_nwb(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Open an NWB file for reading; raise `InputError` if the file is missing, damaged or not NWB 2."""
    import h5py

    file = as_path("path", path)
    _check_regular(file)
    try:
        # Spike times are read unit by unit, so the cache must hold at least one of the large chunks of the file.
        handle = h5py.File(file, "r", rdcc_nbytes=64 * 2**20)
    except FOREIGN_ERRORS as error:
        raise _damaged(file, error) from error
    try:
        with handle:
            kind = _neurodata_type(handle)
            if not isinstance(kind, str | bytes) or kind not in ("NWBFile", b"NWBFile"):
                raise InputError(
                    f"{path_text(file)} is HDF5 but not an NWB 2 file (neurodata_type is {short_repr(kind)}); "
                    "convert it to NWB first",
                    parameter="path",
                )
            yield handle
    except DamagedError as error:
        raise InputError(f"{path_text(file)} is damaged: {error}", parameter="path") from error
    except (OSError, RuntimeError, KeyError) as error:
        raise _damaged(file, error) from error


def path_text(path: object) -> str:
    """Return a path for messages: on one line, of limited length."""
    text = str(path)
    return shorten(text if text.isprintable() else ascii(text)[1:-1])


def _check_regular(file: Path) -> None:
    """Raise `InputError` unless a path leads to a file; a pipe or a device could be read without end."""
    try:
        mode = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path_text(file)} does not exist", parameter="path") from None
    except OSError as error:
        raise InputError(f"path {path_text(file)} cannot be opened: {error.strerror}", parameter="path") from error
    if stat.S_ISDIR(mode):
        raise InputError(
            f"{path_text(file)} is a folder; only single HDF5 files can be read (convert a Zarr store first)",
            parameter="path",
        )
    if not stat.S_ISREG(mode):
        raise InputError(
            f"{path_text(file)} is not a regular file, but a pipe or a device; copy it first", parameter="path"
        )


def _neurodata_type(handle: h5py.File) -> object:
    """Return the type of the root of a file; None if it cannot be read."""
    try:
        return handle.attrs.get("neurodata_type")
    except (TypeError, ValueError):
        return None


def _damaged(file: Path, error: Exception) -> InputError:
    """Return the error for a file that HDF5 cannot read."""
    why = " ".join(str(error).split())
    if isinstance(error, OSError) and "signature not found" in why:
        return InputError(f"{path_text(file)} is not an NWB file (not HDF5)", parameter="path")
    cause = "truncated" if "truncated" in why else "damaged or cannot be read"
    return InputError(f"{path_text(file)} is {cause}: download or export it again ({shorten(why)})", parameter="path")
