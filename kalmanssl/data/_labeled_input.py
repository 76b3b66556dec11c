"""Times and names that a table of pandas or a labeled array of xarray has."""

from __future__ import annotations

from typing import Any

__all__ = ["labels_of"]


def labels_of(values: Any) -> tuple[Any, Any]:
    """Return the times and the column names of a table or labeled array (time, columns); None where there are none.

    The index of a DataFrame is its times if it is named "time"; a DataArray has the coordinate "time" and that of its
    other dimension.
    """
    dims = getattr(values, "dims", None)
    if dims is not None and len(dims) == 2 and hasattr(values, "coords"):
        time = values.coords["time"].values if dims[0] == "time" and "time" in values.coords else None
        return time, values.coords[dims[1]].values.tolist() if dims[1] in values.coords else None
    index, columns = getattr(values, "index", None), getattr(values, "columns", None)
    if columns is None:
        return None, None
    return index if getattr(index, "name", None) == "time" else None, list(columns)
