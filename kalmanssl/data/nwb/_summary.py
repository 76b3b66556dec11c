"""Summary of an NWB file: what it has, what `Recording.from_nwb` would read, and where there is a choice."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kalmanssl.data._angles import full_circle
from kalmanssl.data._laps import count_laps
from kalmanssl.data.nwb._access import (
    decode_text,
    find_group,
    is_dataset,
    is_numeric,
    peek,
    read_array,
    read_scaling,
    require_dataset,
    text_attribute,
)
from kalmanssl.data.nwb._activity_sources import BINNED, TRACES, UNITS, ActivitySource, choose_activity, find_activity
from kalmanssl.data.nwb._confidence import confident_samples
from kalmanssl.data.nwb._interval_columns import (
    INTERVAL_SERIES,
    OUTSIDE,
    IntervalColumn,
    find_columns,
    read_column,
)
from kalmanssl.data.nwb._interval_table import read_intervals
from kalmanssl.data.nwb._open import open_nwb
from kalmanssl.data.nwb._other_objects import find_others
from kalmanssl.data.nwb._preferences import activity_order, behavior_order
from kalmanssl.data.nwb._read_options import check_choices
from kalmanssl.data.nwb._sampled_activity import activity_kind, read_sampled
from kalmanssl.data.nwb._sampling import read_sampling
from kalmanssl.data.nwb._series import Behavior, Series, choose_series, find_series
from kalmanssl.data.nwb._tables import choose_units, read_spikes, table_extent
from kalmanssl.data.nwb._times import read_times
from kalmanssl.data.nwb._unit_groups import unit_groups
from kalmanssl.data.nwb._walk import find_broken_links
from kalmanssl.errors import InputError
from kalmanssl.utils.measurement_units import is_angle
from kalmanssl.utils.segments import is_gap

if TYPE_CHECKING:
    import h5py

__all__ = ["NWBObject", "NWBSummary", "summarize_nwb"]

_LEAST_EVENTS = 3  # intervals from which on a column between their starts and stops has times
_MAX_VALUES = 50_000_000  # the data of larger series are not searched for NaN


@dataclass(frozen=True)
class NWBObject:
    """One object of an NWB file.

    Attributes
    ----------
    path : str
        Path in the file.
    type : str
        Type in NWB, such as "RoiResponseSeries".
    role : {"activity", "behavior", "labels", "other"}
        What it can be used as. Columns of interval tables are "labels", except times of events.
    use : {"taken", "candidate", "skipped"}
        Whether `Recording.from_nwb` would read it with the same arguments, whether it can be chosen by its name, or
        neither.
    columns : int or None
        Number of units, ROIs, channels or dimensions.
    rate : float or None
        Sampling rate, Hz; the mean spike rate of a unit for spikes.
    start, stop : float or None
        First and last time, seconds; for a behavior, of the known samples.
    gaps : int or None
        Number of gaps in the samples.
    gap_seconds : float or None
        Total length of the gaps, seconds.
    unit : str
        Unit of measurement.
    period : float or None
        Period of a behavior that covers a whole circle, such as 360; `PositionDecoder` must be given it.
    remark : str
        What is done with it, or why it cannot be used.
    groups : dict of dict of int
        For a table of units: how many units have each value of a column, such as a region, that `units` can select.
    """

    path: str
    type: str
    role: Literal["activity", "behavior", "labels", "other"]
    use: Literal["taken", "candidate", "skipped"] = "candidate"
    columns: int | None = None
    rate: float | None = None
    start: float | None = None
    stop: float | None = None
    gaps: int | None = None
    gap_seconds: float | None = None
    unit: str = ""
    period: float | None = None
    remark: str = ""
    groups: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class NWBSummary:
    """Contents of an NWB file; `str` gives a table.

    Attributes
    ----------
    source : str
        Name of the file.
    objects : tuple of NWBObject
    epochs : dict of (n, 2)
        Start and stop times of labeled epochs and of tables of intervals, seconds.
    problems : dict of str
        For "activity" and "behavior", why nothing is taken; the message lists the candidates.
    """

    source: str
    objects: tuple[NWBObject, ...]
    epochs: dict[str, np.ndarray]
    problems: dict[str, str]

    def taken(self, role: str) -> tuple[NWBObject, ...]:
        """Return the objects that are read as "activity", "behavior" or "labels"."""
        return tuple(o for o in self.objects if o.role == role and o.use == "taken")

    def candidates(self, role: str) -> tuple[NWBObject, ...]:
        """Return the objects that can be chosen by name, those that most analyses use first."""
        found = [o for o in self.objects if (o.role, o.use) == (role, "candidate")]
        if role == "activity":
            return tuple(sorted(found, key=lambda one: activity_order(one.path)))
        return tuple(sorted(found, key=lambda one: behavior_order(one.path, one.unit) if role == "behavior" else ()))

    def preferred(self, role: str) -> NWBObject | None:
        """Return what is taken as "activity" or "behavior", or else the candidate that most analyses use, if any.

        A `TimeSeries` or a field potential is not clearly activity.
        """
        known = (UNITS, BINNED, *TRACES)
        clear = [o for o in self.candidates(role) if role != "activity" or o.type.split(" ")[-1] in known]
        return next(iter((*self.taken(role), *clear)), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as dicts, lists, numbers and text, for JSON."""
        return {
            "source": self.source,
            "objects": [asdict(o) for o in self.objects],
            "epochs": {name: spans.tolist() for name, spans in self.epochs.items()},
            "problems": self.problems,
        }

    def __str__(self) -> str:
        from kalmanssl.data.nwb._summary_table import render_summary

        return render_summary(self)


