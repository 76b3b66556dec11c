"""Reading of all intervals of a table of an NWB file, such as that of the trials, or of an interval series."""

from __future__ import annotations

import os

import numpy as np

from kalmanssl.data.nwb._interval_columns import INTERVAL_SERIES, find_columns, labels_or_floats, read_states
from kalmanssl.data.nwb._open import open_nwb
from kalmanssl.data.nwb._tables import columns
from kalmanssl.errors import InputError

__all__ = ["read_interval_table"]


def read_interval_table(path: str | os.PathLike[str], table: str) -> dict[str, np.ndarray]:
    """Read the columns of an interval table of an NWB file that have one value in each row.

    An interval series has the columns start_time, stop_time and state.

    Parameters
    ----------
    path : path
    table : str
        Such as "trials", or the name or the path of an interval series.

    Raises
    ------
    InputError
        If the file cannot be read or has no such table.
    """
    with open_nwb(path) as file:
        tables = file.get("intervals", {})
        if table not in tables:
            series = [s for s in find_columns(file) if s.kind == INTERVAL_SERIES]
            named = [s for s in series if table.strip("/") in (s.path, s.name)]
            if len(named) == 1:
                states = read_states(file[named[0].path])
                return {"start_time": states.start, "stop_time": states.stop, "state": states.values}
            known = ", ".join(sorted([*tables, *(s.path for s in series)])) or "none"
            raise InputError(f"{path} has no table of intervals {table!r}; its tables: {known}", parameter="table")
        found = columns(tables[table])
        return {name: labels_or_floats(values) for name, values in found.items() if values.dtype.kind in "Obiuf"}
