"""Objects of an NWB file that are not read as activity or behavior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kalmanssl.data.nwb._access import peek
from kalmanssl.data.nwb._activity_sources import find_roi_tables
from kalmanssl.data.nwb._walk import walk_groups

if TYPE_CHECKING:
    import h5py

__all__ = ["OtherObject", "find_others"]


@dataclass(frozen=True)
class OtherObject:
    """An object that is not read.

    Attributes
    ----------
    path : str
        Path in the file.
    kind : str
        Neurodata type.
    n_rows : int or None
        Number of ROIs of a table of ROIs.
    remark : str
        What it is, or why it is not read.
    """

    path: str
    kind: str
    n_rows: int | None
    remark: str


def find_others(file: h5py.File) -> list[OtherObject]:
    """List the tables of ROIs, and all series; those that are read are among them."""
    others = [OtherObject(path, "PlaneSegmentation", n, "table of ROIs") for path, n in find_roi_tables(file).items()]
    for found in walk_groups(file, ("acquisition", "processing", "stimulus")):
        is_series = found.has_data
        if found.kind and (is_series or any(peek(found.group, name) for name in ("timestamps", "starting_time"))):
            remark = "not a type that is read" if is_series else "has no data"
            others.append(OtherObject(found.path, found.kind, None, remark))
    return [other for other in others if not other.path.startswith("processing/binned/")]
