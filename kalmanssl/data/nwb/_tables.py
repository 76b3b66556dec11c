"""Reading of the units table and the epochs table of an NWB file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data.nwb._access import (
    DamagedError,
    find,
    find_dataset,
    find_group,
    is_dataset,
    location,
    member_names,
    read_array,
    referenced,
    require_dataset,
)
from kalmanssl.data.nwb._columns import (
    column_names,
    n_rows,
    read_column_values,
    read_columns,
    read_interval_times,
    read_ragged,
)
from kalmanssl.data.nwb._rejected_rows import find_rejected
from kalmanssl.data.nwb._windows import intersect, merge
from kalmanssl.errors import InputError
from kalmanssl.utils.text import shorten
from kalmanssl.utils.validation import short_repr

if TYPE_CHECKING:
    import h5py

__all__ = [
    "ChosenUnits",
    "UnitSpikes",
    "choose_units",
    "electrode_columns",
    "read_epochs",
    "read_spikes",
    "table_extent",
    "unit_names",
]

_TYPE_COLUMNS = {"celltype", "putativecelltype", "neurontype", "unittype"}
_PEAK = "peak_channel_id"
_EXCITATORY = {"excitatory", "exc", "e", "pyramidal", "pyr", "principal"}


@dataclass(frozen=True)
class ChosenUnits:
    """Selected rows of a table of units, ROIs or electrodes.

    Attributes
    ----------
    rows : (units,) int
        Numbers of the rows.
    cell_type : tuple of str, or None
    notes : list of str
        What the selection left out.
    """

    rows: np.ndarray
    cell_type: tuple[str, ...] | None
    notes: list[str]


@dataclass(frozen=True)
class UnitSpikes:
    """Spike times of units, and when all of them were observed.

    Attributes
    ----------
    times : list of (spikes,)
        Sorted, of each unit, seconds.
    observed : list of (start, stop)
        Seconds; empty if it is not known.
    corrections : list of str
    """

    times: list[np.ndarray]
    observed: list[tuple[float, float]]
    corrections: list[str]


def choose_units(table: h5py.Group, units: str | Mapping[str, Any]) -> ChosenUnits:
    """Select rows of a table of units, ROIs or electrodes.

    Raises
    ------
    InputError
        If the table is empty, or no row matches `units`.
    """
    known = read_columns(table)
    count = n_rows(table)
    if count == 0:
        raise InputError(f"the {_title(table)} is empty; choose other activity", parameter="activity")
    if isinstance(units, Mapping):
        known |= electrode_columns(table, set(units) - set(known))
    types = next((name for name in known if re.sub(r"[\W_]", "", name.lower()) in _TYPE_COLUMNS), None)
    keep = np.ones(count, dtype=bool)
    notes: list[str] = []
    if isinstance(units, Mapping):
        for column, wanted in units.items():
            keep &= _matches(known, column, wanted, _title(table))
        if not keep.any():
            raise InputError(f"no unit matches all of {short_repr(dict(units))}; use fewer columns", parameter="units")
    elif units == "auto":
        known |= _cell_flags(table, count)
        keep, notes = _accepted_excitatory(known, types, count)
    rows = np.flatnonzero(keep)
    return ChosenUnits(rows, None if types is None else tuple(str(v) for v in known[types][rows]), notes)


def _cell_flags(table: h5py.Group, count: int) -> dict[str, np.ndarray]:
    """Return the first value of each row of the column iscell of suite2p, which is followed by a probability."""
    flags = find(table, "iscell")
    is_pair = is_dataset(flags) and flags.shape == (count, 2) and flags.dtype.kind in "biuf"
    return {"iscell": read_array(flags)[:, 0]} if is_pair else {}


def _accepted_excitatory(
    known: Mapping[str, np.ndarray], types: str | None, count: int
) -> tuple[np.ndarray, list[str]]:
    """Return which rows (rows,) are neither rejected in the file nor of another type than excitatory, and notes."""
    rejected, by, ignored = find_rejected(known, count)
    keep = ~rejected
    notes: list[str] = []
    if rejected.any():
        notes.append(
            f"units: {int(rejected.sum())} of {count} are noise or rejected by {_named_columns(by)} and are left out "
            "(units='all' selects all)"
        )
    if ignored:
        notes.append(f"units: all are noise or not accepted by {_named_columns(ignored)}, so that this is ignored")
    excitatory = keep & (False if types is None else np.array([_is_excitatory(v) for v in known[types]], dtype=bool))
    if excitatory.any() and (excitatory != keep).any():
        notes.append(
            f"units: {int(excitatory.sum())} excitatory of {int(keep.sum())}, by column {types} "
            "(units='all' selects all)"
        )
        keep = excitatory
    return keep, notes


def _named_columns(names: list[str]) -> str:
    return f"column{'s'[: len(names) != 1]} {', '.join(names)}"


def electrode_columns(table: h5py.Group, names: set[str]) -> dict[str, np.ndarray]:
    """Return columns of the table of electrodes, such as the location, at the first electrode of each unit.

    Columns that neither table has are left out, and so are all if the units do not refer to electrodes.
    """
    electrodes, first = _first_electrodes(table) if names else (None, [])
    if electrodes is None:
        return {}
    known = {name: values for name, values in read_columns(electrodes).items() if name in names}
    return {
        name: np.array([values[row] if row >= 0 else None for row in first], dtype=object)
        for name, values in known.items()
    }


def _first_electrodes(table: h5py.Group) -> tuple[h5py.Group | None, list[int]]:
    """Return the table of electrodes and the row of the first electrode of each unit, -1 without one; or None.

    Files of the Allen Institute have the ID of the electrode with the largest waveform instead (`peak_channel_id`).
    """
    if find(table, "electrodes") is None:
        electrodes = find_group(table.file, "general/extracellular_ephys/electrodes")
        if electrodes is None or _PEAK not in column_names(table):
            return None, []
        rows = {value: row for row, value in enumerate(read_column_values(electrodes, "id").tolist())}
        return electrodes, [rows.get(value, -1) for value in read_column_values(table, _PEAK).tolist()]
    electrodes = referenced(require_dataset(table, "electrodes"), "table")
    if find(table, "electrodes_index") is None:
        first = [int(row) for row in read_column_values(table, "electrodes")]
    else:
        lists, _ = read_ragged(table, "electrodes", np.arange(n_rows(table)))
        first = [int(rows[0]) if len(rows) else -1 for rows in lists]
    if max(first, default=-1) >= n_rows(electrodes):
        raise DamagedError(
            f"{location(table)}/electrodes refers to rows that {location(electrodes)} does not have; repair the file"
        )
    return electrodes, first


def _title(table: h5py.Group) -> str:
    """Return the name of a table for messages."""
    return "units table" if table.name == "/units" else f"table {location(table)}"


def _is_excitatory(value: Any) -> bool:
    word = re.sub(r"putative|cells?\b|neurons?\b|[\W_]", "", str(value).lower())
    return word in _EXCITATORY


def _matches(known: dict[str, np.ndarray], column: str, wanted: Any, title: str) -> np.ndarray:
    if column not in known:
        raise InputError(
            f"the {title} has no column {short_repr(column)}; columns: {shorten(', '.join(sorted(known)))}",
            parameter="units",
        )
    values = known[column]
    accepted = list(wanted) if isinstance(wanted, (list, tuple, set, np.ndarray)) else [wanted]
    result = np.zeros(len(values), dtype=bool)
    for value in accepted:
        hit = np.array([str(v) == str(value) for v in values], dtype=bool)  # 1 matches "1"
        if isinstance(value, int | float | np.number):
            hit |= np.array([v == value for v in values], dtype=bool)
        if not hit.any():
            present = sorted({str(v) for v in values})
            shown = ", ".join(present[:20]) + (", ..." if len(present) > 20 else "")
            raise InputError(
                f"no unit has {short_repr(value)} in column {column!r}; its values: {shorten(shown)}", parameter="units"
            )
        result |= hit
    return result


def unit_names(table: h5py.Group, rows: np.ndarray) -> tuple[tuple[str, ...], list[str]]:
    """Return unit names: column `unit_name` if it exists, otherwise `id`; row numbers if they are not unique."""
    column = "id" if find(table, "unit_name") is None else "unit_name"
    names = tuple(str(v) for v in read_column_values(table, column)[rows])
    if len(set(names)) == len(names):
        return names, []
    return tuple(str(r) for r in rows), [f"units: {column} is not unique, so units are named by their row number"]


def read_spikes(table: h5py.Group, rows: np.ndarray) -> UnitSpikes:
    """Read the spike times of some rows of the units table.

    Raises
    ------
    InputError
        If a spike time is not finite, or the units were never observed together.
    """
    spikes = []
    found, corrections = read_ragged(table, "spike_times", rows)
    for row, times in zip(rows, found, strict=True):
        if not np.isfinite(times).all():
            raise InputError(
                f"unit in row {row} has NaN or infinite spike times; repair it or select other units",
                parameter="units",
            )
        spikes.append(np.sort(times.astype(float)))
    if find(table, "obs_intervals") is None:
        return UnitSpikes(spikes, [], corrections)
    intervals, more = read_ragged(table, "obs_intervals", rows, width=2)
    observed: list[tuple[float, float]] | None = None
    for spans in {tuple(map(tuple, spans)) for spans in intervals if len(spans)}:
        if any(not a <= b for a, b in spans):
            where = f"{location(table)}/obs_intervals"
            raise DamagedError(f"{where} has an interval that is NaN or stops before its start; repair the file")
        here = merge([(float(a), float(b)) for a, b in spans])
        observed = here if observed is None else intersect(observed, here)
    if observed is not None:
        observed = [(a, b) for a, b in observed if a < b]
    if observed == []:
        raise InputError(
            "the selected units were never observed together (obs_intervals); select other units", parameter="units"
        )
    return UnitSpikes(spikes, observed or [], corrections + more)


def read_epochs(file: h5py.File) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the start and stop times (n, 2) of the epochs, seconds, by label, and corrections."""
    table = find_group(file, "intervals/epochs")
    if table is None:
        return {}, []
    starts, stops = read_interval_times(table)
    if find_dataset(table, "tags") is not None and find_dataset(table, "label") is None:
        tags, _ = read_ragged(table, "tags", np.arange(len(starts)), text=True)
        labels = [str(tag[0]) if len(tag) else "" for tag in tags]
    else:
        named = {k: v for k, v in read_columns(table).items() if v.dtype == object}
        labels = [str(v) for v in named.get("label", next(iter(named.values()), np.array([""] * len(starts))))]
    spans: dict[str, list[tuple[float, float]]] = {}
    corrections = []
    for label, start, stop in zip(labels, starts, stops, strict=True):
        if stop < start:
            corrections.append(
                f"epoch {short_repr(label)} stops at {stop:.10g} s, before its start at {start:.10g} s, and is left out"
            )
        elif label and start < stop:
            spans.setdefault(label, []).append((float(start), float(stop)))
    return {label: np.array(sorted(pairs)) for label, pairs in spans.items()}, corrections


def table_extent(file: h5py.File, spikes: list[np.ndarray]) -> tuple[float, float] | None:
    """Return the first and the last time of spikes and interval tables, seconds; None if there are none."""
    times = [t[[0, -1]] for t in spikes if len(t)]
    intervals = find_group(file, "intervals")
    for name in () if intervals is None else member_names(intervals):
        table = find_group(intervals, name)
        times += [values[np.isfinite(values)] for values in read_interval_times(table)]
    pooled = np.concatenate(times) if times else np.zeros(0)
    return (float(pooled.min()), float(pooled.max())) if len(pooled) else None
