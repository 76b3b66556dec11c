"""Objects of an NWB file that are not read as activity or behavior."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kalmanssl.data.nwb._activity_sources import find_roi_tables
from kalmanssl.data.nwb._series import decode_text, has_data

if TYPE_CHECKING:
    import h5py

__all__ = ["find_others"]


def find_others(file: h5py.File) -> list[tuple[str, str, int | None, str]]:
    """Return path, type, number of rows (ROIs) if known, and a remark of tables of ROIs and of other series."""
    import h5py

    found: list[tuple[str, str, int | None, str]] = [
        (path, "PlaneSegmentation", n, "table of ROIs") for path, n in find_roi_tables(file).items()
    ]

    def visit(path: str, item: object) -> None:
        if not isinstance(item, h5py.Group) or "neurodata_type" not in item.attrs:
            return
        if has_data(item) or "timestamps" in item or "starting_time" in item:
            kind = decode_text(item.attrs["neurodata_type"])
            remark = "not a type that is read" if has_data(item) else "has no data"
            found.append((path, kind, None, remark))

    for root in ("acquisition", "processing", "stimulus"):
        if root in file:
            file[root].visititems(lambda name, item, root=root: visit(f"{root}/{name}", item))
    return [entry for entry in found if not entry[0].startswith("processing/binned/")]