def summarize_nwb(
    path: str | os.PathLike[str],
    activity: str | None = None,
    behavior: Behavior = None,
    units: str | Mapping[str, Any] = "auto",
) -> NWBSummary:
    """List what an NWB file has, and what `Recording.from_nwb` would read with the same arguments.

    Parameters
    ----------
    path : path
        The file.
    activity, behavior, units
        See `Recording.from_nwb`.

    Returns
    -------
    NWBSummary
        Objects that cannot be used have the reason as `remark`. An ambiguous or unknown choice is in `problems`.

    Raises
    ------
    InputError
        If the file is missing, damaged or not an NWB file.
    """
    check_choices(activity, behavior, units)
    with open_nwb(path) as file:
        problems: dict[str, str] = {}
        source: ActivitySource | None = None
        try:
            source = choose_activity(file, activity, path)
        except InputError as error:
            problems["activity"] = str(error)
        sources, series, columns = find_activity(file), find_series(file), find_columns(file)
        activity_path = None if source is None else source.path
        chosen: set[str] = set()
        try:
            others = [s for s in series if s.path != activity_path]
            chosen = {s.path for s in choose_series(others, behavior, columns).values()}
        except InputError as error:
            problems["behavior"] = str(error)
        broken = find_broken_links(file) if problems else []
        if broken:
            problems = {name: f"{problem}; {broken[0]}" for name, problem in problems.items()}
        epochs, _ = read_intervals(file)
        extent = table_extent(file, [_all_spikes(file)])
        objects = [_activity_object(file, s, s.path == activity_path, units, extent) for s in sources]
        known = {o.path for o in objects if o.type != "TimeSeries" or o.path == activity_path}
        known |= {s.path for s in sources if s.automatic}
        objects = [o for o in objects if o.path in known or o.path not in {s.path for s in series}]
        objects += [_behavior_object(file, s, s.path in chosen, extent) for s in series if s.path not in known]
        objects += [_column_object(file, s, s.path in chosen) for s in columns]
        listed = {o.path for o in objects}
        objects += [
            NWBObject(other.path, other.kind, "other", "skipped", other.n_rows, remark=other.remark)
            for other in find_others(file)
            if other.path not in listed
        ]
        return NWBSummary(decode_text(Path(path).name), tuple(objects), epochs, problems)


def _all_spikes(file: h5py.File) -> np.ndarray:
    """Return the finite spike times of all units (spikes,), sorted; empty if there are none."""
    data = peek(file, "units/spike_times")
    if not is_dataset(data) or not is_numeric(data) or data.shape is None:
        return np.zeros(0)
    times = read_array(data).astype(float).reshape(-1)
    return np.sort(times[np.isfinite(times)])


