"""Trials: pieces of a recording of unequal length, with the columns of their table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from kalmanssl.data._pynapple import as_start_stop, is_pynapple
from kalmanssl.errors import InputError, first_line
from kalmanssl.utils.arrays import as_array, as_floats
from kalmanssl.utils.text import shorten
from kalmanssl.utils.validation import short_repr

if TYPE_CHECKING:
    from kalmanssl.data._recording import Recording

__all__ = ["TrialTable", "Trials", "cut_trials", "read_trial_table"]

_START_NAMES, _STOP_NAMES = ("start_time", "start"), ("stop_time", "stop", "end_time", "end")
_TIME_NAMES = {*_START_NAMES, *_STOP_NAMES, "id"}


@dataclass(frozen=True)
class TrialTable:
    """Start and stop times of trials, and their other columns.

    Attributes
    ----------
    start, stop : (trials,)
        Seconds.
    columns : dict of (trials,)
        For example the condition or the choice.
    """

    start: np.ndarray
    stop: np.ndarray
    columns: dict[str, np.ndarray]


class Trials(Sequence["Recording"]):
    """Trials of a recording: a sequence of recordings of unequal length.

    `KalmanSSL.fit` and `transform` accept it, and filter every trial by itself. An integer index returns a recording; a
    slice, an index array or a boolean mask over trials returns trials.

    Attributes
    ----------
    recordings : tuple of Recording
    start, stop : (trials,)
        Seconds, in the clock of the recording.
    columns : dict of (trials,)
        Other columns of the table of trials, such as the condition.
    """

    def __init__(self, recordings: Sequence[Recording], table: TrialTable) -> None:
        self.recordings = tuple(recordings)
        self.start, self.stop, self.columns = table.start, table.stop, table.columns

    def __len__(self) -> int:
        return len(self.recordings)

    def __iter__(self) -> Iterator[Recording]:
        return iter(self.recordings)

    @overload
    def __getitem__(self, index: int) -> Recording: ...

    @overload
    def __getitem__(self, index: slice | np.ndarray) -> Trials: ...

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int | np.integer):
            return self.recordings[index]
        try:
            rows = np.atleast_1d(np.arange(len(self))[index])
        except (IndexError, OverflowError, TypeError, ValueError) as error:
            message = f"index {short_repr(index)} does not select from {len(self)} trials: {first_line(error)}"
            raise InputError(message, parameter="index") from error
        if rows.ndim != 1:
            raise InputError("index must select trials by one axis: a slice, a mask or numbers", parameter="index")
        table = TrialTable(self.start[rows], self.stop[rows], {name: v[rows] for name, v in self.columns.items()})
        return Trials([self.recordings[row] for row in rows], table)

    def behavior(self, name: str) -> list[np.ndarray]:
        """Return one behavior of every trial, as `PositionDecoder.fit` accepts it with the latents of the trials.

        Raises
        ------
        InputError
            If a trial has no behavior of this name.
        """
        for one in self.recordings:
            if not isinstance(name, str) or name not in one.behavior:
                raise InputError(
                    f"name={short_repr(name)} is not a behavior of the trials, which have: "
                    f"{shorten(', '.join(one.behavior)) or 'none'}",
                    parameter="name",
                )
        return [one.behavior[name] for one in self.recordings]

    def __repr__(self) -> str:
        bins = [len(one) for one in self.recordings]
        named = f"; columns {', '.join(self.columns)}" if self.columns else ""
        length = f"{min(bins)} to {max(bins)}" if bins else "0"
        return f"Trials({len(self)} trials of {length} bins{named})"


def read_trial_table(recording: Recording, intervals: Any, stop: Any, table: str) -> TrialTable:
    """Return the start and stop times of trials, seconds, and their other columns; see `Recording.trials`."""
    if stop is not None:
        return _checked(as_floats("intervals", intervals), as_floats("stop", stop), {})
    if isinstance(intervals, str) and intervals in recording.epochs:
        intervals = recording.epochs[intervals]
    if isinstance(intervals, str | os.PathLike):
        from kalmanssl.data.nwb import read_interval_table

        if isinstance(intervals, str) and not intervals.endswith(".nwb") and not os.path.exists(intervals):
            known = shorten(", ".join(sorted(recording.epochs))) or "none"
            problem = f"intervals={short_repr(intervals)} is neither an NWB file nor an epoch of the recording"
            message = f"{problem}, which has: {known}"
            raise InputError(message, parameter="intervals")
        intervals = read_interval_table(intervals, table)
    elif is_pynapple(intervals, "IntervalSet"):
        columns = {name: np.asarray(intervals.get_info(name)) for name in getattr(intervals, "metadata_columns", [])}
        intervals = {"start": intervals.start, "stop": intervals.end} | columns
    elif hasattr(intervals, "to_dataframe"):  # a table of pynwb
        intervals = intervals.to_dataframe()
    if isinstance(intervals, Mapping) or hasattr(intervals, "columns"):
        return _from_columns({str(name): intervals[name] for name in intervals})
    expected = "start and stop times (trials, 2), a table, an IntervalSet or an NWB file"
    spans = as_start_stop("intervals", intervals, expected)
    return _checked(spans[:, 0], spans[:, 1], {})


def _from_columns(named: dict[str, Any]) -> TrialTable:
    """Return a table from columns with start times, stop times and anything else."""
    times = []
    for names in (_START_NAMES, _STOP_NAMES):
        found = next((name for name in names if name in named), None)
        if found is None:
            raise InputError(
                f"intervals has no column {names[0]!r}; its columns: {shorten(', '.join(named)) or 'none'}",
                parameter="intervals",
            )
        times.append(as_floats("intervals", named[found]))
    others = {name: as_array("intervals", values) for name, values in named.items() if name not in _TIME_NAMES}
    return _checked(times[0], times[1], others)


def _checked(start: np.ndarray, stop: np.ndarray, columns: dict[str, np.ndarray]) -> TrialTable:
    """Check that times are (trials,) and that every trial begins before it stops."""
    if (
        start.ndim != 1
        or start.shape != stop.shape
        or any(values.shape[:1] != start.shape for values in columns.values())
    ):
        raise InputError(
            f"intervals has {start.shape} start times and {stop.shape} stop times, or a column of another length: "
            "give one value for every trial",
            parameter="intervals",
        )
    if len(start) == 0:
        raise InputError("intervals has no trials: give at least one", parameter="intervals")
    for number in np.flatnonzero(~(start < stop)):
        if np.isfinite(start[number]) and np.isfinite(stop[number]):
            raise InputError(
                f"trial {number} stops at {stop[number]:g} s, which is not after its start at {start[number]:g} s: "
                "repair the table",
                parameter="intervals",
            )
    return TrialTable(start, stop, columns)


def cut_trials(recording: Recording, table: TrialTable, drop_outside: bool) -> Trials:
    """Return the bins of every trial; see `Recording.trials`."""
    half = 0.5 * recording.bin_size
    first, last = recording.time[0] - half, recording.time[-1] + half
    inside = np.searchsorted(recording.time, table.stop) > np.searchsorted(recording.time, table.start)
    inside &= (table.start > first - half) & (table.stop < last + half)  # False if a time is NaN
    if not drop_outside and not inside.all():
        number = int(np.argmin(inside))
        start, stop = table.start[number], table.stop[number]
        raise InputError(
            f"trial {number} ({start:g} to {stop:g} s) is not inside the recording, which has bins from {first:g} to "
            f"{last:g} s in {len(recording.segments())} segments: leave it out, or pass drop_outside=True",
            parameter="intervals",
        )
    if not inside.any():
        raise InputError(
            f"none of {len(inside)} trials is inside the recording, which covers {first:g} to {last:g} s",
            parameter="intervals",
        )
    rows = np.flatnonzero(inside)
    order = rows[np.argsort(table.start[rows], kind="stable")]
    early = np.flatnonzero(table.start[order][1:] < table.stop[order][:-1] - 1e-9)
    if len(early):
        a, b = order[early[0]], order[early[0] + 1]
        raise InputError(
            f"trials {a} and {b} overlap: {a} stops at {table.stop[a]:g} s and {b} starts at {table.start[b]:g} s; "
            "leave one of them out",
            parameter="intervals",
        )
    kept = TrialTable(table.start[rows], table.stop[rows], {name: v[rows] for name, v in table.columns.items()})
    bins = np.searchsorted(recording.time, np.stack([kept.start, kept.stop], axis=1))
    return Trials([recording[a:b] for a, b in bins], kept)
