"""Reading of a whole interval table of an NWB file, such as that of the trials."""

from __future__ import annotations

import os

import numpy as np

from kalmanssl.data.nwb._interval_columns import labels_or_floats
from kalmanssl.data.nwb._open import open_nwb
from kalmanssl.data.nwb._tables import columns
from kalmanssl.errors import InputError

__all__ = ["read_interval_table"]


def read_interval_table(path: str | os.PathLike[str], table: str) -> dict[str, np.ndarray]:
    """Read the columns of an interval table of an NWB file that have one value in each row.

    Parameters
    ----------
    path : path
    table : str
        Such as "trials".

    Raises
    ------
    InputError
        If the file cannot be read or has no such table.
    """
    with open_nwb(path) as file:
        tables = file.get("intervals", {})
        if table not in tables:
            known = ", ".join(sorted(tables)) or "none"
            raise InputError(f"{path} has no table of intervals {table!r}; its tables: {known}", parameter="table")
        found = columns(tables[table])
        return {name: labels_or_floats(values) for name, values in found.items() if values.dtype.kind in "Obiuf"}
