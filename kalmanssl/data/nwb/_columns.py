"""Columns of tables of an NWB file: one value in each row, or several with an index column."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.data.nwb._access import (
    DamagedError,
    attribute,
    check_size,
    find,
    is_dataset,
    location,
    member_names,
    read_array,
    read_numbers,
    read_texts,
    referenced,
    require_dataset,
    text_attribute,
)

if TYPE_CHECKING:
    import h5py

__all__ = [
    "column_names",
    "is_text",
    "n_rows",
    "read_column_values",
    "read_columns",
    "read_ends",
    "read_interval_times",
    "read_ragged",
]

_BYTES_PER_ROW = 64.0  # of the selection of rows, and of the names of units


def n_rows(table: h5py.Group) -> int:
    """Return the number of rows of a table."""
    ids = require_dataset(table, "id")
    if ids.shape is None or len(ids.shape) != 1:
        raise DamagedError(
            f"{location(ids)} must have one dimension, but it has the shape {ids.shape}; repair the file"
        )
    check_size(location(table), _BYTES_PER_ROW * ids.shape[0])
    return int(ids.shape[0])


def is_text(data: h5py.Dataset) -> bool:
    """Return whether the values of a dataset are text."""
    import h5py

    return h5py.check_string_dtype(data.dtype) is not None


def read_columns(table: h5py.Group) -> dict[str, np.ndarray]:
    """Return the columns with one number, bool or text per row, by name, (rows,) each."""
    return {name: _values(data) for name, data in _plain_columns(table).items()}


def column_names(table: h5py.Group) -> list[str]:
    """Return the names of the columns with one number, bool or text per row."""
    return list(_plain_columns(table))


def _plain_columns(table: h5py.Group) -> dict[str, h5py.Dataset]:
    """Return the datasets of the columns with one number, bool or text per row."""
    found = {}
    count = n_rows(table)
    names = member_names(table)
    for name in names:
        data = find(table, name)
        if not is_dataset(data) or f"{name}_index" in names or data.shape != (count,):
            continue
        if text_attribute(data, "neurodata_type") in ("DynamicTableRegion", "VectorIndex"):
            continue
        if is_text(data) or data.dtype.kind in "biuf":
            found[name] = data
    return found


def read_column_values(table: h5py.Group, name: str) -> np.ndarray:
    """Return a column (rows,): numbers, or text as objects; elements of an enumeration in place of their codes."""
    data = require_dataset(table, name)
    count = n_rows(table)
    if data.shape != (count,):
        raise DamagedError(
            f"{location(data)} has the shape {data.shape}, but its table has {count} rows; repair the file"
        )
    if not is_text(data) and data.dtype.kind not in "biuf":
        raise DamagedError(f"{location(data)} must be numbers or text; repair the file")
    return _values(data)


def _values(data: h5py.Dataset) -> np.ndarray:
    """Return the values of a column of numbers or text."""
    values = read_array(data)
    if attribute(data, "elements") is not None:
        values = _elements(data, values)
    return read_texts(values, location(data)) if values.dtype.kind in "OS" else values


def _elements(data: h5py.Dataset, codes: np.ndarray) -> np.ndarray:
    """Return the elements of an enumeration that codes (rows,) stand for."""
    elements = referenced(data, "elements")
    if not is_dataset(elements) or elements.shape is None or len(elements.shape) != 1:
        raise DamagedError(f"attribute elements of {location(data)} must refer to a list of values; repair the file")
    values = read_array(elements)
    if codes.dtype.kind not in "iu" or (codes < 0).any() or (codes >= len(values)).any():
        raise DamagedError(
            f"{location(data)} has codes that are not 0 to {len(values) - 1}, its elements; repair the file"
        )
    return np.asarray(values[codes])


def read_interval_times(table: h5py.Group) -> tuple[np.ndarray, np.ndarray]:
    """Return the start and the stop times of a table of intervals, (rows,) each, seconds."""
    found = []
    for name in ("start_time", "stop_time"):
        values = read_numbers(require_dataset(table, name))
        if len(values) != n_rows(table):
            raise DamagedError(
                f"{location(table)} has {n_rows(table)} rows, but {len(values)} values of {name}; repair the file"
            )
        found.append(values.astype(float))
    return found[0], found[1]


def read_ends(table: h5py.Group, name: str) -> np.ndarray:
    """Return where the values of each row of a ragged column end, (rows,) int.

    Raises
    ------
    DamagedError
        If they are not one whole number for each row that does not decrease, or lie beyond the data.
    """
    index, data = require_dataset(table, f"{name}_index"), require_dataset(table, name)
    ends = read_numbers(index)
    size = data.shape[0] if data.shape else 0
    count = n_rows(table)
    if len(ends) != count:
        problem = f"has {len(ends)} entries for {count} rows"
    elif ends.dtype.kind == "f" and not (ends == np.floor(ends)).all():
        problem = "has entries that are not whole numbers"
    elif len(ends) and (ends[0] < 0 or (ends[1:] < ends[:-1]).any()):
        problem = "decreases or is negative"
    elif len(ends) and ends[-1] > size:
        problem = f"ends at {ends[-1]}, but {name} has {size} values"
    else:
        return ends.astype(np.int64)
    raise DamagedError(f"{location(index)} {problem}; repair the file")


def read_ragged(
    table: h5py.Group, name: str, rows: np.ndarray, width: int | None = None, text: bool = False
) -> tuple[list[np.ndarray], list[str]]:
    """Return the values of some rows of a ragged column, and a note if some belong to no row.

    Parameters
    ----------
    table : h5py.Group
    name : str
    rows : (rows,)
    width : int, optional
        Number of values in the second dimension; by default there is only one dimension.
    text : bool
        Whether the values are text.
    """
    data = require_dataset(table, name)
    if data.shape is None or data.shape[1:] != (() if width is None else (width,)) or not data.shape:
        wanted = "one dimension" if width is None else f"the shape (n, {width})"
        raise DamagedError(f"{location(data)} must have {wanted}, but it has the shape {data.shape}; repair the file")
    if not (is_text(data) if text else data.dtype.kind in "iuf"):
        raise DamagedError(f"{location(data)} must be {'text' if text else 'numbers'}; repair the file")
    ends = read_ends(table, name)
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
    check_size(location(data), float((ends - starts)[rows].sum()) * data.dtype.itemsize * np.prod(data.shape[1:]))
    found = [read_array(data, slice(int(starts[row]), int(ends[row]))) for row in rows]
    if text:
        found = [read_texts(values, location(data)) for values in found]
    stray = data.shape[0] - (int(ends[-1]) if len(ends) else 0)
    notes = [f"{location(data)}: {stray} of {data.shape[0]} values belong to no row and are not read"]
    return found, notes if stray else []
