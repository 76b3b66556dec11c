"""Activity in an NWB file: the places where it can be, and the choice of one of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kalmanssl.data.nwb._access import find, find_group, is_dataset, is_numeric, peek, referenced, require_dataset
from kalmanssl.data.nwb._columns import n_rows
from kalmanssl.data.nwb._open import path_text
from kalmanssl.data.nwb._preferences import activity_order, is_background
from kalmanssl.data.nwb._regions import region_of
from kalmanssl.data.nwb._series import first_match, has_results
from kalmanssl.data.nwb._walk import FoundGroup, walk_groups
from kalmanssl.errors import InputError
from kalmanssl.utils.text import shorten

if TYPE_CHECKING:
    import h5py

__all__ = ["BINNED", "TRACES", "UNITS", "ActivitySource", "choose_activity", "find_activity", "find_roi_tables"]

UNITS = "Units"
BINNED = "binned"  # written by `Recording.to_nwb`
TRACES = ("RoiResponseSeries", "DecompositionSeries", "FiberPhotometryResponseSeries")  # clearly activity
_SAMPLED = (*TRACES, "ElectricalSeries", "TimeSeries")
_ACTIVITY_NAME = re.compile(r"count|rate|spik|firing|binned|activity|dff|df_?over_?f|df_f", re.IGNORECASE)
_BEHAVIOR_KINDS = ("BehavioralTimeSeries", "BehavioralEvents", "PupilTracking", "EyeTracking", "Position")


@dataclass(frozen=True)
class ActivitySource:
    """Location of activity in the file.

    Attributes
    ----------
    path : str
        Path in the file, such as "processing/ophys/DfOverF/RoiResponseSeries".
    kind : str
        Type of the object: "Units", "RoiResponseSeries", "DecompositionSeries", "FiberPhotometryResponseSeries",
        "ElectricalSeries", "TimeSeries", or "binned".
    container : str
        Name of the object that contains it.
    automatic : bool
        Whether it can be chosen without its name.
    planes : tuple of ActivitySource
        The traces of different cells in a container, such as those of two imaging planes, if it is read as a whole.
    """

    path: str
    kind: str
    container: str
    automatic: bool
    planes: tuple[ActivitySource, ...] = ()

    @property
    def name(self) -> str:
        """Name of the object."""
        return self.path.rsplit("/", 1)[-1]


def find_activity(file: h5py.File) -> list[ActivitySource]:
    """List everything in the file that can be read as activity: units, traces, rates and field potentials."""
    found = []
    units = find_group(file, "units")
    if units is not None and find(units, "spike_times") is not None:
        found.append(ActivitySource("units", UNITS, "", True))
    if find_group(file, f"processing/{BINNED}") is not None:
        found.append(ActivitySource(f"processing/{BINNED}", BINNED, "processing", True))
    sampled = [one for one in walk_groups(file, ("processing", "acquisition"), _is_container) if _is_sampled(one)]
    joined = _find_planes(sampled)
    parts = {plane.path for source in joined for plane in source.planes}
    alone = [
        ActivitySource(one.path, one.kind, one.container, _is_automatic(one) and one.path not in parts)
        for one in sampled
    ]
    return found + joined + alone


def _find_planes(sampled: list[FoundGroup]) -> list[ActivitySource]:
    """List the traces of several imaging planes: series of one container, each with a table of ROIs of its own.

    These are all series of the container, or, if it has several kinds of traces, those whose names differ only in
    numbers. Then the source has their name with "*" for the numbers, such as "DeconvolvedPlane*".
    """
    by_container: dict[str, list[FoundGroup]] = {}
    for one in sampled:
        if one.kind == "RoiResponseSeries" and not is_background(one.path):
            by_container.setdefault(one.path.rsplit("/", 1)[0], []).append(one)
    joined = []
    for path, series in by_container.items():
        by_name: dict[str, list[FoundGroup]] = {}
        for one in series:
            by_name.setdefault(re.sub(r"\d+", "*", one.path.rsplit("/", 1)[1]), []).append(one)
        whole = {path: series} if _are_planes(series) else {}
        for where, group in (whole or {f"{path}/{name}": same for name, same in by_name.items()}).items():
            if _are_planes(group):
                planes = tuple(ActivitySource(one.path, one.kind, one.container, False) for one in group)
                container = f"/{where}".split("/")[-2]  # "" for the whole acquisition
                joined.append(ActivitySource(where, "RoiResponseSeries", container, True, planes))
    return joined


def _are_planes(series: list[FoundGroup]) -> bool:
    """Return whether there are several series, each with a table of ROIs of its own."""
    tables = [_roi_table(one.group) for one in series]
    return len(series) > 1 and None not in tables and len(set(tables)) == len(series)


def _roi_table(series: h5py.Group) -> str | None:
    """Return the path of the table of the ROIs of a series, or None if it has none."""
    region = region_of(series)
    try:
        table = None if region is None else referenced(region, "table")
    except InputError:
        return None
    return None if table is None else str(table.name)


def _is_sampled(found: FoundGroup) -> bool:
    """Return whether a group is a series that can be read as activity."""
    if found.kind not in _SAMPLED or found.path.startswith(f"processing/{BINNED}/"):
        return False
    data = peek(found.group, "data")
    return is_dataset(data) and (found.kind != "TimeSeries" or is_numeric(data))


def _is_container(found: FoundGroup) -> bool:
    """Return whether series can be inside a group."""
    if found.path == f"processing/{BINNED}" or found.has_data or has_results(found.group):
        return False
    return peek(found.group, "id") is None


def _is_automatic(found: FoundGroup) -> bool:
    """Return whether a series can be chosen without its name."""
    if found.kind == "TimeSeries":
        return _is_named_as_activity(found.group, found.path, found.container_kind)
    return found.kind in TRACES and not is_background(found.path)


def _is_named_as_activity(series: h5py.Group, path: str, container_kind: str) -> bool:
    """Return whether a TimeSeries has several columns and its path has a word such as "rates" or "counts"."""
    if is_background(path) or path.startswith("processing/behavior/") or container_kind in _BEHAVIOR_KINDS:
        return False
    shape = require_dataset(series, "data").shape
    return (
        shape is not None
        and len(shape) == 2
        and shape[1] > 1
        and _ACTIVITY_NAME.search(path.split("/", 1)[1]) is not None
    )


def find_roi_tables(file: h5py.File) -> dict[str, int]:
    """Return the number of ROIs in each table of regions of interest, by its path."""
    return {
        found.path: n_rows(found.group)
        for found in walk_groups(file, ("processing", "acquisition"))
        if found.kind == "PlaneSegmentation" and peek(found.group, "id") is not None
    }


def choose_activity(file: h5py.File, activity: str | None, path: object) -> ActivitySource:
    """Return the activity with the given name, or the only one in the file; units with spike times have priority."""
    found = find_activity(file)
    listing = shorten(", ".join(s.path for s in found))
    if activity is not None:
        return _by_name(found, activity, listing or "none")
    automatic = [s for s in found if s.automatic]
    first = [s for s in automatic if s.kind in (UNITS, BINNED)] or automatic
    first.sort(key=lambda source: activity_order(source.path))
    if len(first) == 1 or (first and first[0].kind == UNITS):
        return first[0]
    if first:
        raise InputError(
            f"activity is ambiguous; name one of: {shorten(', '.join(s.path for s in first))}", parameter="activity"
        )
    if found:
        raise InputError(
            f"{path_text(path)} has no units with spike times and no traces that are clearly activity; "
            f"name one of: {listing}",
            parameter="activity",
        )
    tables = find_roi_tables(file)
    if tables:
        rois = shorten(", ".join(f"{n} in {table}" for table, n in tables.items()))
        raise InputError(
            f"{path_text(path)} has ROIs ({rois}) but no RoiResponseSeries with their traces; add the traces to the "
            "file",
            parameter="path",
        )
    problem = f"{path_text(path)} has no units with spike times and no other activity"
    message = f"{problem}; for other data use Recording.from_arrays"
    raise InputError(message, parameter="path")


def _by_name(found: list[ActivitySource], name: str, listing: str) -> ActivitySource:
    """Return the source with this path, name or container."""
    wanted = name.strip("/")
    candidates = (
        [s for s in found if s.path == wanted],
        [s for s in found if s.path.endswith(f"/{wanted}") and "/" in wanted],
        [s for s in found if s.name == wanted],
        [s for s in found if s.container == wanted],
    )
    return first_match("activity", name, candidates, listing)
