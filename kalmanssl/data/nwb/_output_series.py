"""Times, units and neurodata types of the series that are written to NWB files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kalmanssl.data._validation import check_text
from kalmanssl.errors import InputError
from kalmanssl.utils.measurement_units import LARGEST_ANGLE, SPATIAL_UNITS, long_unit
from kalmanssl.utils.validation import check_condition, short_repr

__all__ = [
    "RESULTS",
    "behavior_series",
    "check_nwb_name",
    "compress",
    "container_type",
    "fill_container",
    "rounded_probabilities",
    "time_fields",
]

RESULTS = "results of kalmanssl: "  # start of the description of a module with results; reading ignores such modules

_LONGEST_NAME = 1000  # characters
_MIN_COMPRESSED = 2**12  # values; compression of smaller arrays saves nothing
_CHUNK = 2**16  # values in a chunk of a compressed array
_SMALLEST_PROBABILITY = 1e-6
_DROPPED_BITS = 14  # of the 23 that a float32 has after its first binary digit; the others give an error below 0.1 %


def time_fields(time: np.ndarray) -> dict[str, Any]:
    """Return the times of a series as arguments of `pynwb.TimeSeries`.

    Parameters
    ----------
    time : (time,)
        Seconds, increasing.

    Returns
    -------
    dict
        `starting_time` (seconds) and `rate` (hertz) if they give all times to a microsecond and to a thousandth of a
        step, otherwise `timestamps`.
    """
    n_steps = len(time) - 1
    if n_steps >= 1:
        start, rate = float(time[0]), n_steps / float(time[-1] - time[0])
        tolerance = min(1e-6, 1e-3 / rate)
        for candidate in (float(f"{rate:.9g}"), rate):  # 40.0 rather than 39.99999999985
            if np.abs(start + np.arange(len(time)) / candidate - time).max() < tolerance:
                return {"starting_time": start, "rate": candidate}
    return {"timestamps": np.asarray(time, dtype=float)}


def check_nwb_name(name: str, parameter: str) -> None:
    """Raise `InputError` if an NWB file can have no object of this name."""
    check_condition(parameter, name, isinstance(name, str), "text")
    check_text(parameter, name)
    if not name.strip() or name in (".", "..") or any(sign in name for sign in "/:") or len(name) > _LONGEST_NAME:
        raise InputError(
            f"{parameter}: {short_repr(name)} cannot be a name in an NWB file; choose one without '/' and ':'",
            parameter=parameter,
        )


def compress(values: np.ndarray) -> Any:
    """Return an array for writing with compression, unless it is small. Each chunk has whole rows, that is bins."""
    if values.size < _MIN_COMPRESSED:
        return values
    from pynwb import H5DataIO

    n_rows = max(1, min(len(values), _CHUNK * len(values) // values.size))
    chunks = (n_rows, *values.shape[1:])
    return H5DataIO(values, compression="gzip", compression_opts=1, shuffle=True, chunks=chunks)


def rounded_probabilities(mass: np.ndarray) -> np.ndarray:
    """Return probabilities as float32, with an error below 0.1 %, and 0 instead of those below one in a million.

    Compressed, they take about a fifth of the space of the unrounded ones. NWB series cannot have numbers of 16 bits.
    """
    kept = np.where(mass < _SMALLEST_PROBABILITY, np.float32(0), mass.astype(np.float32))
    bits = kept.view(np.uint32)
    bits += np.uint32(1 << (_DROPPED_BITS - 1))  # to the nearest; a carry goes on into the exponent, as it should
    bits &= np.uint32(2**32 - (1 << _DROPPED_BITS))
    return kept


def container_type(kind: str, unit: str, values: Sequence[np.ndarray]) -> Any:
    """Return the neurodata type of the container for series of behavior.

    Parameters
    ----------
    kind : {"position", "angle", "other"}
        What the values are.
    unit : str
        Unit of measurement; empty if unknown.
    values : sequence of (time,) or (time, dims)
        The values of all series, NaN where unknown.

    Returns
    -------
    type
        `pynwb.behavior.Position` or `CompassDirection`, if NWB allows the unit, the range and the number of dimensions
        there; otherwise `BehavioralTimeSeries`.
    """
    from pynwb.behavior import BehavioralTimeSeries, CompassDirection, Position

    spatial = long_unit(unit)
    allowed = kind != "other" and all(_is_spatial(one, spatial) for one in values)
    if kind == "angle":
        allowed &= spatial in LARGEST_ANGLE and all(one.ndim == 1 for one in values)
    if not allowed:
        return BehavioralTimeSeries
    return Position if kind == "position" else CompassDirection


def behavior_series(container: Any, unit: str, reference_frame: str, **fields: Any) -> Any:
    """Return a `SpatialSeries` or `TimeSeries`, as the type of container from `container_type` needs it.

    `fields` are further arguments of `pynwb.TimeSeries`; `data` is compressed if it is large.
    """
    from pynwb.base import TimeSeries
    from pynwb.behavior import BehavioralTimeSeries, SpatialSeries

    fields["data"] = compress(fields["data"])
    if container is BehavioralTimeSeries:
        return TimeSeries(unit=unit.strip() or "unknown", **fields)
    return SpatialSeries(unit=long_unit(unit), reference_frame=reference_frame, **fields)


def fill_container(container: Any, name: str, series: Sequence[Any]) -> Any:
    """Return a container of a type from `container_type` with its series."""
    from pynwb.behavior import BehavioralTimeSeries

    argument = "time_series" if container is BehavioralTimeSeries else "spatial_series"
    return container(name=name, **{argument: list(series)})


def _is_spatial(values: np.ndarray, unit: str) -> bool:
    """Return whether values with a unit of `long_unit` can be in a SpatialSeries."""
    if unit not in SPATIAL_UNITS or values.ndim > 2 or (values.ndim == 2 and values.shape[1] > 3):
        return False
    largest = LARGEST_ANGLE.get(unit, np.inf)
    return not (np.abs(values) > largest).any()
