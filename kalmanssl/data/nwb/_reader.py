"""Reading of activity, behavior and epochs from NWB files.

Files are read with h5py instead of pynwb: the layout of these groups is the same in all versions of NWB 2, h5py loads
ten times faster, and parts of the file that are not needed, such as extensions, are not read.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data._binning import BIN_SIZE
from kalmanssl.data._sample_bins import default_bin_size, plan_bins
from kalmanssl.data._validation import check_activity, check_time
from kalmanssl.data.nwb._access import decode_text, find, find_group, location, read_numbers, read_text, require_dataset
from kalmanssl.data.nwb._activity_sources import BINNED, UNITS, ActivitySource, choose_activity
from kalmanssl.data.nwb._band_power import BandPower, read_band_power
from kalmanssl.data.nwb._columns import read_column_values
from kalmanssl.data.nwb._interval_columns import COLUMN, INTERVAL_SERIES, IntervalColumn, find_columns, read_column
from kalmanssl.data.nwb._interval_table import read_intervals
from kalmanssl.data.nwb._open import open_nwb, path_text
from kalmanssl.data.nwb._read_options import ReadOptions
from kalmanssl.data.nwb._sampled_activity import SampledActivity, read_sampled
from kalmanssl.data.nwb._series import Samples, Series, choose_series, find_series, read_series
from kalmanssl.data.nwb._spike_bins import bin_spikes
from kalmanssl.data.nwb._tables import choose_units, read_spikes, table_extent, unit_names
from kalmanssl.data.nwb._times import read_times
from kalmanssl.data.nwb._walk import naming_broken_links
from kalmanssl.data.nwb._windows import intersect, merge, subtract, tracked_windows
from kalmanssl.errors import InputError, RecordingWarning
from kalmanssl.utils.segments import in_intervals
from kalmanssl.utils.text import shorten
from kalmanssl.utils.validation import short_repr

if TYPE_CHECKING:
    import h5py

__all__ = ["read_nwb"]

_Windows = list[tuple[float, float]]
_ALL_TIME = [(-np.inf, np.inf)]
_INVALID = "invalid_times"  # the table of NWB files for time that is not to be used


@dataclass(frozen=True)
class _Activity:
    """Activity in bins.

    Attributes
    ----------
    fields : dict
        Fields of a `Recording`, `activity` and `time` among them.
    notes, corrections : list of str
        What was chosen; what was corrected in the file, for warnings.
    """

    fields: dict[str, Any]
    notes: list[str]
    corrections: list[str]


@dataclass(frozen=True)
class _BehaviorSeries:
    """Series and columns of behavior by the name under which they are stored, and corrections of them."""

    series: dict[str, Samples | IntervalColumn]
    corrections: list[str]

    @property
    def main(self) -> Samples | IntervalColumn | None:
        """The first one, which determines the tracked time; None if there is none."""
        return next(iter(self.series.values()), None)


def read_nwb(path: str | os.PathLike[str], options: ReadOptions) -> dict[str, Any]:
    """Read the fields of a `Recording`; see `Recording.from_nwb`."""
    options.check()
    left_out: list[str] = []
    with open_nwb(path) as file, naming_broken_links(file), _naming(left_out):
        epochs, wrong_epochs = read_intervals(file)
        identifier = read_text(file, "identifier") or ""
        allowed, notes = _without_invalid(_epoch_windows(epochs, options.epoch, path), epochs, options.epoch)
        left_out += notes
        source = choose_activity(file, options.activity, path)
        if options.bands is not None and source.kind != "ElectricalSeries":
            raise InputError(
                f"the activity is {source.path}, which is not a field potential and has no bands: choose a field "
                "potential by its name with activity, or leave bands out",
                parameter="bands",
            )
        others = [s for s in find_series(file) if s.path != source.path]
        chosen = choose_series(others, options.behavior, find_columns(file))
        if source.kind == UNITS:
            activity, behavior = _read_units(file, options, chosen, allowed)
        elif source.kind == BINNED:
            activity = _read_binned(file, options.bin_size)
            behavior = _read_behavior(file, chosen, table_extent(file, [activity.fields["time"]]))
            if allowed != _ALL_TIME:
                activity = _restrict(activity, allowed, options.epoch, path)
        else:
            behavior = _read_behavior(file, chosen, table_extent(file, []))
            activity = _read_samples(file, source, options, behavior.main, allowed)
    corrections = [*wrong_epochs, *activity.corrections, *behavior.corrections]
    for note in corrections:
        warnings.warn(note, RecordingWarning, stacklevel=3)
    time = activity.fields["time"]
    return activity.fields | {
        "behavior": {key: s.at(time) for key, s in behavior.series.items()},
        "behavior_unit": {key: s.unit for key, s in behavior.series.items()},
        "epochs": epochs,
        "source": decode_text(Path(path).name),
        "session": identifier,
        "notes": (*activity.notes, *left_out, *corrections),
    }


@contextmanager
def _naming(left_out: list[str]) -> Iterator[None]:
    """Add the time that was left out, if there is any, to the message that nothing is in the rest of the time."""
    try:
        yield
    except InputError as error:
        if error.parameter != "epoch" or not left_out:
            raise
        raise InputError(f"{error}; {'; '.join(left_out)}", parameter="epoch") from error


def _epoch_windows(epochs: dict[str, np.ndarray], epoch: str | None, path: object) -> _Windows:
    """Return the windows of time of an epoch; all time if it is None."""
    if epoch is None:
        return _ALL_TIME
    if epoch not in epochs:
        listing = shorten(", ".join(sorted(epochs))) or "none"
        raise InputError(
            f"epoch={short_repr(epoch)} is not in {path_text(path)}; its epochs: {listing}", parameter="epoch"
        )
    return merge([(float(a), float(b)) for a, b in epochs[epoch]])


def _without_invalid(allowed: _Windows, epochs: dict[str, np.ndarray], epoch: str | None) -> tuple[_Windows, list[str]]:
    """Leave the invalid times of a file out of windows, unless they were asked for; also return a note on them."""
    if _INVALID not in epochs or epoch == _INVALID:
        return allowed, []
    invalid = merge([(float(a), float(b)) for a, b in epochs[_INVALID]])
    kept = subtract(allowed, invalid)
    if kept == allowed:
        return allowed, []
    if not kept:
        raise InputError("all of the time is in intervals/invalid_times; choose another epoch", parameter="epoch")
    seconds = sum(b - a for a, b in intersect(allowed, invalid))
    amount = f"{seconds:.4g} s" if np.isfinite(seconds) else "times without an end"
    return kept, [f"intervals/invalid_times: {amount} are marked as invalid in the file and are left out"]


def _read_behavior(file: h5py.File, chosen: dict[str, Series], extent: tuple[float, float] | None) -> _BehaviorSeries:
    """Read the chosen series and columns; `extent` is the time range of spikes and epochs, seconds."""
    series: dict[str, Samples | IntervalColumn] = {}
    corrections = []
    for key, where in chosen.items():
        if where.kind in (COLUMN, INTERVAL_SERIES):
            series[key] = read_column(file, where)
            continue
        series[key], corrected = read_series(find_group(file, where.path), extent)
        corrections += corrected
    return _BehaviorSeries(series, corrections)


def _read_units(
    file: h5py.File, options: ReadOptions, chosen: dict[str, Series], allowed: _Windows
) -> tuple[_Activity, _BehaviorSeries]:
    """Read the selected units and behavior, and count the spikes in bins where both are known."""
    table = find_group(file, "units")
    units = choose_units(table, options.units)
    names, remark = unit_names(table, units.rows)
    spikes = read_spikes(table, units.rows)
    allowed = merge(intersect(allowed, merge(spikes.observed or [(-np.inf, np.inf)])))
    behavior = _read_behavior(file, chosen, table_extent(file, spikes.times))
    bin_size = BIN_SIZE if options.bin_size is None else options.bin_size
    binned, notes = bin_spikes(spikes.times, allowed, behavior.main, bin_size, options.random_state, names)
    fields = {
        "activity": binned.counts,
        "time": binned.time,
        "bin_size": float(bin_size),
        "spike_times": binned.kept,
        "unit_ids": names,
        "cell_type": units.cell_type,
    }
    return _Activity(fields, units.notes + remark + notes, spikes.corrections), behavior


def _read_samples(
    file: h5py.File,
    source: ActivitySource,
    options: ReadOptions,
    main: Samples | IntervalColumn | None,
    allowed: _Windows,
) -> _Activity:
    """Read sampled activity and bring it to bins in the time where the first behavior is tracked."""
    extent = table_extent(file, [] if main is None else [main.tracked()])
    if main is not None:
        allowed = tracked_windows(allowed, main.tracked(), 0.5 * main.period)
        if not allowed:
            raise InputError("there is no tracked behavior in the epoch; choose another epoch", parameter="epoch")
    if source.kind == "ElectricalSeries":
        samples: BandPower | SampledActivity = read_band_power(file, source, options.units, extent, options.bands)
    else:
        samples = read_sampled(file, source, options.units, extent, allowed)
    bin_size = default_bin_size(samples.period) if options.bin_size is None else float(options.bin_size)
    summed = samples.kind == "counts"
    bins = plan_bins(samples.times, samples.usable, allowed, samples.period, bin_size, summed, source.path)
    if not len(bins.time):
        raise InputError(
            f"no bin of {bin_size:g} s fits into the time of {source.path} with tracked behavior and without gaps; "
            "choose smaller bins, another behavior or another epoch",
            parameter="bin_size",
        )
    how = "summed" if summed else "averaged"
    notes = [f"activity: {source.path}, {len(samples.names)} columns at {1 / samples.period:.4g} Hz, {how} in bins"]
    left_out = len(samples.times) - len(bins.rows)
    if left_out:
        notes.append(f"{source.path}: {left_out} of {len(samples.times)} samples are in gaps or outside of the bins")
    fields = {
        "activity": np.asarray(samples.in_bins(bins), dtype=np.float32),
        "time": bins.time,
        "bin_size": bin_size,
        "unit_ids": samples.names,
        "cell_type": samples.cell_type,
        "kind": samples.kind,
    }
    return _Activity(fields, notes + samples.notes, samples.corrections)


def _restrict(activity: _Activity, allowed: _Windows, epoch: str | None, path: object) -> _Activity:
    """Return the activity in the bins in the windows of an epoch."""
    time = activity.fields["time"]
    keep = in_intervals(np.array(allowed), time)
    if not keep.any():
        where = "the valid time" if epoch is None else f"epoch={epoch!r}"
        raise InputError(f"{where} has no bins in {path_text(path)}; choose another epoch", parameter="epoch")
    kept = {"activity": activity.fields["activity"][keep], "time": time[keep]}
    return replace(activity, fields=activity.fields | kept)


def _read_binned(file: h5py.File, bin_size: float | None) -> _Activity:
    """Read counts or a signal without spike times, as written by `to_nwb`."""
    module = find_group(file, "processing/binned")
    kind = "counts" if find_group(module, "signal") is None else "signal"
    series, channels = find_group(module, kind), find_group(module, "channels")
    if series is None or channels is None:
        raise InputError("processing/binned has no series of counts or no table channels; write the file again")
    widths = read_column_values(channels, "bin_size")
    if widths.dtype.kind not in "iuf" or not len(widths) or not (np.isfinite(widths).all() and widths[0] > 0):
        raise InputError(f"{location(channels)}/bin_size must be positive numbers; write the file again")
    width = float(widths[0])
    notes = []
    if bin_size is not None and not np.isclose(width, bin_size):
        notes.append(f"the file has bins of {width:g} s, not spike times: bin_size={bin_size:g} is ignored")
    values = read_numbers(require_dataset(series, "data"), (2,))
    times, _ = read_times(series, len(values), None)
    activity = check_activity(values, kind)
    names = tuple(str(name) for name in read_column_values(channels, "unit_id"))
    if len(names) != activity.shape[1]:
        raise InputError(
            f"{location(series)} has {activity.shape[1]} columns, but {location(channels)} has {len(names)} rows; "
            "write the file again"
        )
    fields: dict[str, Any] = {
        "activity": activity,
        "time": check_time(times, width, len(values))[0],
        "bin_size": width,
        "unit_ids": names,
        "kind": kind,
    }
    if find(channels, "cell_type") is not None:
        fields["cell_type"] = tuple(str(c) for c in read_column_values(channels, "cell_type"))
    return _Activity(fields, notes, [])
