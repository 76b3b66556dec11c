"""Behavior in an NWB file: listing, selection and reading of series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from kalmanssl.data._binning import interpolate, sampling_period
from kalmanssl.data.nwb._access import (
    location,
    read_array,
    read_scaling,
    read_texts,
    require_dataset,
    text_attribute,
)
from kalmanssl.data.nwb._columns import is_text
from kalmanssl.data.nwb._confidence import without_doubtful
from kalmanssl.data.nwb._output_series import RESULTS
from kalmanssl.data.nwb._preferences import behavior_order, is_of_eyes, is_turned_wheel
from kalmanssl.data.nwb._times import distinct_times, read_times
from kalmanssl.data.nwb._walk import FoundGroup, walk_groups
from kalmanssl.errors import InputError
from kalmanssl.utils.measurement_units import is_angle
from kalmanssl.utils.text import shorten
from kalmanssl.utils.validation import short_repr

if TYPE_CHECKING:
    import h5py

__all__ = [
    "Behavior",
    "Samples",
    "Series",
    "choose_series",
    "find_series",
    "first_match",
    "has_results",
    "read_series",
]

_KINDS = ("SpatialSeries", "TimeSeries", "PoseEstimationSeries")  # the last is one of the extension ndx-pose
Behavior = str | Sequence[str] | Mapping[str, str] | Literal[False] | None
_Named = TypeVar("_Named", bound=Any)  # an object with the attribute `path`


@dataclass(frozen=True)
class Series:
    """Location and names of a behavior series in the file."""

    path: str
    kind: str
    container: str
    container_kind: str

    @property
    def name(self) -> str:
        """Name of the series."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def rank(self) -> int:
        """Priority for the automatic selection; the lowest is first."""
        if is_of_eyes(self.path):
            return 4
        if self.kind == "SpatialSeries" and not is_turned_wheel(self.path):
            return 0 if self.container_kind == "Position" else 1
        return 2 if self.path.startswith("processing/behavior/") else 3

    @property
    def label(self) -> str:
        """Short name: that of the container for a position or a series with a general name, else that of the series."""
        is_general = self.name in ("SpatialSeries", "TimeSeries")
        return self.container if self.container_kind == "Position" or is_general else self.name


def find_series(file: h5py.File) -> list[Series]:
    """List every series of behavior in the processing modules and in the acquisition."""

    def is_container(found: FoundGroup) -> bool:
        is_series = found.kind in _KINDS or found.has_data
        return not (is_series or found.kind.endswith("Table") or has_results(found.group))

    return [
        Series(found.path, found.kind, found.container, found.container_kind)
        for found in walk_groups(file, ("processing", "acquisition"), is_container)
        if found.kind in _KINDS and found.has_data and found.path.split("/")[:2] != ["processing", "binned"]
    ]


def has_results(group: h5py.Group) -> bool:
    """Return whether a group is a module of decoded behavior, which is not behavior of the recording."""
    return text_attribute(group, "description", 10**6).startswith(RESULTS)


def choose_series(found: list[Series], behavior: Behavior, columns: Sequence[Series] = ()) -> dict[str, Series]:
    """Select the series named by `behavior`; return them by the name under which to store them.

    `columns` of interval tables are selected only by their name, and only if no series has it.
    """
    if behavior is False or (isinstance(behavior, str) and behavior == "none"):
        return {}
    listing = shorten(", ".join(s.path for s in (*found, *columns))) or "none"
    if behavior is None:
        if not found:
            others = f"name a column ({shorten(', '.join(s.path for s in columns))}), or " if columns else ""
            raise InputError(
                f"the file has no SpatialSeries or TimeSeries; {others}give 'none' to read it without behavior",
                parameter="behavior",
            )
        first = [s for s in found if s.rank == min(f.rank for f in found)]
        first.sort(key=lambda series: behavior_order(series.path))
        if len(first) > 1:
            namings = ([s.label for s in first], [s.name for s in first], [s.path for s in first])
            names = next(naming for naming in namings if len(set(naming)) == len(first))
            raise InputError(f"behavior is ambiguous; name one of: {shorten(', '.join(names))}", parameter="behavior")
        chosen = {"": first[0]}
    elif isinstance(behavior, Mapping):
        return {key: _by_name(found, columns, name, listing) for key, name in behavior.items()}
    else:
        wanted = [behavior] if isinstance(behavior, str) else list(behavior)
        chosen = {name: _by_name(found, columns, name, listing) for name in wanted}
    spatial = [s for s in chosen.values() if s.rank == 0]
    named = [("position" if [s] == spatial else s.label, s) for s in chosen.values()]
    for i, (key, series) in enumerate(named):
        other = dict(named[:i]).get(key, series)
        if other.path != series.path:
            raise InputError(
                f"behavior has two series of the name {key}, {other.path} and {series.path}; give a dict with a name "
                "for each",
                parameter="behavior",
            )
    return dict(named)


