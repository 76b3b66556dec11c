"""Reading of the units table and the epochs table of an NWB file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.errors import InputError

if TYPE_CHECKING:
    import h5py

__all__ = ["choose_units", "read_epochs", "spike_times", "table_extent", "unit_names"]

_TYPE_COLUMNS = {"celltype", "putativecelltype", "neurontype", "unittype"}
_EXCITATORY = {"excitatory", "exc", "e", "pyramidal", "pyr", "principal"}


def _decode(values: np.ndarray) -> np.ndarray:
    return np.array([v.decode() if isinstance(v, bytes) else v for v in values], dtype=object)


def columns(table: h5py.Group) -> dict[str, np.ndarray]:
    """Return the columns with one value per row (no ragged columns), by name, (rows,) each."""
    found = {}
    n_rows = len(table["id"])
    for name in table:
        data = table[name]
        if not hasattr(data, "shape") or f"{name}_index" in table or data.shape != (n_rows,):
            continue
        if data.attrs.get("neurodata_type") in ("DynamicTableRegion", "VectorIndex"):
            continue
        values = data[()]
        if "elements" in data.attrs:
            values = table.file[data.attrs["elements"]][()][values]
        found[name] = _decode(values) if values.dtype.kind in "OS" else values
    return found


def choose_units(
    table: h5py.Group, units: str | Mapping[str, Any]
) -> tuple[np.ndarray, tuple[str, ...] | None, list[str]]:
    """Select rows of the units table; return row numbers (units,), cell types if known, and notes."""
    known = columns(table)
    n_rows = len(table["id"])
    if n_rows == 0:
        raise InputError(f"the {_title(table)} is empty; choose other activity", parameter="activity")
    types = next((name for name in known if re.sub(r"[\W_]", "", name.lower()) in _TYPE_COLUMNS), None)
    keep = np.ones(n_rows, dtype=bool)
    notes = []
    if isinstance(units, Mapping):
        for column, wanted in units.items():
            keep &= _matches(known, column, wanted, _title(table))
        if not keep.any():
            raise InputError(f"no unit matches all of {dict(units)!r}; use fewer columns", parameter="units")
    elif units == "auto":
        if types is not None:
            excitatory = np.array([_is_excitatory(v) for v in known[types]])
            keep = excitatory if excitatory.any() else keep
            if not keep.all():
                notes.append(
                    f"units: {int(keep.sum())} excitatory of {n_rows}, by column {types} (units='all' selects all)"
                )
    elif units != "all":
        raise InputError(f"units must be 'auto', 'all' or a dict of column to values, got {units!r}", parameter="units")
    rows = np.flatnonzero(keep)
    return rows, None if types is None else tuple(str(v) for v in known[types][rows]), notes


def _title(table: h5py.Group) -> str:
    """Return the name of a table for messages."""
    return "units table" if table.name == "/units" else f"table {table.name.strip('/')}"


def _is_excitatory(value: Any) -> bool:
    word = re.sub(r"putative|cells?\b|neurons?\b|[\W_]", "", str(value).lower())
    return word in _EXCITATORY


def _matches(known: dict[str, np.ndarray], column: str, wanted: Any, title: str) -> np.ndarray:
    if column not in known:
        raise InputError(
            f"the {title} has no column {column!r}; columns: {', '.join(sorted(known))}", parameter="units"
        )
    values = known[column]
    accepted = list(wanted) if isinstance(wanted, (list, tuple, set, np.ndarray)) else [wanted]
    result = np.zeros(len(values), dtype=bool)
    for value in accepted:
        hit = np.array([v == value or str(v) == str(value) for v in values], dtype=bool)  # 1 matches "1"
        if not hit.any():
            present = sorted({str(v) for v in values})
            shown = ", ".join(present[:20]) + (", ..." if len(present) > 20 else "")
            raise InputError(f"no unit has {value!r} in column {column!r}; its values: {shown}", parameter="units")
        result |= hit
    return result


def unit_names(table: h5py.Group, rows: np.ndarray) -> tuple[tuple[str, ...], list[str]]:
    """Return unit names: column `unit_name` if it exists, otherwise `id`; row numbers if they are not unique."""
    column = "unit_name" if "unit_name" in table else "id"
    names = tuple(str(v) for v in _decode(table[column][()])[rows])
    if len(set(names)) == len(names):
        return names, []
    return tuple(str(r) for r in rows), [f"units: {column} is not unique, so units are named by their row number"]


def spike_times(table: h5py.Group, rows: np.ndarray) -> tuple[list[np.ndarray], list[tuple[float, float]]]:
    """Return sorted spike times of each row and the time when all were observed (empty if unknown), seconds."""
    spikes = []
    for row, times in zip(rows, _ragged(table, "spike_times", rows), strict=True):
        if not np.isfinite(times).all():
            raise InputError(
                f"unit in row {row} has NaN or infinite spike times; repair it or select other units",
                parameter="units",
            )
        spikes.append(np.sort(times.astype(float)))
    if "obs_intervals" not in table:
        return spikes, []
    observed: list[tuple[float, float]] | None = None
    for spans in {tuple(map(tuple, spans)) for spans in _ragged(table, "obs_intervals", rows) if len(spans)}:
        here = [(float(a), float(b)) for a, b in spans]
        both = here if observed is None else [(max(a, c), min(b, d)) for a, b in observed for c, d in here]
        observed = sorted((a, b) for a, b in both if a < b)
    if observed == []:
        raise InputError(
            "the selected units were never observed together (obs_intervals); select other units", parameter="units"
        )
    return spikes, observed or []


def _ragged(table: h5py.Group, name: str, rows: np.ndarray) -> list[np.ndarray]:
    ends = table[f"{name}_index"][()].astype(np.int64)
    starts = np.concatenate([[0], ends[:-1]])
    data = table[name]
    return [data[starts[r] : ends[r]] for r in rows]


def read_epochs(file: h5py.File) -> dict[str, np.ndarray]:
    """Return the start and stop times (n, 2) of the epochs, seconds, by label."""
    table = file.get("intervals/epochs")
    if table is None:
        return {}
    starts, stops = table["start_time"][()], table["stop_time"][()]
    if "tags" in table and "label" not in table:
        labels = [str(_decode(tags)[0]) if len(tags) else "" for tags in _ragged(table, "tags", np.arange(len(starts)))]
    else:
        named = {k: v for k, v in columns(table).items() if v.dtype == object}
        labels = [str(v) for v in named.get("label", next(iter(named.values()), np.array([""] * len(starts))))]
    spans: dict[str, list[tuple[float, float]]] = {}
    for label, start, stop in zip(labels, starts, stops, strict=True):
        if label and start < stop:
            spans.setdefault(label, []).append((float(start), float(stop)))
    return {label: np.array(sorted(pairs)) for label, pairs in spans.items()}


def table_extent(file: h5py.File, spikes: list[np.ndarray]) -> tuple[float, float] | None:
    """Return the first and the last time of spikes and interval tables, seconds; None if there are none."""
    times = [t[[0, -1]] for t in spikes if len(t)]
    for name in file.get("intervals", {}):
        for column in ("start_time", "stop_time"):
            values = file["intervals"][name][column][()]
            times.append(values[np.isfinite(values)])
    pooled = np.concatenate(times) if times else np.zeros(0)
    return (float(pooled.min()), float(pooled.max())) if len(pooled) else None