def _activity_object(
    file: h5py.File,
    source: ActivitySource,
    is_taken: bool,
    units: str | Mapping[str, Any],
    extent: tuple[float, float] | None,
) -> NWBObject:
    """Describe units or a series of activity."""
    found = NWBObject(source.path, source.kind, "activity", "taken" if is_taken else "candidate")
    try:
        if source.kind == UNITS:
            return _units_object(file, found, units)
        if source.kind == BINNED:
            module = find_group(file, source.path)
            series = find_group(module, "signal") or find_group(module, "counts")
            if series is None:
                raise InputError(f"{source.path} has no series of counts")
            return replace(_sampled_object(series, found, extent), remark="bins of the file are not changed")
        first = source.planes[0] if source.planes else source
        found = _sampled_object(find_group(file, first.path), found, extent)
        if found.use == "skipped":
            return found
        if source.kind == "ElectricalSeries":
            return replace(found, remark="log power in bands" if is_taken else "log power in bands, if it is named")
        series = find_group(file, first.path)
        if source.planes:
            shapes = [require_dataset(find_group(file, plane.path), "data").shape or () for plane in source.planes]
            columns = sum(int(np.prod(shape[1:])) for shape in shapes)
            found = replace(found, type=f"{len(shapes)} {first.kind}", columns=columns)
        if is_taken and (require_dataset(series, "data").size or 0) <= _MAX_VALUES:
            read = read_sampled(file, source, units, extent, [(-np.inf, np.inf)])
            kind: str = read.kind
            notes = read.notes + read.corrections
            found = replace(found, columns=len(read.names))
        else:
            kind, notes = activity_kind(series, first, np.zeros(0)), []
        how = "events, summed in bins" if kind == "counts" else "signal, averaged in bins"
        return replace(found, remark="; ".join([how, *notes]))
    except InputError as error:
        return replace(found, remark=str(error))


def _units_object(file: h5py.File, found: NWBObject, units: str | Mapping[str, Any]) -> NWBObject:
    """Describe the selected units with their rates from the first to the last spike, and groups of all units."""
    table = find_group(file, "units")
    chosen = choose_units(table, units)
    spikes = read_spikes(table, chosen.rows)
    n_spikes = np.array([len(s) for s in spikes.times])
    if not n_spikes.sum():
        return replace(found, columns=len(chosen.rows), remark="no spikes")
    first, last = min(s[0] for s in spikes.times if len(s)), max(s[-1] for s in spikes.times if len(s))
    rates = n_spikes / max(last - first, 1e-9)
    remark = f"{n_spikes.sum()} spikes, {rates.min():.3g} to {rates.max():.3g} Hz per unit (mean {rates.mean():.3g} Hz)"
    return replace(
        found,
        columns=len(chosen.rows),
        rate=float(rates.mean()),
        start=float(first),
        stop=float(last),
        remark="; ".join([remark, *chosen.notes, *spikes.corrections]),
        groups=unit_groups(table),
    )


def _sampled_object(series: h5py.Group, found: NWBObject, extent: tuple[float, float] | None) -> NWBObject:
    """Add the number of columns, the sampling and the unit of a series; a problem becomes the remark."""
    try:
        data = require_dataset(series, "data")
        shape = (data.shape or ())[1:]
        found = replace(found, columns=int(np.prod(shape)) if shape else 1, unit=text_attribute(data, "unit"))
        sampling, notes = read_sampling(series, extent)
    except InputError as error:
        return replace(found, remark=str(error), use="skipped" if found.use == "candidate" else found.use)
    return replace(found, **asdict(sampling), remark="; ".join(notes))


