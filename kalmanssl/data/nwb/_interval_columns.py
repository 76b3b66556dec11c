"""Labels of intervals in an NWB file as behavior: columns of interval tables, and interval series.

A column has for example the arm or the choice of each trial. An interval series (`IntervalSeries`) has the times at
which states of behavior begin and end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.data.nwb._access import (
    find_group,
    location,
    member_names,
    peek,
    read_numbers,
    require_dataset,
)
from kalmanssl.data.nwb._columns import column_names, read_column_values, read_interval_times
from kalmanssl.data.nwb._series import Series
from kalmanssl.data.nwb._walk import FoundGroup, walk_groups
from kalmanssl.errors import InputError

if TYPE_CHECKING:
    import h5py

__all__ = [
    "COLUMN",
    "INTERVAL_SERIES",
    "OUTSIDE",
    "IntervalColumn",
    "find_columns",
    "find_tables",
    "labels_or_floats",
    "read_column",
    "read_states",
]

COLUMN = "column"  # kind of a `Series` that is a column of an interval table
INTERVAL_SERIES = "IntervalSeries"
OUTSIDE = "none"  # label of the time between the intervals of an interval series
_TIMES = ("start_time", "stop_time", "id")


@dataclass(frozen=True)
class IntervalColumn:
    """A column of an interval table, or an interval series: one value for each interval of time.

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

        If intervals overlap, the one that began last counts.
        """
        result = np.full(len(time), None if self.values.dtype == object else np.nan, dtype=self.values.dtype)
        for row in np.argsort(self.start, kind="stable"):
            inside = slice(*np.searchsorted(time, [self.start[row], self.stop[row]]))
            result[inside] = self.values[row]
        return result


def find_columns(file: h5py.File) -> list[Series]:
    """List the columns with one value in each row of all interval tables, and the interval series."""
    in_tables = [
        Series(f"{path}/{name}", COLUMN, path.rsplit("/", 1)[-1], "TimeIntervals")
        for path in find_tables(file)
        for name in column_names(find_group(file, path))
        if name not in _TIMES
    ]
    return in_tables + _find_interval_series(file)


def _find_interval_series(file: h5py.File) -> list[Series]:
    """List the interval series, in all places where NWB files have series."""
    return [
        Series(found.path, INTERVAL_SERIES, found.container, found.container_kind)
        for found in walk_groups(file, ("processing", "acquisition", "stimulus"))
        if found.kind == INTERVAL_SERIES and found.has_data and peek(found.group, "timestamps") is not None
    ]


def find_tables(file: h5py.File) -> list[str]:
    """Return the paths of the interval tables: all those of the session, then those in processing modules."""
    intervals = find_group(file, "intervals")
    found = [f"intervals/{table}" for table in (() if intervals is None else member_names(intervals))]

    def is_container(one: FoundGroup) -> bool:
        return one.kind != "TimeIntervals" and not one.has_data and peek(one.group, "id") is None

    others = walk_groups(file, ("processing", "acquisition"), is_container)
    return found + [one.path for one in others if one.kind == "TimeIntervals"]


def read_column(file: h5py.File, where: Series) -> IntervalColumn:
    """Read a column or an interval series; text and bools are labels, and empty text is unknown.

    The labels of an interval series are the numbers of the states as text, and "none" between the intervals.
    """
    if where.kind == INTERVAL_SERIES:
        return _with_gaps(read_states(find_group(file, where.path)))
    table = find_group(file, where.path.rsplit("/", 1)[0])
    start, stop = read_interval_times(table)
    values = labels_or_floats(read_column_values(table, where.name))
    wrong = np.flatnonzero(stop < start)
    if len(wrong):
        row = wrong[0]
        raise InputError(
            f"row {row} of {location(table)} stops at {stop[row]:.10g} s, before its start at {start[row]:.10g} s; "
            "repair the table"
        )
    timed = np.isfinite(start) & np.isfinite(stop)
    return IntervalColumn(start[timed], stop[timed], values[timed])


def labels_or_floats(values: np.ndarray) -> np.ndarray:
    """Return numbers as floats; text and bools as objects, with None for empty text."""
    if values.dtype.kind not in "Ob":
        return values.astype(float)
    labels = np.empty(len(values), dtype=object)
    labels[:] = [bool(v) if isinstance(v, bool | np.bool_) else (str(v) or None) for v in values]
    return labels


def read_states(series: h5py.Group) -> IntervalColumn:
    """Return the intervals of an interval series by their start, with the number of the state as a label.

    A state k begins where the data are k and ends where they are -k. An interval without an end lasts to the last time
    of the series.
    """
    data, times = read_numbers(require_dataset(series, "data")), read_numbers(require_dataset(series, "timestamps"))
    if len(data) != len(times):
        raise InputError(
            f"series {location(series)} has {len(data)} samples but {len(times)} timestamps; repair the file"
        )
    if not (np.isfinite(data).all() and (data == np.floor(data)).all()):
        raise InputError(f"{location(series)}/data must be whole numbers, the states; repair the file")
    data, times = data.astype(int), times.astype(float)
    timed = np.flatnonzero(np.isfinite(times))
    order = timed[np.argsort(times[timed], kind="stable")]
    began: dict[int, float] = {}
    found = []
    for value, time in zip(data[order], times[order], strict=True):
        if value > 0:
            began.setdefault(value, time)
        elif -value in began:
            found.append((began.pop(-value), time, str(-value)))
    found += [(time, times[order[-1]], str(state)) for state, time in began.items()]
    found = sorted(interval for interval in found if interval[0] < interval[1])
    start, stop, states = zip(*found, strict=True) if found else ((), (), ())
    return IntervalColumn(np.array(start, dtype=float), np.array(stop, dtype=float), np.array(states, dtype=object))


def _with_gaps(intervals: IntervalColumn) -> IntervalColumn:
    """Add the time between the intervals, with the label `OUTSIDE`."""
    reached = np.maximum.accumulate(intervals.stop)
    gaps = np.flatnonzero(intervals.start[1:] > reached[:-1])
    return IntervalColumn(
        np.concatenate([intervals.start, reached[gaps]]),
        np.concatenate([intervals.stop, intervals.start[gaps + 1]]),
        np.concatenate([intervals.values, np.full(len(gaps), OUTSIDE, dtype=object)]),
    )
