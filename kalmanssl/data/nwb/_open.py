"""Opening of NWB files with clear errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kalmanssl.errors import InputError

if TYPE_CHECKING:
    import h5py

__all__ = ["open_nwb"]


@contextmanager
def open_nwb(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Open an NWB file for reading; raise `InputError` if the file is missing, damaged or not NWB 2."""
    import h5py

    file = Path(path)
    if file.is_dir():
        raise InputError(
            f"{file} is a folder; only single HDF5 files can be read (convert a Zarr store first)", parameter="path"
        )
    if not file.exists():
        raise InputError(f"{file} does not exist", parameter="path")
    try:
        # Spike times are read unit by unit, so the cache must hold at least one of the large chunks of the file.
        with h5py.File(file, "r", rdcc_nbytes=64 * 2**20) as handle:
            kind = handle.attrs.get("neurodata_type")
            if kind not in ("NWBFile", b"NWBFile"):
                raise InputError(
                    f"{file} is HDF5 but not an NWB 2 file (neurodata_type is {kind!r}); convert it to NWB first"
                )
            yield handle
    except (OSError, RuntimeError, KeyError) as error:
        why = " ".join(str(error).split())
        if isinstance(error, OSError) and "signature not found" in why:
            raise InputError(f"{file} is not an NWB file (not HDF5)", parameter="path") from error
        cause = "truncated" if "truncated" in why else "damaged or cannot be read"
        raise InputError(f"{file} is {cause}: download or export it again ({why})", parameter="path") from error
