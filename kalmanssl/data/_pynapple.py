"""Objects of pynapple: spike times, time series and intervals, read as arrays and written back.

Nothing here imports pynapple to read its objects: if it was not imported, there are none.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kalmanssl.data._binning import BIN_SIZE, count_events, interpolate, sampling_period
from kalmanssl.errors import InputError
from kalmanssl.utils.arrays import as_floats
from kalmanssl.utils.optional import import_optional
from kalmanssl.utils.validation import check_positive

__all__ = [
    "as_disjoint_intervals",
    "as_intervals",
    "as_start_stop",
    "behavior_at",
    "is_pynapple",
    "read_activity",
    "to_tsdframe",
]


def is_pynapple(value: Any, *kinds: str) -> bool:
    """Return whether a value is an object of pynapple, of one of these classes if any are named."""
    pynapple = sys.modules.get("pynapple")
    names = kinds or ("Ts", "Tsd", "TsdFrame", "TsdTensor", "TsGroup", "IntervalSet")
    return pynapple is not None and isinstance(value, tuple(getattr(pynapple, name) for name in names))


def as_start_stop(name: str, value: Any, expected: str, parameter: str | None = None) -> np.ndarray:
    """Return an `IntervalSet`, or start and stop times (2,) or (n, 2), as floats (n, 2), which may be NaN.

    `expected` is what `name` must be, for the message; `parameter` is its argument, if that has another name.
    """
    spans = as_floats(name, value.values if is_pynapple(value, "IntervalSet") else value)
    spans = spans.reshape(1, 2) if spans.shape == (2,) else spans
    if spans.ndim != 2 or spans.shape[1] != 2:
        raise InputError(f"{name} must be {expected}; got shape {spans.shape}", parameter=parameter or name)
    return spans


def as_intervals(name: str, value: Any, parameter: str | None = None) -> np.ndarray:
    """Return intervals as start and stop times (n, 2), start < stop, in any order; the arguments as of `as_start_stop`.

    They can overlap.
    """
    expected = "(start, stop), (n, 2) of these or an IntervalSet, with start < stop, seconds"
    spans = as_start_stop(name, value, expected, parameter)
    for start, stop in spans[~(spans[:, 0] < spans[:, 1])][:1]:
        raise InputError(f"{name} must be {expected}; got {start:g} to {stop:g}", parameter=parameter or name)
    return spans


def as_disjoint_intervals(name: str, value: Any) -> np.ndarray:
    """Return intervals that do not overlap as start and stop times (n, 2), increasing, seconds."""
    spans = as_intervals(name, value)
    spans = spans[np.argsort(spans[:, 0])]
    if (spans[1:, 0] < spans[:-1, 1]).any():
        raise InputError(f"{name} has intervals that overlap: join them or leave some out", parameter=name)
    return spans


def read_activity(activity: Any, bin_size: float | None, time_support: Any, kind: str | None) -> dict[str, Any]:
    """Return the arguments of `Recording.from_arrays` for spike times or a time series of pynapple, and the spikes."""
    if bin_size is not None:
        check_positive("bin_size", bin_size)
    if not is_pynapple(activity, "Ts", "TsGroup", "Tsd", "TsdFrame"):
        raise InputError(
            f"activity must be a TsGroup, Ts, TsdFrame or Tsd of pynapple; got {type(activity).__name__}: "
            "use Recording.from_arrays for arrays",
            parameter="activity",
        )
    if is_pynapple(activity, "Tsd", "TsdFrame"):
        _times("activity", activity)  # NaN would also be in the time support
    support = as_disjoint_intervals("time_support", activity.time_support if time_support is None else time_support)
    if is_pynapple(activity, "Tsd", "TsdFrame"):
        return _read_series(activity, bin_size, support, kind, time_support is not None)
    return _read_spikes(activity, BIN_SIZE if bin_size is None else float(bin_size), support, kind)


def _read_spikes(activity: Any, bin_size: float, support: np.ndarray, kind: str | None) -> dict[str, Any]:
    """Count spike times in bins of each interval of the time support."""
    if kind not in (None, "counts"):
        raise InputError(f"kind must be 'counts' for spike times, got {kind!r}", parameter="kind")
    units = {"0": activity} if is_pynapple(activity, "Ts") else {str(unit): activity[unit] for unit in activity}
    if not units:
        raise InputError("activity has no units: the TsGroup is empty", parameter="activity")
    times = [_times(f"unit {unit} of activity", one) for unit, one in units.items()]
    binned = count_events(times, [(start, stop) for start, stop in support], bin_size)
    if len(binned.time) == 0:
        longest = np.diff(support, axis=1).max(initial=0.0)
        raise InputError(
            f"the time support of activity leaves no bin of {bin_size:g} s: its longest interval lasts {longest:g} s",
            parameter="time_support",
        )
    return {
        "activity": binned.counts,
        "time": binned.time,
        "bin_size": bin_size,
        "unit_ids": list(units),
        "kind": "counts",
        "spike_times": binned.kept,
    }


def _read_series(
    activity: Any, bin_size: float | None, support: np.ndarray, kind: str | None, is_restricted: bool
) -> dict[str, Any]:
    """Return the samples of a time series inside the time support as bins."""
    time = _times("activity", activity)
    if len(time) == 0:
        raise InputError("activity has no samples: give a time series with at least one", parameter="activity")
    values = as_floats("activity", activity.values).reshape(len(time), -1)
    step = float(np.median(np.diff(time))) if len(time) > 1 else bin_size
    if bin_size is not None and step is not None and not np.isclose(step, bin_size, rtol=0.1):
        raise InputError(
            f"activity has a sample every {step:g} s, not every bin_size={bin_size:g} s: use "
            f"activity.bin_average({bin_size:g}), or leave bin_size out",
            parameter="bin_size",
        )
    if is_restricted:
        inside = _interval_of_bins(support, time) >= 0
        if not inside.any():
            raise InputError(
                f"time_support leaves no bin of activity, which covers {time[0]:g} to {time[-1]:g} s: the two do not "
                "overlap",
                parameter="time_support",
            )
        time, values = time[inside], values[inside]
    if kind is None:
        known = values[np.isfinite(values)]
        kind = "counts" if (known >= 0).all() and (known == np.round(known)).all() else "signal"
    ids = [str(name) for name in activity.columns] if is_pynapple(activity, "TsdFrame") else ["0"]
    return {"activity": values, "time": time, "bin_size": bin_size or step, "unit_ids": ids, "kind": kind}


def _times(name: str, series: Any) -> np.ndarray:
    """Return the times of a series, seconds; raise InputError if they are NaN. pynapple sorts them."""
    times = np.asarray(series.index.values, dtype=float)
    missing = int(np.isnan(times).sum())
    if missing:
        raise InputError(f"{name} has {missing} times that are NaN: leave these samples out", parameter="time")
    return times


def behavior_at(name: str, value: Any, time: np.ndarray | None, circular: bool = False) -> Any:
    """Return a behavior from pynapple at the centers of bins; anything else is returned unchanged.

    Parameters
    ----------
    name : str
        Name of the argument, for messages.
    value : Tsd, TsdFrame, IntervalSet, or anything else
        A series is interpolated linearly inside its time support and is NaN elsewhere, and where more than four samples
        are missing. Intervals become labels: whether a bin is inside, or, if they have one column of metadata, its
        value, with None outside.
    time : (time,) or None
        Bin centers, seconds; None if they are not known.
    circular : bool
        Take the nearest sample instead of interpolating, since angles jump at the period.

    Raises
    ------
    InputError
        If the behavior does not overlap with the bins, its times repeat, or the bins have no times.
    """
    if not is_pynapple(value):
        return value
    if not is_pynapple(value, "Tsd", "TsdFrame", "IntervalSet"):
        message = f"{name} must be a Tsd, TsdFrame or IntervalSet, got a {type(value).__name__}"
        raise InputError(message, parameter=name)
    if time is None:
        message = f"{name} has times, but the bins have none: give the latents or bins with their times"
        raise InputError(message, parameter=name)
    support = value.values if is_pynapple(value, "IntervalSet") else value.time_support.values
    inside = _interval_of_bins(support, time)
    if (inside < 0).all():
        covered = f"covers {support[0, 0]:g} to {support[-1, 1]:g} s" if len(support) else "is empty"
        raise InputError(
            f"{name} {covered} and the bins {time[0]:g} to {time[-1]:g} s: they do not overlap",
            parameter=name,
        )
    if is_pynapple(value, "IntervalSet"):
        return _labels_of_intervals(name, value, inside)
    times, values = _times(name, value), as_floats(name, value.values)
    if (np.diff(times) <= 0).any():
        first = times[int(np.argmax(np.diff(times) <= 0))]
        message = f"{name} has several samples at {first:g} s: times must increase; drop the repeated ones"
        raise InputError(message, parameter=name)
    period = sampling_period(times)
    result = np.full((len(time), *values.shape[1:]), np.nan)
    for number, (start, stop) in enumerate(support):
        bins, samples = inside == number, (times >= start) & (times <= stop)
        if bins.any() and samples.any():
            result[bins] = interpolate(times[samples], values[samples], time[bins], period, circular)
    return result


def _interval_of_bins(support: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Return the number of the interval that each bin center is in, (time,) int; -1 outside of all."""
    if len(support) == 0:
        return np.full(len(time), -1)
    number = np.searchsorted(support[:, 0], time, side="right") - 1
    return np.where((number >= 0) & (time <= support[number, 1]), number, -1)


