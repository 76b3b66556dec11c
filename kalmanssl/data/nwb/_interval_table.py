"""Reading of all intervals of a table of an NWB file, such as that of the trials, or of an interval series."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.data.nwb._access import find_group, member_names
from kalmanssl.data.nwb._columns import read_columns, read_interval_times
from kalmanssl.data.nwb._interval_columns import (
    INTERVAL_SERIES,
    find_columns,
    find_tables,
    labels_or_floats,
    read_states,
)
from kalmanssl.data.nwb._open import open_nwb, path_text
from kalmanssl.data.nwb._tables import read_epochs
from kalmanssl.errors import InputError
from kalmanssl.utils.text import shorten
from kalmanssl.utils.validation import check_condition, short_repr

if TYPE_CHECKING:
    import h5py

__all__ = ["read_interval_table", "read_intervals"]

_EPOCHS = "intervals/epochs"  # has labels instead, see `read_epochs`


def read_intervals(file: h5py.File) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return start and stop times (n, 2), seconds, by the label of epochs or the name of another table of intervals.

    Also return corrections of epochs. Rows of other tables without a time or of no length are left out, and so are
    tables that cannot be read: nothing else needs them.
    """
    spans, corrections = read_epochs(file)
    for path in find_tables(file):
        try:
            times = np.stack(read_interval_times(find_group(file, path)), axis=1)
        except InputError:
            continue
        timed = times[times[:, 0] < times[:, 1]]  # False with NaN
        name = path.rsplit("/", 1)[-1]
        if path != _EPOCHS and len(timed) and name not in spans:
            spans[name] = timed[np.argsort(timed[:, 0], kind="stable")]
    return spans, corrections


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
    check_condition("table", table, isinstance(table, str), "the name of a table")
    with open_nwb(path) as file:
        tables = find_group(file, "intervals")
        group = None if tables is None else find_group(tables, table)
        if group is None:
            series = [s for s in find_columns(file) if s.kind == INTERVAL_SERIES]
            named = [s for s in series if table.strip("/") in (s.path, s.name)]
            if len(named) == 1:
                states = read_states(find_group(file, named[0].path))
                return {"start_time": states.start, "stop_time": states.stop, "state": states.values}
            names = [] if tables is None else member_names(tables)
            known = shorten(", ".join(sorted([*names, *(s.path for s in series)]))) or "none"
            raise InputError(
                f"{path_text(path)} has no table of intervals {short_repr(table)}; its tables: {known}",
                parameter="table",
            )
        read_interval_times(group)
        return {name: labels_or_floats(values) for name, values in read_columns(group).items()}
