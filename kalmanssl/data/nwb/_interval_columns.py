"""Columns of interval tables of an NWB file, such as the arm or the choice of each trial, as behavior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.data.nwb._series import Series
from kalmanssl.data.nwb._tables import columns

if TYPE_CHECKING:
    import h5py

__all__ = ["COLUMN", "IntervalColumn", "find_columns", "labels_or_floats", "read_column"]

COLUMN = "column"  # kind of a `Series` that is a column of an interval table
_TIMES = ("start_time", "stop_time", "id")


@dataclass(frozen=True)
class IntervalColumn:
    """A column of an interval table: one value for each interval of time.

    Attributes
    ----------
    start, stop : (rows,)
        Seconds.
    values : (rows,)
        Numbers, or labels as objects with None where they are unknown.
    unit : str
    period : float
        Zero: there is no sampling period.
    """

    start: np.ndarray
    stop: np.ndarray
    values: np.ndarray
    unit: str = ""
    period: float = 0.0

    def tracked(self) -> np.ndarray:
        """Return the times at which intervals with a known value begin and end, increasing."""
        if self.values.dtype == object:
            known = np.array([value is not None for value in self.values], dtype=bool)
        else:
            known = np.isfinite(self.values)
        return np.sort(np.concatenate([self.start[known], self.stop[known]]))

    def at(self, time: np.ndarray) -> np.ndarray:
        """Return the value at each time (time,): NaN, or None for labels, outside the intervals.

        Of intervals that overlap, the one that began last counts.
        """
        result = np.full(len(time), None if self.values.dtype == object else np.nan, dtype=self.values.dtype)
        for row in np.argsort(self.start, kind="stable"):
            inside = slice(*np.searchsorted(time, [self.start[row], self.stop[row]]))
            result[inside] = self.values[row]
        return result


def find_columns(file: h5py.File) -> list[Series]:
    """List the columns of all interval tables that have one value in each row."""
    tables = file.get("intervals", {})
    return [
        Series(f"intervals/{table}/{name}", COLUMN, table, "TimeIntervals")
        for table in tables
        for name, values in columns(tables[table]).items()
        if name not in _TIMES and values.dtype.kind in "Obiuf"
    ]


def read_column(file: h5py.File, where: Series) -> IntervalColumn:
    """Read a column; text and bools are labels, and empty text is unknown."""
    _, table, name = where.path.split("/")
    known = columns(file["intervals"][table])
    values = labels_or_floats(known[name])
    timed = np.isfinite(known["start_time"]) & np.isfinite(known["stop_time"])
    return IntervalColumn(known["start_time"][timed], known["stop_time"][timed], values[timed])


def labels_or_floats(values: np.ndarray) -> np.ndarray:
    """Return numbers as floats; text and bools as objects, with None for empty text."""
    if values.dtype.kind not in "Ob":
        return values.astype(float)
    labels = np.empty(len(values), dtype=object)
    labels[:] = [bool(v) if isinstance(v, bool | np.bool_) else (str(v) or None) for v in values]
    return labels
