"""Groups of units by the columns of their table, for the summary of a file."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from kalmanssl.data.nwb._columns import read_columns
from kalmanssl.data.nwb._tables import electrode_columns

if TYPE_CHECKING:
    import h5py

__all__ = ["unit_groups"]

_MOST_GROUPS = 12  # a column with more values does not group units
_OF_ELECTRODES = ("location", "group_name")


def unit_groups(table: h5py.Group) -> dict[str, dict[str, int]]:
    """Return the number of units for each value of each column of text or bools that has 2 to 12 values.

    Parameters
    ----------
    table : h5py.Group
        The table of units.

    Returns
    -------
    dict of dict
        By column and value, such as ``{"location": {"CA1": 80, "CA3": 40}}``. The location and the group can be those
        of the electrodes.
    """
    columns = read_columns(table)
    columns |= electrode_columns(table, set(_OF_ELECTRODES) - set(columns))
    found = {}
    for name, values in columns.items():
        counts = Counter(str(value) for value in values if value is not None)  # None: without an electrode
        if values.dtype.kind in "Ob" and 2 <= len(counts) <= min(_MOST_GROUPS, len(values) - 1):
            found[name] = dict(sorted(counts.items()))
    return found
