"""Reading of activity, behavior and epochs from NWB files.

Files are read with h5py instead of pynwb: the layout of these groups is the same in all versions of NWB 2, h5py loads
ten times faster, and parts of the file that are not needed, such as extensions, are not read.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data._pynapple import BIN_SIZE
from kalmanssl.data._sample_bins import default_bin_size, plan_bins
from kalmanssl.data.nwb._activity_sources import BINNED, UNITS, ActivitySource, choose_activity
from kalmanssl.data.nwb._band_power import read_band_power
from kalmanssl.data.nwb._interval_columns import COLUMN, INTERVAL_SERIES, IntervalColumn, find_columns, read_column
from kalmanssl.data.nwb._open import open_nwb
from kalmanssl.data.nwb._sampled_activity import read_sampled
from kalmanssl.data.nwb._series import Behavior, Samples, Series, choose_series, decode_text, find_series, read_series
from kalmanssl.data.nwb._spike_bins import bin_spikes
from kalmanssl.data.nwb._tables import choose_units, read_epochs, spike_times, table_extent, unit_names
from kalmanssl.data.nwb._times import read_times
from kalmanssl.data.nwb._windows import intersect, merge, tracked_windows
from kalmanssl.errors import InputError, RecordingWarning
from kalmanssl.utils.validation import check_positive

if TYPE_CHECKING:
    import h5py

__all__ = ["ReadOptions", "read_nwb"]

_Windows = list[tuple[float, float]]


@dataclass(frozen=True)
class ReadOptions:
    """Arguments of `Recording.from_nwb`, which describes them."""

    bin_size: float | None = None
    units: str | Mapping[str, Any] = "auto"
    behavior: Behavior = None
    epoch: str | None = None
    random_state: int | None = 0
    activity: str | None = None
    bands: Mapping[str, tuple[float, float]] | None = None


def read_nwb(path: str | os.PathLike[str], options: ReadOptions) -> dict[str, Any]:
    """Read the fields of a `Recording`; see `Recording.from_nwb`."""
    if options.bin_size is not None:
        check_positive("bin_size", options.bin_size)
    with open_nwb(path) as file:
        epochs = read_epochs(file)
        identifier = decode_text(file["identifier"][()]).strip() if "identifier" in file else ""
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
    for note in corrections:
        warnings.warn(note, RecordingWarning, stacklevel=3)
    return fields | {
        "behavior": {key: s.at(fields["time"]) for key, s in series.items()},
        "behavior_unit": {key: s.unit for key, s in series.items()},
        "epochs": epochs,
        "source": Path(path).name,
        "session": identifier,
        "notes": (*notes, *corrections),
    }


def _epoch_windows(epochs: dict[str, np.ndarray], epoch: str | None, path: object) -> _Windows:
    """Return the windows of time of an epoch; all time if it is None."""
    if epoch is None:
        return [(-np.inf, np.inf)]
    if epoch not in epochs:
        listing = ", ".join(sorted(epochs)) or "none"
        raise InputError(f"epoch={epoch!r} is not in {path}; its epochs: {listing}", parameter="epoch")
    return [(float(a), float(b)) for a, b in epochs[epoch]]


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
        series[key], corrections = read_series(file[where.path], extent)
        notes += corrections
    return series, notes


def _read_spikes(
    file: h5py.File, options: ReadOptions, chosen: dict[str, Series], allowed: _Windows
) -> tuple[dict[str, Any], list[str], dict[str, Samples | IntervalColumn], list[str]]:
    """Read the selected units and behavior, and count the spikes in bins."""
    fields, spikes, observed, notes = _read_units(file, options.units)
    allowed = merge(intersect(merge(allowed), merge(observed or [(-np.inf, np.inf)])))
    series, corrections = _read_behavior(file, chosen, table_extent(file, spikes))
    main = next(iter(series.values()), None)
    bin_size = BIN_SIZE if options.bin_size is None else options.bin_size
    binned, more = bin_spikes(spikes, allowed, main, bin_size, options.random_state, fields["unit_ids"])
    return fields | binned, notes + more, series, corrections


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
        raise InputError(f"epoch={epoch!r} has no bins in {path}; choose another epoch", parameter="epoch")
    return {"activity": fields["activity"][keep], "time": fields["time"][keep]}


def _read_units(
    file: h5py.File, units: str | Mapping[str, Any]
) -> tuple[dict[str, Any], list[np.ndarray], list[tuple[float, float]], list[str]]:
    """Read the spike times of the selected units and their observation intervals (empty if unknown)."""
    table = file["units"]
    rows, cell_type, notes = choose_units(table, units)
    names, remark = unit_names(table, rows)
    spikes, observed = spike_times(table, rows)
    fields = {"unit_ids": names, "cell_type": cell_type}
    return fields, spikes, observed, notes + remark


def _read_binned(file: h5py.File, bin_size: float | None) -> tuple[dict[str, Any], list[str]]:
    """Read counts or a signal without spike times, as written by `to_nwb`."""
    module = file["processing/binned"]
    kind = "signal" if "signal" in module else "counts"
    channels = module["channels"]
    width = float(channels["bin_size"][0])
    notes = []
    if bin_size is not None and not np.isclose(width, bin_size):
        notes.append(f"the file has bins of {width:g} s, not spike times: bin_size={bin_size:g} is ignored")
    fields: dict[str, Any] = {
        "activity": np.asarray(module[kind]["data"][()], dtype=np.float32),
        "time": read_times(module[kind], len(module[kind]["data"]), None)[0],
        "bin_size": width,
        "unit_ids": tuple(decode_text(u) for u in channels["unit_id"][()]),
        "kind": kind,
    }
    if "cell_type" in channels:
        fields["cell_type"] = tuple(decode_text(c) for c in channels["cell_type"][()])
    return fields, notes
