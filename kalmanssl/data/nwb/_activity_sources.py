"""Activity in an NWB file: the places where it can be, and the choice of one of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kalmanssl.data.nwb._series import decode_text, first_match, has_data, has_results
from kalmanssl.errors import InputError

if TYPE_CHECKING:
    import h5py

__all__ = ["BINNED", "UNITS", "ActivitySource", "choose_activity", "find_activity", "find_roi_tables"]

UNITS = "Units"
BINNED = "binned"  # written by `Recording.to_nwb`
_SAMPLED = ("RoiResponseSeries", "DecompositionSeries", "ElectricalSeries", "TimeSeries")
_ACTIVITY_NAME = re.compile(r"count|rate|spik|firing|binned|activity", re.IGNORECASE)
_BEHAVIOR_KINDS = ("BehavioralTimeSeries", "BehavioralEvents", "PupilTracking", "EyeTracking", "Position")


@dataclass(frozen=True)
class ActivitySource:
    """Location of activity in the file.

    Attributes
    ----------
    path : str
        Path in the file, such as "processing/ophys/DfOverF/RoiResponseSeries".
    kind : str
        Type of the object: "Units", "RoiResponseSeries", "DecompositionSeries", "ElectricalSeries", "TimeSeries", or
        "binned".
    container : str
        Name of the object that contains it.
    automatic : bool
        Whether it can be chosen without its name.
    """

    path: str
    kind: str
    container: str
    automatic: bool

    @property
    def name(self) -> str:
        """Name of the object."""
        return self.path.rsplit("/", 1)[-1]


def find_activity(file: h5py.File) -> list[ActivitySource]:
    """List everything in the file that can be read as activity: units, traces, rates and field potentials."""
    found = []
    if "units" in file and "spike_times" in file["units"]:
        found.append(ActivitySource("units", UNITS, "", True))
    if "binned" in file.get("processing", {}):
        found.append(ActivitySource("processing/binned", BINNED, "processing", True))
    for root in ("processing", "acquisition"):
        if root in file:
            found += _walk(file[root], root, root, "")
    return found


def _walk(group: h5py.Group, path: str, container: str, container_kind: str) -> list[ActivitySource]:
    import h5py

    found = []
    for name in group:
        child = group.get(name)
        where = f"{path}/{name}"
        if not isinstance(child, h5py.Group) or where == "processing/binned":
            continue
        kind = decode_text(child.attrs.get("neurodata_type", ""))
        if kind in _SAMPLED and has_data(child):
            automatic = kind in ("RoiResponseSeries", "DecompositionSeries") or (
                kind == "TimeSeries" and _is_named_as_activity(child, where, container_kind)
            )
            if kind != "TimeSeries" or child["data"].dtype.kind in "iuf":
                found.append(ActivitySource(where, kind, container, automatic))
        elif not has_data(child) and "id" not in child and not has_results(child):
            found += _walk(child, where, name, kind)
    return found


def _is_named_as_activity(series: h5py.Group, path: str, container_kind: str) -> bool:
    """Return whether a TimeSeries has several columns and its path has a word such as "rates" or "counts"."""
    if path.startswith("processing/behavior/") or container_kind in _BEHAVIOR_KINDS:
        return False
    shape = series["data"].shape
    return len(shape) == 2 and shape[1] > 1 and _ACTIVITY_NAME.search(path.split("/", 1)[1]) is not None


def find_roi_tables(file: h5py.File) -> dict[str, int]:
    """Return the number of ROIs in each table of regions of interest, by its path."""
    import h5py

    found = {}

    def visit(path: str, item: object) -> None:
        if isinstance(item, h5py.Group) and item.attrs.get("neurodata_type") == "PlaneSegmentation" and "id" in item:
            found[path] = len(item["id"])

    for root in ("processing", "acquisition"):
        if root in file:
            file[root].visititems(lambda name, item, root=root: visit(f"{root}/{name}", item))
    return found


def choose_activity(file: h5py.File, activity: str | None, path: object) -> ActivitySource:
    """Return the activity with the given name, or the only one in the file; units with spike times have priority."""
    found = find_activity(file)
    listing = ", ".join(s.path for s in found)
    if activity is not None:
        return _by_name(found, activity, listing or "none")
    automatic = [s for s in found if s.automatic]
    first = [s for s in automatic if s.kind in (UNITS, BINNED)] or automatic
    if len(first) == 1 or (first and first[0].kind == UNITS):
        return first[0]
    if first:
        raise InputError(
            f"activity is ambiguous; name one of: {', '.join(s.path for s in first)}", parameter="activity"
        )
    if found:
        raise InputError(
            f"{path} has no units with spike times and no traces that are clearly activity; name one of: {listing}",
            parameter="activity",
        )
    tables = find_roi_tables(file)
    if tables:
        rois = ", ".join(f"{n} in {table}" for table, n in tables.items())
        raise InputError(
            f"{path} has ROIs ({rois}) but no RoiResponseSeries with their traces; add the traces to the file",
            parameter="path",
        )
    message = f"{path} has no units with spike times and no other activity; for other data use Recording.from_arrays"
    raise InputError(message, parameter="path")


def _by_name(found: list[ActivitySource], name: str, listing: str) -> ActivitySource:
    """Return the source with this path, name or container."""
    wanted = name.strip("/") if isinstance(name, str) else name
    candidates = (
        [s for s in found if s.path == wanted],
        [s for s in found if s.path.endswith(f"/{wanted}") and "/" in str(wanted)],
        [s for s in found if s.name == wanted],
        [s for s in found if s.container == wanted],
    )
    return first_match("activity", name, candidates, listing)
