"""Reading of activity that is sampled in time: traces of ROIs, rates, counts and band power."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kalmanssl.data._binning import sampling_period
from kalmanssl.data._sample_bins import SampleBins
from kalmanssl.data.nwb._access import (
    find,
    find_group,
    location,
    read_numbers,
    read_scaling,
    read_text,
    require_dataset,
    text_attribute,
)
from kalmanssl.data.nwb._activity_sources import ActivitySource
from kalmanssl.data.nwb._columns import n_rows, read_column_values
from kalmanssl.data.nwb._series_columns import Columns, choose_columns
from kalmanssl.data.nwb._times import distinct_times, read_times
from kalmanssl.errors import InputError
from kalmanssl.utils.text import shorten

if TYPE_CHECKING:
    import h5py

__all__ = ["SampledActivity", "activity_kind", "complete_columns", "read_sample_times", "read_sampled"]

_EVENTS = re.compile(r"deconv|event|spike|count|inferred", re.IGNORECASE)
_RATES = re.compile(r"rate|freq|prob|hz", re.IGNORECASE)


@dataclass(frozen=True)
class SampledActivity:
    """Samples of activity, before they are brought to bins.

    Attributes
    ----------
    times : (samples,)
        Increasing, seconds.
    values : (samples, columns) float32
        Not finite in samples that are not usable.
    usable : (samples,) bool
        Whether all values of a sample are known.
    period : float
        Sampling period, seconds.
    names : tuple of str
    kind : {"counts", "signal"}
        Counts and amplitudes of events are summed in a bin, signals are averaged.
    cell_type : tuple of str, or None
    notes, corrections : list of str
        Choices of columns; corrections of times and columns that were left out.
    """

    times: np.ndarray
    values: np.ndarray
    usable: np.ndarray
    period: float
    names: tuple[str, ...]
    kind: Literal["counts", "signal"]
    cell_type: tuple[str, ...] | None
    notes: list[str]
    corrections: list[str]

    def in_bins(self, bins: SampleBins) -> np.ndarray:
        """Return the activity (bins, columns): sums of counts, averages of signals."""
        return bins.sums(self.values) if self.kind == "counts" else bins.means(self.values)


def read_sample_times(
    series: h5py.Group, extent: tuple[float, float] | None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return times (samples,), the rows of the data that have them, and notes on corrections."""
    shape = require_dataset(series, "data").shape
    name = location(series)
    if not shape or 0 in shape:
        raise InputError(f"series {name} has no samples: its data has shape {shape}; choose another")
    times, notes = read_times(series, shape[0], extent)
    rows, remarks = distinct_times(name, times)
    if len(rows) < 2:
        raise InputError(f"series {name} has fewer than two samples with a time; choose another")
    return times[rows], rows, notes + remarks


def read_sampled(
    file: h5py.File,
    source: ActivitySource,
    units: str | Mapping[str, Any],
    extent: tuple[float, float] | None,
    windows: list[tuple[float, float]],
) -> SampledActivity:
    """Read traces, rates, counts or stored band power; of several imaging planes all, at the times of the first.

    Raises
    ------
    InputError
        If the series has no times, its shape does not match its table, or values are missing.
    """
    if source.planes:
        return join_planes(source, [read_sampled(file, plane, units, extent, windows) for plane in source.planes])
    series = find(file, source.path)
    times, rows, notes = read_sample_times(series, extent)
    data = require_dataset(series, "data")
    if data.ndim not in (1, 2) and not (data.ndim == 3 and source.kind == "DecompositionSeries"):
        raise InputError(f"series {source.path} has shape {data.shape}; activity must be (time, units)")
    columns = choose_columns(series, source, units, 1 if data.ndim == 1 else data.shape[1])
    values = _read_values(data, rows, columns)
    if source.kind == "DecompositionSeries":
        columns = _split_bands(series, source.path, columns, data.shape)
    inside = np.zeros(len(times), dtype=bool)
    for start, stop in windows:
        inside[slice(*np.searchsorted(times, [start - 1e-9, stop + 1e-9]))] = True
    finite = np.isfinite(values)
    usable = finite.any(axis=1) & inside
    keep, remarks = complete_columns(source.path, columns.names, finite[usable], units)
    if len(keep) < len(columns.names):
        values = values[:, keep]
    if (~finite.any(axis=1) & inside).any():
        missing = int((~finite.any(axis=1) & inside).sum())
        remarks.append(f"{source.path}: {missing} samples without any known value are gaps of the recording")
    cell_type = None if columns.cell_type is None else tuple(columns.cell_type[i] for i in keep)
    return SampledActivity(
        times=times,
        values=values,
        usable=usable,
        period=sampling_period(times),
        names=tuple(columns.names[i] for i in keep),
        kind=activity_kind(series, source, values[usable]),
        cell_type=cell_type,
        notes=columns.notes,
        corrections=notes + remarks,
    )


