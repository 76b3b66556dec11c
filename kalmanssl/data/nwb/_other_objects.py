"""Objects of an NWB file that are not read as activity or behavior."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kalmanssl.data.nwb._access import peek
from kalmanssl.data.nwb._activity_sources import find_roi_tables
from kalmanssl.data.nwb._walk import walk_groups

if TYPE_CHECKING:
    import h5py

__all__ = ["find_others"]


def find_others(file: h5py.File) -> list[tuple[str, str, int | None, str]]:
    """Return path, type, number of rows (ROIs) if known, and a remark of other objects.

    They are tables of ROIs, other series, and links to nothing.
    """
    others: list[tuple[str, str, int | None, str]] = [
        (path, "PlaneSegmentation", n, "table of ROIs") for path, n in find_roi_tables(file).items()
    ]
    for found in walk_groups(file, ("acquisition", "processing", "stimulus")):
        is_series = found.has_data
        if found.kind and (is_series or any(peek(found.group, name) for name in ("timestamps", "starting_time"))):
            remark = "not a type that is read" if is_series else "has no data"
            others.append((found.path, found.kind, None, remark))
    return [entry for entry in others if not entry[0].startswith("processing/binned/")]