def _behavior_object(file: h5py.File, where: Series, is_taken: bool, extent: tuple[float, float] | None) -> NWBObject:
    """Describe a series of behavior with the range of its values, and count its missing samples."""
    series = find_group(file, where.path)
    found = NWBObject(where.path, where.kind, "behavior", "taken" if is_taken else "candidate")
    found = _sampled_object(series, found, extent)
    data = peek(series, "data")
    if not (data.shape and is_numeric(data) and 0 < data.size <= _MAX_VALUES):
        return found
    try:
        values = read_array(data)
        confident = confident_samples(series, len(values))
    except InputError as error:
        return replace(found, remark=str(error))
    if found.use == "candidate" and (values == values.reshape(-1)[0]).all():
        return replace(found, use="skipped", remark="one distinct value: nothing to decode")
    if data.dtype.kind != "f":
        return found
    conversion, offset = read_scaling(data)
    one = values.reshape(-1) if values.size == len(values) else values
    found = replace(found, period=full_circle(one * conversion + offset, found.unit))
    values = values.reshape(len(values), -1) * conversion + offset
    known = np.isfinite(values).all(axis=1) & confident
    if known.any() and not known.all():
        found = _of_known_samples(series, found, known, extent)
    laps = 0 if is_angle(found.unit) else count_laps(values)
    if laps and found.start is not None:
        steps = np.diff(read_times(series, len(values), extent)[0])
        laps = count_laps(values, ~is_gap(steps, float(np.nanmedian(steps))))
    jumps = f"jumps from one end to the other {laps} times, as after laps (see --period)" if laps else ""
    remarks = [found.remark, _ranges(values[known]), jumps, "" if known.all() else f"{(~known).sum()} samples missing"]
    return replace(found, remark="; ".join(filter(None, remarks)))


def _of_known_samples(
    series: h5py.Group, found: NWBObject, known: np.ndarray, extent: tuple[float, float] | None
) -> NWBObject:
    """Let the time of a series be that from the first to the last known sample, of `known` (samples,) bool."""
    if found.start is None:
        return found
    times = read_times(series, len(known), extent)[0][known]
    times = times[np.isfinite(times)]
    return replace(found, start=float(times[0]), stop=float(times[-1])) if len(times) else found


def _ranges(values: np.ndarray) -> str:
    """Return the smallest and the largest of the known values (time, dims) in each of at most three dimensions."""
    known = [column[np.isfinite(column)] for column in values.T]
    if len(known) > 3 or not all(map(len, known)):
        return ""
    return ", ".join(f"{column.min():.3g} to {column.max():.3g}" for column in known)


def _column_object(file: h5py.File, where: Series, is_taken: bool) -> NWBObject:
    """Describe a column of an interval table, or an interval series, by its number of distinct values."""
    found = NWBObject(where.path, where.kind, "labels", "taken" if is_taken else "candidate", 1)
    try:
        column = read_column(file, where)
    except InputError as error:
        return replace(found, remark=str(error))
    if not len(column.values):
        return replace(found, remark="no intervals")
    is_series = where.kind == INTERVAL_SERIES
    if not is_taken and _are_times(column):
        remark = "times of events, for Recording.align_to"
        return replace(found, role="other", use="skipped", columns=1, remark=remark)
    values = [v for v in column.values if not (is_series and v == OUTSIDE)]
    distinct = len({str(v) for v in values if v is not None and v == v})  # not None and not NaN, which are unknown
    if not is_taken and not is_series and distinct <= 1:
        return replace(found, use="skipped", remark="one distinct value: nothing to decode")
    return replace(
        found,
        start=float(column.start.min()),
        stop=float(column.stop.max()),
        remark=f"{len(values)} interval{'s'[: len(values) != 1]}, {distinct} distinct value{'s'[: distinct != 1]}"
        + (f"; {OUTSIDE} between them" if is_series else ""),
    )


def _are_times(column: IntervalColumn) -> bool:
    """Return whether all known values are numbers between the start and the stop of their intervals, such as cues."""
    if column.values.dtype == object:
        return False
    known = np.isfinite(column.values)
    value, start, stop = (one[known] for one in (column.values, column.start, column.stop))
    # In few intervals, or in intervals that all begin at zero, other numbers can be there by accident.
    return len(value) >= _LEAST_EVENTS and bool(((start <= value) & (value <= stop)).all() and np.ptp(start) > 0)
