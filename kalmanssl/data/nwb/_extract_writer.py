"""Writing of units, behavior and intervals that were read from another NWB file."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np

from kalmanssl.data.nwb._extract_content import BehaviorSeries, Content, Table, read_content
from kalmanssl.data.nwb._open import open_nwb
from kalmanssl.data.nwb._output_series import compress, time_fields
from kalmanssl.data.nwb._output_session import new_file
from kalmanssl.errors import InputError
from kalmanssl.utils.storage import replace_file

__all__ = ["write_content"]

_SPATIAL = ("Position", "CompassDirection")
_TEMPORAL = ("BehavioralTimeSeries", "BehavioralEvents", "PupilTracking")


def write_content(content: Content, path: str | os.PathLike[str], source: str, overwrite: bool = False) -> None:
    """Write an NWB file under a temporary name, read it back to check it, and rename it.

    Parameters
    ----------
    content : Content
    path : path
    source : str
        Where the content is from; written to the notes of the file.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    InputError
        If the file exists or cannot be written; nothing is changed then.
    """
    from pynwb import NWBHDF5IO

    def write(unfinished: Path) -> None:
        try:
            with NWBHDF5IO(str(unfinished), "w") as io:
                io.write(_nwb(content, source))
        except (OSError, RuntimeError) as error:  # HDF5 has no error codes of its own
            if "No space left" in str(error):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
            raise
        with open_nwb(unfinished) as file:
            difference = _difference(content, read_content(file))
        if difference:
            raise InputError(f"{path}: {difference} differ after writing; check the disk and try again")

    replace_file(path, write, overwrite)


def _nwb(content: Content, source: str) -> Any:
    notes = "; ".join((source, *content.notes))
    nwb = new_file(content.description or "not known", {**content.metadata, "notes": notes})
    nwb.units = _dynamic_table("units", content.units, units=True)
    nwb.units.resolution = content.resolution
    for name, table in content.tables.items():
        intervals = _dynamic_table(name, table, units=False)
        if name in ("epochs", "trials", "invalid_times"):
            setattr(nwb, name, intervals)
        else:
            nwb.add_time_intervals(intervals)
    if content.series:
        _add_behavior(nwb.create_processing_module("behavior", "behavior"), content.series)
    return nwb


def _dynamic_table(name: str, table: Table, *, units: bool) -> Any:
    """Return a table of pynwb; columns are passed as arrays, since adding row by row is slow."""
    from hdmf.common import VectorData, VectorIndex
    from pynwb.epoch import TimeIntervals
    from pynwb.misc import Units

    columns: list[Any] = []
    for column, entries in table.columns.items():
        data = VectorData(name=column, description=entries.description, data=_storable(entries.values))
        if entries.ends is not None:
            columns.append(VectorIndex(name=f"{column}_index", data=entries.ends.astype(np.uint64), target=data))
        columns.append(data)
    kind = Units if units else TimeIntervals
    return kind(name=name, description=table.description, id=table.ids.tolist(), columns=columns)


def _storable(values: np.ndarray) -> Any:
    """Return text as a list, which HDF5 can store, and numbers compressed."""
    return [str(value) for value in values] if values.dtype == object else compress(values)


def _add_behavior(module: Any, series: tuple[BehaviorSeries, ...]) -> None:
    """Add each series to a container of the same name and kind as in its source."""
    from pynwb import behavior

    containers: dict[str, Any] = {}
    for one in series:
        kind, name = one.where.container_kind, one.where.container
        spatial = one.where.kind == "SpatialSeries"
        made = _time_series(one, spatial)
        if kind not in (_SPATIAL if spatial else _TEMPORAL):
            module.add(made)
            continue
        if name not in containers:
            containers[name] = getattr(behavior, kind)(name=name)
            module.add(containers[name])
        (containers[name].add_spatial_series if spatial else containers[name].add_timeseries)(made)


def _time_series(one: BehaviorSeries, spatial: bool) -> Any:
    from pynwb.base import TimeSeries
    from pynwb.behavior import SpatialSeries

    samples = one.samples
    times = time_fields(samples.times) if one.has_rate else {"timestamps": samples.times}
    common = {"name": one.where.name, "description": one.description, **times}
    if samples.labels is not None:
        codes = np.where(np.isfinite(samples.values), samples.values, -1).astype(int)
        if samples.labels.dtype == object and all(isinstance(label, bool) for label in samples.labels):
            return TimeSeries(data=codes.astype(bool), unit="label", **common)
        return TimeSeries(data=["" if c < 0 else str(samples.labels[c]) for c in codes], unit="label", **common)
    unit = samples.unit or "unknown"
    if spatial:
        return SpatialSeries(data=samples.values, unit=unit, reference_frame=one.reference_frame, **common)
    return TimeSeries(data=samples.values, unit=unit, **common)


def _difference(first: Content, second: Content) -> str:
    """Return the name of the first part that differs, "" if all are equal."""
    pairs = [(name, first.tables[name], second.tables.get(name)) for name in first.tables]
    pairs.append(("units", first.units, second.units))
    for name, one, other in pairs:
        if other is None or not np.array_equal(one.ids, other.ids) or one.columns.keys() != other.columns.keys():
            return name
        for column, entries in one.columns.items():
            back = other.columns[column]
            if not _same(entries.values, back.values) or not _same(entries.ends, back.ends):
                return f"{name}/{column}"
    read = {_place(series): series.samples for series in second.series}
    for series in first.series:
        samples, found = series.samples, read.get(_place(series))
        if found is None or not (_same_times(samples.times, found.times) and _same(samples.values, found.values)):
            return series.where.path
    return ""


def _place(series: BehaviorSeries) -> tuple[str, str]:
    """Return the names of the container, if it is one that is written, and of the series."""
    contained = series.where.container_kind in _SPATIAL + _TEMPORAL
    return series.where.container if contained else "", series.where.name


def _same_times(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether times are equal to a microsecond, the precision of `time_fields`."""
    return one.shape == other.shape and np.allclose(one, other, rtol=0.0, atol=1e-6)


def _same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Return whether arrays are equal; NaN equals NaN."""
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
