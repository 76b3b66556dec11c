"""Columns of a sampled series: their names, and the choice of some of them by the table that describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data.nwb._access import (
    location,
    read_numbers,
    referenced,
    require_dataset,
)
from kalmanssl.data.nwb._activity_sources import ActivitySource
from kalmanssl.data.nwb._columns import n_rows, read_column_values
from kalmanssl.data.nwb._regions import region_of
from kalmanssl.data.nwb._tables import choose_units
from kalmanssl.errors import InputError
from kalmanssl.utils.validation import short_repr

if TYPE_CHECKING:
    import h5py

__all__ = ["Columns", "choose_columns"]


@dataclass(frozen=True)
class Columns:
    """Selected columns of a series.

    Attributes
    ----------
    numbers : (columns,)
        Their positions in the data.
    names : tuple of str
        IDs in the table of ROIs or electrodes, or positions if there is no table.
    cell_type : tuple of str, or None
    notes : list of str
    """

    numbers: np.ndarray
    names: tuple[str, ...]
    cell_type: tuple[str, ...] | None
    notes: list[str]


def choose_columns(series: h5py.Group, source: ActivitySource, units: str | Mapping[str, Any], n: int) -> Columns:
    """Select those of the `n` columns of a series whose ROI, electrode or unit matches `units`.

    Raises
    ------
    InputError
        If the table describes another number of columns, or `units` does not match.
    """
    region = region_of(series)
    if region is None:
        if isinstance(units, Mapping):
            raise InputError(
                f"units must be 'auto' or 'all', got {short_repr(units)}: {source.path} has no table of its columns",
                parameter="units",
            )
        return Columns(np.arange(n), tuple(str(i) for i in range(n)), None, [])
    import h5py

    what = "electrodes" if source.kind != "RoiResponseSeries" else "ROIs"
    rows = read_numbers(region, kinds="iu")
    if len(rows) != n:
        turned = "; its axes must be (time, ROIs)" if require_dataset(series, "data").shape[0] == len(rows) else ""
        raise InputError(f"series {source.path} has {n} columns but {len(rows)} {what}; repair the file{turned}")
    table = referenced(region, "table")
    if not isinstance(table, h5py.Group):
        raise InputError(f"attribute table of {location(region)} must refer to a table; repair the file")
    if rows.max(initial=0) >= n_rows(table) or rows.min(initial=0) < 0:
        raise InputError(f"series {source.path} refers to {what} that are not in the file; repair the file")
    chosen = choose_units(table, units)
    position = {int(row): i for i, row in enumerate(chosen.rows)}
    numbers = np.array([i for i, row in enumerate(rows) if int(row) in position], dtype=int)
    if not len(numbers):
        raise InputError(
            f"no column of {source.path} matches units={short_repr(units)}; select others", parameter="units"
        )
    picked = rows[numbers]
    ids = [str(v) for v in read_column_values(table, "id")[picked]]
    names = ids if len(set(ids)) == len(ids) else [str(i) for i in numbers]
    types = chosen.cell_type
    cell_type = None if types is None else tuple(types[position[int(row)]] for row in picked)
    return Columns(numbers, tuple(names), cell_type, chosen.notes)