def _by_name(found: list[Series], columns: Sequence[Series], name: str, listing: str) -> Series:
    positions = [s for s in found if s.rank == 0]
    candidates = (
        [s for s in found if s.path == name.strip("/")],
        [s for s in found if s.name == name],
        [s for s in found if s.container == name],
        positions if name == "position" else [],
        [s for s in columns if name.strip("/") in (s.path, f"{s.container}/{s.name}")],
        [s for s in columns if s.name == name],
    )
    return first_match("behavior", name, candidates, listing)


def first_match(parameter: str, name: str, candidates: Iterable[list[_Named]], listing: str) -> _Named:
    """Return the object in the first list that is not empty.

    Parameters
    ----------
    parameter, name : str
        The argument that names the object, and its value, for messages.
    candidates : iterable of lists of objects with the attribute `path`
        In order of preference.
    listing : str
        What the file has, for the message.

    Raises
    ------
    InputError
        If the list has several objects, or all lists are empty.
    """
    for matches in candidates:
        if len(matches) > 1:
            raise InputError(
                f"{parameter}={short_repr(name)} is ambiguous; name one by its path: "
                f"{shorten(', '.join(s.path for s in matches))}",
                parameter=parameter,
            )
        if matches:
            return matches[0]
    raise InputError(f"{parameter}={short_repr(name)} is not in the file; it has: {listing}", parameter=parameter)


@dataclass(frozen=True)
class Samples:
    """Samples of a series.

    Attributes
    ----------
    times : (samples,)
        Increasing, seconds.
    values : (samples,) or (samples, dims)
        In their unit; NaN where unknown. The number of the label for labels.
    unit : str
    period : float
        Sampling period, seconds.
    labels : (labels,) or None
        The distinct labels of a series of text or bools.
    """

    times: np.ndarray
    values: np.ndarray
    unit: str
    period: float
    labels: np.ndarray | None = None

    def tracked(self) -> np.ndarray:
        """Return the times of the samples without NaN."""
        known = np.isfinite(self.values) if self.values.ndim == 1 else np.isfinite(self.values).all(axis=1)
        return self.times[known]

    def at(self, time: np.ndarray) -> np.ndarray:
        """Return the values at other times (time,); NaN, or None for labels, where the series was not tracked."""
        nearest = self.labels is not None or is_angle(self.unit)
        samples = self.values
        if self.labels is not None:  # samples without a label are not bridged by their neighbors
            samples = np.where(np.isfinite(samples), samples, -1.0)
        values = interpolate(self.times, samples, time, self.period, nearest)
        if self.labels is None:
            return values
        result = np.full(len(values), None, dtype=object)
        known = values >= 0
        result[known] = self.labels[values[known].astype(int)]
        return result


def _numbers(data: h5py.Dataset, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the samples of a series as numbers, and for text and bools the labels that they number."""
    is_spatial = text_attribute(data.parent, "neurodata_type") == "SpatialSeries"
    values = read_array(data)
    if values.dtype.kind in "iuf":
        conversion, offset = read_scaling(data)
        return values.astype(float) * conversion + offset, None
    if is_spatial or not (is_text(data) or values.dtype.kind == "b"):
        wanted = "numbers" if is_spatial else "numbers, text or bools"
        raise InputError(f"series {name} must be {wanted}, but it has values of type {short_repr(values.dtype)}")
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise InputError(f"series {name} has labels of shape {values.shape}; labels must be (time,)")
    if values.dtype.kind == "b":
        return values.astype(float), np.array([False, True], dtype=object)
    text = read_texts(values, location(data)).astype(str)
    labels, codes = np.unique(text, return_inverse=True)
    return np.where(text == "", np.nan, codes), labels.astype(object)


def read_series(group: h5py.Group, extent: tuple[float, float] | None) -> tuple[Samples, list[str]]:
    """Read a series with its conversion, offset and times; also return notes on corrections.

    `extent` is the time range of spikes and epochs, seconds. It is used to detect sampling periods stored as rates.
    """
    data = require_dataset(group, "data")
    name = location(group)
    values, labels = _numbers(data, name)
    values, doubtful = without_doubtful(group, values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim not in (1, 2) or values.shape[1:] == (0,):
        raise InputError(f"series {name} has shape {values.shape}; behavior must be (time,) or (time, dims)")
    times, notes = read_times(group, len(values), extent)
    known, remarks = distinct_times(name, times)
    times, values = times[known], values[known]
    notes += remarks + doubtful
    if np.isinf(values).any():
        raise InputError(f"series {name} has infinite values; use NaN where it is unknown")
    unit = "" if labels is not None else text_attribute(data, "unit")
    return Samples(times, values, unit, sampling_period(times), labels), notes