def join_planes(source: ActivitySource, planes: list[SampledActivity]) -> SampledActivity:
    """Join the activity of imaging planes that are sampled in turn, each at the samples next to those of the first.

    Parameters
    ----------
    source : ActivitySource
        With the `planes`.
    planes : list of SampledActivity

    Raises
    ------
    InputError
        If the planes have different sampling periods, some have events and others signals, or they have no samples
        at the same time.
    """
    first = planes[0]
    slowest, fastest = max(p.period for p in planes), min(p.period for p in planes)
    if slowest > 1.02 * fastest or len({plane.kind for plane in planes}) > 1:
        paths = ", ".join(plane.path for plane in source.planes)
        raise InputError(
            f"the planes of {source.path} have different sampling rates or kinds of traces and cannot be joined; "
            f"name one of: {shorten(paths)}",
            parameter="activity",
        )
    values, usable = [first.values], first.usable.copy()
    for plane in planes[1:]:
        after = np.clip(np.searchsorted(plane.times, first.times), 1, len(plane.times) - 1)
        is_before = first.times - plane.times[after - 1] <= plane.times[after] - first.times
        nearest = np.where(is_before, after - 1, after)
        usable &= plane.usable[nearest] & (np.abs(plane.times[nearest] - first.times) <= 0.75 * plane.period)
        values.append(plane.values[nearest])
    if not usable.any():
        paths = ", ".join(plane.path for plane in source.planes)
        raise InputError(
            f"the planes of {source.path} have no samples at the same time; name one of: {shorten(paths)}",
            parameter="activity",
        )
    names = [f"{one.name}/{name}" for one, p in zip(source.planes, planes, strict=True) for name in p.names]
    types = [p.cell_type for p in planes if p.cell_type is not None]
    joined = f"{source.path}: {len(planes)} planes are read together, each at the samples nearest to those of the first"
    return replace(
        first,
        values=np.concatenate(values, axis=1),
        usable=usable,
        names=tuple(names),
        cell_type=tuple(t for one in types for t in one) if len(types) == len(planes) else None,
        notes=[joined, *(f"{one.name}: {n}" for one, p in zip(source.planes, planes, strict=True) for n in p.notes)],
        corrections=[note for plane in planes for note in plane.corrections],
    )


def _read_values(data: h5py.Dataset, rows: np.ndarray, columns: Columns) -> np.ndarray:
    """Return the chosen rows and columns as float32 (samples, columns) in the unit of the series."""
    values = read_numbers(data, (1, 2, 3))
    values = values.reshape(len(values), 1) if values.ndim == 1 else values
    if len(rows) < len(values):
        values = values[rows]
    if len(columns.numbers) < values.shape[1]:
        values = values[:, columns.numbers]
    values = values.reshape(len(values), -1)
    conversion, offset = read_scaling(data)
    if (conversion, offset) != (1.0, 0.0):
        values = values * conversion + offset
    return np.asarray(values, dtype=np.float32)


def _split_bands(series: h5py.Group, path: str, columns: Columns, shape: tuple[int, ...]) -> Columns:
    """Return one column for each channel and band; check that the series has power or amplitude."""
    metric = read_text(series, "metric") or ""
    if "phase" in metric.lower():
        raise InputError(f"series {path} has phases, which cannot be averaged; choose a series of power or amplitude")
    if len(shape) < 3:
        return columns
    n_bands = shape[2]
    table = find_group(series, "bands")
    if table is not None and n_rows(table) != n_bands:
        raise InputError(
            f"series {path} has {n_bands} bands in its data but {n_rows(table)} in its table of bands; repair the file"
        )
    if table is not None and find(table, "band_name") is not None:
        bands = [str(b) for b in read_column_values(table, "band_name")]
    else:
        bands = [f"band{b}" for b in range(n_bands)]
    names = tuple(f"{channel}/{band}" for channel in columns.names for band in bands)
    return Columns(np.arange(len(names)), names, None, columns.notes)


def complete_columns(
    path: str, names: tuple[str, ...], finite: np.ndarray, units: str | Mapping[str, Any]
) -> tuple[np.ndarray, list[str]]:
    """Return the numbers of the columns without NaN, and a note that names the others.

    Raises
    ------
    InputError
        If nothing is known, a column has NaN and was selected by `units` ("all" or a dict), or no column is complete.
    """
    if not len(finite):
        raise InputError(
            f"series {path} has no known values in this time; choose another epoch or series", parameter="epoch"
        )
    complete = finite.all(axis=0)
    if not complete.any():
        raise InputError(
            f"series {path} has no column without NaN in this time; choose another series or epoch",
            parameter="activity",
        )
    if complete.all():
        return np.arange(len(names)), []
    wrong = [names[i] for i in np.flatnonzero(~complete)]
    shown = shorten(", ".join(wrong[:8]) + (", ..." if len(wrong) > 8 else ""))
    what = f"{path}: {len(wrong)} of {len(names)} columns have NaN or infinite values ({shown})"
    if units != "auto":
        raise InputError(f"{what}; select others, or leave them out with units='auto'", parameter="units")
    return np.flatnonzero(complete), [f"{what} and are left out (units='all' refuses them)"]


def activity_kind(series: h5py.Group, source: ActivitySource, values: np.ndarray) -> Literal["counts", "signal"]:
    """Return "counts" for events, which are not negative and are named as such; otherwise "signal"."""
    unit = text_attribute(require_dataset(series, "data"), "unit")
    if source.kind in ("DecompositionSeries", "ElectricalSeries") or _RATES.search(f"{source.name} {unit}"):
        return "signal"
    named = _EVENTS.search(f"{source.path.split('/', 1)[1]} {unit}") is not None
    return "counts" if named and (not values.size or values.min() >= 0) else "signal"
