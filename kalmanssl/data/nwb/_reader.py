"""Reading of activity, behavior and epochs from NWB files.

Files are read with h5py instead of pynwb: the layout of these groups is the same in all versions of NWB 2, h5py loads
ten times faster, and parts of the file that are not needed, such as extensions, are not read.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data._pynapple import BIN_SIZE
from kalmanssl.data._sample_bins import default_bin_size, plan_bins
from kalmanssl.data._validation import check_activity, check_time
from kalmanssl.data.nwb._access import decode_text, find, find_group, location, read_numbers, read_text, require_dataset
from kalmanssl.data.nwb._activity_sources import BINNED, UNITS, ActivitySource, choose_activity
from kalmanssl.data.nwb._band_power import read_band_power
from kalmanssl.data.nwb._columns import read_column_values
from kalmanssl.data.nwb._interval_columns import COLUMN, INTERVAL_SERIES, IntervalColumn, find_columns, read_column
from kalmanssl.data.nwb._interval_table import read_intervals
from kalmanssl.data.nwb._open import open_nwb, shown
from kalmanssl.data.nwb._read_options import ReadOptions
from kalmanssl.data.nwb._sampled_activity import read_sampled
from kalmanssl.data.nwb._series import Samples, Series, choose_series, find_series, read_series
from kalmanssl.data.nwb._spike_bins import bin_spikes
from kalmanssl.data.nwb._tables import choose_units, spike_times, table_extent, unit_names
from kalmanssl.data.nwb._times import read_times
from kalmanssl.data.nwb._walk import naming_broken_links
from kalmanssl.data.nwb._windows import intersect, merge, tracked_windows
from kalmanssl.errors import InputError, RecordingWarning
from kalmanssl.utils.text import shorten
from kalmanssl.utils.validation import short_repr

if TYPE_CHECKING:
    import h5py

__all__ = ["read_nwb"]

_Windows = list[tuple[float, float]]


def read_nwb(path: str | os.PathLike[str], options: ReadOptions) -> dict[str, Any]:
    """Read the fields of a `Recording`; see `Recording.from_nwb`."""
    options.check()
    with open_nwb(path) as file, naming_broken_links(file):
        epochs, wrong_epochs = read_intervals(file)
        identifier = read_text(file, "identifier") or ""
        allowed = _epoch_windows(epochs, options.epoch, path)
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
            fields, notes, series, corrections = _read_spikes(file, options, chosen, allowed)
        elif source.kind == BINNED:
            fields, notes = _read_binned(file, options.bin_size)
            series, corrections = _read_behavior(file, chosen, table_extent(file, [fields["time"]]))
            if options.epoch is not None:
                fields |= _restrict(fields, allowed, options.epoch, path)
        else:
            series, corrections = _read_behavior(file, chosen, table_extent(file, []))
            main = next(iter(series.values()), None)
            fields, notes, more = _read_samples(file, source, options, main, allowed)
            corrections += more
    for note in wrong_epochs + corrections:
        warnings.warn(note, RecordingWarning, stacklevel=3)
    return fields | {
        "behavior": {key: s.at(fields["time"]) for key, s in series.items()},
        "behavior_unit": {key: s.unit for key, s in series.items()},
        "epochs": epochs,
        "source": decode_text(Path(path).name),
        "session": identifier,
        "notes": (*notes, *wrong_epochs, *corrections),
    }


def _epoch_windows(epochs: dict[str, np.ndarray], epoch: str | None, path: object) -> _Windows:
    """Return the windows of time of an epoch; all time if it is None."""
    if epoch is None:
        return [(-np.inf, np.inf)]
    if epoch not in epochs:
        listing = shorten(", ".join(sorted(epochs))) or "none"
        raise InputError(f"epoch={short_repr(epoch)} is not in {shown(path)}; its epochs: {listing}", parameter="epoch")
    return merge([(float(a), float(b)) for a, b in epochs[epoch]])


def _read_behavior(
    file: h5py.File, chosen: dict[str, Series], extent: tuple[float, float] | None
) -> tuple[dict[str, Samples | IntervalColumn], list[str]]:
    """Read the chosen series and columns; also return notes on corrections."""
    series: dict[str, Samples | IntervalColumn] = {}
    notes = []
    for key, where in chosen.items():
        if where.kind in (COLUMN, INTERVAL_SERIES):
            series[key] = read_column(file, where)
            continue
        series[key], corrections = read_series(find_group(file, where.path), extent)
        notes += corrections
    return series, notes


def _read_spikes(
    file: h5py.File, options: ReadOptions, chosen: dict[str, Series], allowed: _Windows
) -> tuple[dict[str, Any], list[str], dict[str, Samples | IntervalColumn], list[str]]:
    """Read the selected units and behavior, and count the spikes in bins."""
    fields, spikes, observed, notes, stray = _read_units(file, options.units)
    allowed = merge(intersect(merge(allowed), merge(observed or [(-np.inf, np.inf)])))
    series, corrections = _read_behavior(file, chosen, table_extent(file, spikes))
    main = next(iter(series.values()), None)
    bin_size = BIN_SIZE if options.bin_size is None else options.bin_size
    binned, more = bin_spikes(spikes, allowed, main, bin_size, options.random_state, fields["unit_ids"])
    return fields | binned, notes + more, series, stray + corrections


def _read_samples(
    file: h5py.File,
    source: ActivitySource,
    options: ReadOptions,
    main: Samples | IntervalColumn | None,
    allowed: _Windows,
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Read sampled activity and bring it to bins; also return notes and corrections.

    The bins are in the time where the first behavior is tracked.
    """
    extent = table_extent(file, [] if main is None else [main.tracked()])
    if main is not None:
        allowed = tracked_windows(merge(allowed), main.tracked(), 0.5 * main.period)
        if not allowed:
            raise InputError("there is no tracked behavior in the epoch; choose another epoch", parameter="epoch")
    if source.kind == "ElectricalSeries":
        samples: Any = read_band_power(file, source, options.units, extent, options.bands)
    else:
        samples = read_sampled(file, source, options.units, extent, allowed)
    bin_size = default_bin_size(samples.period) if options.bin_size is None else float(options.bin_size)
    windows = merge(allowed)
    summed = samples.kind == "counts"
    bins = plan_bins(samples.times, samples.usable, windows, samples.period, bin_size, summed, source.path)
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
        notes.append(f"{source.path}: {left_out} of {len(samples.times)} samples are outside the bins")
    fields = {
        "activity": np.asarray(samples.in_bins(bins), dtype=np.float32),
        "time": bins.time,
        "bin_size": bin_size,
        "unit_ids": samples.names,
        "cell_type": samples.cell_type,
        "kind": samples.kind,
    }
    return fields, notes + samples.notes, samples.corrections


def _restrict(fields: dict[str, Any], allowed: _Windows, epoch: str, path: object) -> dict[str, Any]:
    """Return the activity and the time of the bins in the windows of an epoch."""
    keep = np.any([(fields["time"] >= a) & (fields["time"] < b) for a, b in allowed], axis=0)
    if not keep.any():
        raise InputError(f"epoch={epoch!r} has no bins in {shown(path)}; choose another epoch", parameter="epoch")
    return {"activity": fields["activity"][keep], "time": fields["time"][keep]}


def _read_units(
    file: h5py.File, units: str | Mapping[str, Any]
) -> tuple[dict[str, Any], list[np.ndarray], list[tuple[float, float]], list[str], list[str]]:
    """Read the spike times of the selected units and their observation intervals (empty if unknown).

    Also return notes and corrections.
    """
    table = find_group(file, "units")
    rows, cell_type, notes = choose_units(table, units)
    names, remark = unit_names(table, rows)
    spikes, observed, corrections = spike_times(table, rows)
    fields = {"unit_ids": names, "cell_type": cell_type}
    return fields, spikes, observed, notes + remark, corrections


def _read_binned(file: h5py.File, bin_size: float | None) -> tuple[dict[str, Any], list[str]]:
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
    return fields, notes