def _labels_of_intervals(name: str, value: Any, inside: np.ndarray) -> np.ndarray:
    """Return the label of the interval that each bin is in."""
    columns = list(getattr(value, "metadata_columns", []))
    if len(columns) > 1:
        raise InputError(
            f"{name} has the columns {', '.join(map(repr, columns))}: give intervals with one of them, "
            "which holds the labels",
            parameter=name,
        )
    if not columns:
        return inside >= 0
    labels = np.full(len(inside), None, dtype=object)
    column = np.asarray(value.get_info(columns[0])).tolist()
    for index in np.flatnonzero(inside >= 0):
        labels[index] = column[inside[index]]
    return labels


def to_tsdframe(
    time: np.ndarray, columns: Mapping[str, np.ndarray], segments: Sequence[slice], bin_size: float, use: str
) -> Any:
    """Return columns (time,) as a `TsdFrame` whose time support are the segments, from the first to the last bin edge.

    Raises
    ------
    InputError
        If pynapple is not installed, or the times of the bins do not increase.
    """
    pynapple = import_optional("pynapple", use, "interop")
    if (np.diff(time) <= 0).any():
        raise InputError(f"{use} needs times that increase: convert every trial by itself", parameter="time")
    half = 0.5 * (bin_size or 1e-3) * (1 - 1e-6)  # intervals that touch would be joined
    support = pynapple.IntervalSet(
        [time[s.start] - half for s in segments], [time[s.stop - 1] + half for s in segments]
    )
    return pynapple.TsdFrame(
        t=time, d=np.stack(list(columns.values()), axis=1), columns=list(columns), time_support=support
    )
