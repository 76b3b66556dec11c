"""The table of ROIs or electrodes that a series refers to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kalmanssl.data.nwb._access import find, is_dataset, member_names, text_attribute

if TYPE_CHECKING:
    import h5py

__all__ = ["region_of"]


def region_of(series: h5py.Group) -> h5py.Dataset | None:
    """Return the row numbers of a series in the table of its ROIs or electrodes; None if it has none."""
    for name in member_names(series):  # pynwb writes the channels of a DecompositionSeries under different names
        if name in ("data", "timestamps", "starting_time"):
            continue
        child = find(series, name)
        if text_attribute(child, "neurodata_type") == "DynamicTableRegion" and is_dataset(child):
            return child
    return None
