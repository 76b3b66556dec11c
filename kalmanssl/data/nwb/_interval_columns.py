"""Columns of interval tables of an NWB file, such as the arm or the choice of each trial, as behavior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.data.nwb._series import Series, decode_text, has_data
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
    """List the columns with one value in each row of all interval tables, also of those in processing modules."""
    return [
        Series(f"{path}/{name}", COLUMN, path.rsplit("/", 1)[-1], "TimeIntervals")
        for path in _find_tables(file)
        for name, values in columns(file[path]).items()
        if name not in _TIMES and values.dtype.kind in "Obiuf"
    ]


def _find_tables(file: h5py.File) -> list[str]:
    """Return the paths of the interval tables: all those of the session, then those in processing modules."""
    import h5py

    found = [f"intervals/{table}" for table in file.get("intervals", {})]
    for root in ("processing", "acquisition"):
        pending = [root] if root in file else []
        while pending:
            path = pending.pop(0)
            for name, child in file[path].items():
                if not isinstance(child, h5py.Group):
                    continue
                if decode_text(child.attrs.get("neurodata_type", "")) == "TimeIntervals":
                    found.append(f"{path}/{name}")
                elif not has_data(child) and "id" not in child:
                    pending.append(f"{path}/{name}")
    return found


def read_column(file: h5py.File, where: Series) -> IntervalColumn:
    """Read a column; text and bools are labels, and empty text is unknown."""
    known = columns(file[where.path].parent)
    values = labels_or_floats(known[where.name])
    timed = np.isfinite(known["start_time"]) & np.isfinite(known["stop_time"])
    return IntervalColumn(known["start_time"][timed], known["stop_time"][timed], values[timed])


def labels_or_floats(values: np.ndarray) -> np.ndarray:
    """Return numbers as floats; text and bools as objects, with None for empty text."""
    if values.dtype.kind not in "Ob":
        return values.astype(float)
    labels = np.empty(len(values), dtype=object)
    labels[:] = [bool(v) if isinstance(v, bool | np.bool_) else (str(v) or None) for v in values]
    return labels
