"""The part of an NWB file that decoding needs: units, behavior and intervals, without raw signals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data.nwb._access import (
    attribute,
    decode_text,
    find,
    find_dataset,
    find_group,
    is_dataset,
    location,
    member_names,
    number_attribute,
    peek,
    read_array,
    read_numbers,
    read_text,
    read_texts,
    require_dataset,
    text_attribute,
)
from kalmanssl.data.nwb._columns import is_text, read_column_values, read_ends
from kalmanssl.data.nwb._output_session import read_metadata
from kalmanssl.data.nwb._series import Samples, Series, find_series, read_series
from kalmanssl.data.nwb._tables import table_extent
from kalmanssl.errors import InputError, first_line

if TYPE_CHECKING:
    import h5py

__all__ = ["BehaviorSeries", "Column", "Content", "Table", "content_size", "read_content"]

_RAGGED = ("spike_times", "obs_intervals", "tags")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    values : (rows,), or all entries of a ragged column, (entries,) or (entries, 2)
    description : str
    ends : (rows,) or None
        Where the entries of each row of a ragged column end.
    """

    values: np.ndarray
    description: str
    ends: np.ndarray | None = None


@dataclass(frozen=True)
class Table:
    """A table of units or intervals.

    Attributes
    ----------
    ids : (rows,)
    columns : dict of str to Column
    description : str
    """

    ids: np.ndarray
    columns: dict[str, Column]
    description: str


@dataclass(frozen=True)
class BehaviorSeries:
    """A series of behavior.

    Attributes
    ----------
    where : Series
        Names of the series and its container.
    samples : Samples
    description, reference_frame : str
    has_rate : bool
        Whether the source has a starting time and a rate instead of timestamps.
    """

    where: Series
    samples: Samples
    description: str
    reference_frame: str
    has_rate: bool


@dataclass(frozen=True)
class Content:
    """Units, behavior, intervals and the description of a session.

    Attributes
    ----------
    description : str
        Description of the session.
    metadata : dict
        See `session_metadata`.
    units : Table
    resolution : float or None
        Resolution of the spike times, seconds, if the file states it.
    series : tuple of BehaviorSeries
    tables : dict of str to Table
        Tables of intervals, such as "epochs" and "trials".
    notes : tuple of str
        What was corrected or left out.
    """

    description: str
    metadata: dict[str, Any]
    units: Table
    resolution: float | None
    series: tuple[BehaviorSeries, ...]
    tables: dict[str, Table]
    notes: tuple[str, ...]


def read_content(file: h5py.File) -> Content:
    """Read the units, the behavior and the intervals of an NWB file.

    Raises
    ------
    InputError
        If the file has no units with spike times.
    """
    units_group = find_group(file, "units")
    if units_group is None or find_dataset(units_group, "spike_times") is None:
        raise InputError(
            "the file has no units with spike times, and other activity is not extracted: choose another file"
        )
    tables = {name: _read_table(group) for name, group in _interval_groups(file).items()}
    units = _read_table(units_group)
    if "spike_times" not in units.columns:
        raise InputError("units/spike_times is not a column of the units table: choose another file")
    extent = table_extent(file, [_ends_of_spikes(units)])
    series, notes = [], []
    for where in _behavior(file):
        group = find_group(file, where.path)
        try:
            samples, corrections = read_series(group, extent)
        except InputError as error:
            notes.append(f"{where.path} is left out: {first_line(error)}")
            continue
        notes += corrections
        frame = read_text(group, "reference_frame")
        frame = "not known" if frame is None else frame
        has_rate = find_dataset(group, "timestamps") is None
        series.append(BehaviorSeries(where, samples, _text(group, "description"), frame, has_rate))
    description = read_text(file, "session_description") or ""
    spikes = require_dataset(units_group, "spike_times")
    resolution = None if "resolution" not in spikes.attrs else number_attribute(spikes, "resolution", 0.0)
    return Content(description, read_metadata(file), units, resolution, tuple(series), tables, tuple(notes))


def content_size(file: h5py.File) -> int:
    """Return the size of the data that `read_content` reads, bytes in the file."""
    wanted = [f"{where.path}/{name}" for where in _behavior(file) for name in ("data", "timestamps")]
    found = [peek(file, path) for path in (*wanted, "units/spike_times", "units/obs_intervals")]
    return sum(int(data.id.get_storage_size()) for data in found if is_dataset(data))


def _behavior(file: h5py.File) -> list[Series]:
    """List the series of behavior: those in processing/behavior, or if there are none, positions elsewhere."""
    found = find_series(file)
    usual = [s for s in found if s.path.startswith("processing/behavior/")]
    return usual or [s for s in found if s.kind == "SpatialSeries"]


def _interval_groups(file: h5py.File) -> dict[str, h5py.Group]:
    """Return the tables of intervals; some files keep sleep states with the behavior."""
    import h5py

    groups: dict[str, h5py.Group] = {}
    for root in ("intervals", "processing/behavior"):
        parent = find_group(file, root)
        for name in () if parent is None else member_names(parent):
            group = peek(parent, name)
            if not isinstance(group, h5py.Group):
                continue
            if root == "intervals" or text_attribute(group, "neurodata_type") == "TimeIntervals":
                groups.setdefault(name, group)
    return {name: group for name, group in groups.items() if "start_time" in group and "stop_time" in group}


def _read_table(group: h5py.Group) -> Table:
    """Read the columns with one number or text in each row, and the ragged ones that decoding needs."""
    ids = read_column_values(group, "id")
    columns = {}
    for name in _column_order(group):
        data = find(group, name)
        if not is_dataset(data):
            continue
        if find(group, f"{name}_index") is not None:
            if name in _RAGGED:
                columns[name] = Column(
                    _values(data, name == "tags"), _text(data, "description"), read_ends(group, name)
                )
        elif data.shape == (len(ids),) and _is_plain(data):
            columns[name] = Column(read_column_values(group, name), _text(data, "description"))
    return Table(ids, columns, _text(group, "description"))


def _column_order(group: h5py.Group) -> list[str]:
    """Return the names of the columns in the order of the table; times first."""
    names_of_columns = attribute(group, "colnames")
    named = [decode_text(name) for name in np.atleast_1d(() if names_of_columns is None else names_of_columns)]
    times = ["start_time", "stop_time"]
    names = [name for name in times + named if name in group]
    return list(dict.fromkeys(names))


def _is_plain(data: h5py.Dataset) -> bool:
    """Return whether a column has numbers, bools or text, not references or rows of other tables."""
    if text_attribute(data, "neurodata_type") == "DynamicTableRegion":
        return False
    return data.dtype.kind in "biufS" or is_text(data)


def _values(data: h5py.Dataset, text: bool) -> np.ndarray:
    """Read the entries of a ragged column: text, or numbers."""
    if text:
        return read_texts(read_array(data), location(data))
    return read_numbers(data, (1, 2))


def _ends_of_spikes(units: Table) -> np.ndarray:
    """Return the first and the last spike time; empty if there are none."""
    times = units.columns["spike_times"].values
    times = times[np.isfinite(times)]
    return np.array([times.min(), times.max()]) if len(times) else np.zeros(0)


def _text(node: Any, name: str) -> str:
    """Return an attribute, or a text that says that there is none."""
    value = attribute(node, name)
    return (decode_text(value) if isinstance(value, str | bytes) else "") or "no description"
