"""Alignment of values in bins to events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data._pynapple import is_pynapple
from kalmanssl.errors import InputError
from kalmanssl.utils.arrays import as_floats
from kalmanssl.utils.memory import UNCHECKED_MEMORY, check_memory
from kalmanssl.utils.validation import check_not_negative

if TYPE_CHECKING:
    import xarray

__all__ = ["AlignMixin", "align_to"]


class AlignMixin:
    """The method `align_to` of latents, decoded behavior and recordings."""

    time: np.ndarray

    def align_to(self, events: Any, before: float, after: float) -> xarray.Dataset:
        """Cut out the time around events.

        Parameters
        ----------
        events : (events,), or Ts of pynapple
            Times, seconds, such as stimulus onsets; in any order.
        before, after : float
            Length of the window before and after each event, seconds.

        Returns
        -------
        xarray.Dataset
            Arrays (event, lag, ...), NaN where there is no bin. The coordinate `lag` is the time since the bin that
            contains the event, seconds, and `event_time` the time of each event. Latents have the variable `mean`
            (event, lag, state); recordings have `activity` and their behavior; decoded positions have `mean`, `lower`
            and `upper`; decoded labels have `probability` (event, lag, label).

        Raises
        ------
        InputError
            If no event is near a bin, an event time is NaN, or the window is shorter than a bin.
        """
        return align_to(self, events, before, after)

    def _variables(self) -> Mapping[str, tuple[tuple[str, ...], np.ndarray]]:
        """Return the arrays to align by name, each with the names of its dimensions after time, (time, ...)."""
        raise NotImplementedError

    def _coordinates(self) -> Mapping[str, Any]:
        """Return the coordinates of the dimensions other than time."""
        return {}


def align_to(values: AlignMixin | Sequence[AlignMixin], events: Any, before: float, after: float) -> xarray.Dataset:
    """Cut out the time around events from latents, decoded behavior or recordings, or from one of them for each event.

    Parameters
    ----------
    values : Latents, DecodedPosition, DecodedCategory or Recording, or a sequence of these
        A sequence has one entry for each event, such as the latents of trials. The window then does not reach into
        other trials.
    events, before, after
        As in `Latents.align_to`.

    Returns
    -------
    xarray.Dataset
        As from `Latents.align_to`.

    Raises
    ------
    InputError
        As `Latents.align_to`; also if a sequence has another length than `events`.
    """
    import xarray

    times = _check_events(events, before, after)
    pieces = [values] if isinstance(values, AlignMixin) else list(values)
    if not pieces or not all(isinstance(piece, AlignMixin) for piece in pieces):
        raise InputError(
            "values must be latents, decoded behavior or a recording, or a list of these", parameter="values"
        )
    if isinstance(values, AlignMixin):
        piece_of_event = np.zeros(len(times), dtype=int)
    elif len(pieces) == len(times):
        piece_of_event = np.arange(len(times))
    else:
        message = f"there are {len(times)} events for {len(pieces)} trials: give one for each"
        raise InputError(message, parameter="events")
    width = _bin_width(pieces)
    needed = 32.0 * len(times) * float(np.float64(before + after) / width)  # times, indices and values
    if needed > UNCHECKED_MEMORY:
        check_memory(needed, f"the bins around {len(times)} events", "give a shorter window", "before")
    lags = np.arange(-_whole_bins(before, width), _whole_bins(after, width))
    if len(lags) == 0:
        raise InputError(f"before and after are together shorter than a bin of {width:g} s", parameter="after")
    bins = [_bins_at_lags(pieces[i].time, event, lags, width) for i, event in zip(piece_of_event, times, strict=True)]
    if all((index < 0).all() for index in bins):
        raise InputError(
            f"no bin is near an event: events are at {times.min():g} to {times.max():g} s, bins at "
            f"{pieces[0].time[0]:g} to {pieces[-1].time[-1]:g} s",
            parameter="events",
        )
    tables = [piece._variables() for piece in pieces]
    variables = {}
    for name, (dims, _) in tables[0].items():
        rows = [_take(tables[i][name][1], index) for i, index in zip(piece_of_event, bins, strict=True)]
        variables[name] = (("event", "lag", *dims), np.stack(rows))
    coordinates = {
        "event_time": ("event", times, {"units": "s"}),
        "lag": ("lag", lags * width, {"units": "s"}),
        **pieces[0]._coordinates(),
    }
    return xarray.Dataset(variables, coordinates)


def _check_events(events: Any, before: float, after: float) -> np.ndarray:
    """Return the times of events, (events,), after a check of them and of the window."""
    for name, length in (("before", before), ("after", after)):
        check_not_negative(name, length)
    given = events.index.values if is_pynapple(events, "Ts", "Tsd") else events
    times = np.atleast_1d(as_floats("events", given))
    if times.ndim != 1 or len(times) == 0:
        raise InputError(f"events must be at least one time, (events,); got shape {times.shape}", parameter="events")
    if not np.isfinite(times).all():
        count = int((~np.isfinite(times)).sum())
        raise InputError(f"events has {count} NaN or infinite times: leave them out", parameter="events")
    return times


def _bin_width(pieces: Sequence[AlignMixin]) -> float:
    """Return the width of the bins of all pieces, seconds: the median step."""
    known = getattr(pieces[0], "bin_size", None)
    if known is not None:
        return float(known)
    steps = np.concatenate([np.diff(piece.time) for piece in pieces])
    if len(steps) == 0:
        raise InputError("values has one bin, whose width is not known: give at least two", parameter="values")
    return float(np.median(steps))


def _whole_bins(length: float, width: float) -> int:
    """Return the number of bins that a length of time fits, with tolerance for rounding."""
    return int(np.floor(length / width + 1e-6))


def _bins_at_lags(time: np.ndarray, event: float, lags: np.ndarray, width: float) -> np.ndarray:
    """Return the index of the bin at each lag from an event, (lags,) int; -1 where there is none."""

    def nearest(wanted: np.ndarray) -> np.ndarray:
        """Return the nearest bin, and the later one of two that are equally near."""
        right = np.clip(np.searchsorted(time, wanted), 0, len(time) - 1)
        left = np.maximum(right - 1, 0)
        return np.where(wanted - time[left] < time[right] - wanted - 1e-6 * width, left, right)

    # Lags are counted in whole bins from one bin near the event, so that rounding does not skip or repeat a bin.
    near = time[nearest(np.array([event]))[0]]
    origin = near + width * np.floor((event - near) / width + 0.5 + 1e-6)
    wanted = origin + lags * width
    index = nearest(wanted)
    return np.where(np.abs(time[index] - wanted) <= 0.5 * width * (1 + 1e-6), index, -1)


def _take(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the rows at the indices; NaN, or None for labels, where they are -1."""
    is_label = values.dtype == object
    taken = values[index] if is_label else values[index].astype(float)
    taken[index < 0] = None if is_label else np.nan
    return taken
