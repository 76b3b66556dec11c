"""Recordings with fewer units, wider bins, or the bins of several recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from kalmanssl.data._linearize import linearize_track
from kalmanssl.data._validation import check_names
from kalmanssl.errors import InputError
from kalmanssl.utils.measurement_units import is_angle
from kalmanssl.utils.segments import segment_slices
from kalmanssl.utils.validation import check_condition, check_number, check_positive, short_repr, unknown_name_error

if TYPE_CHECKING:
    from kalmanssl.data._recording import Recording

__all__ = ["Reshaping"]

_TOLERANCE = 1e-6  # of the ratio of two widths of bins


class Reshaping:
    """The methods of `Recording` that return other units or bins than it has."""

    activity: np.ndarray
    time: np.ndarray
    bin_size: float
    unit_ids: tuple[str, ...]
    behavior: dict[str, np.ndarray]
    behavior_unit: dict[str, str]
    spike_times: tuple[np.ndarray, ...] | None
    cell_type: tuple[str, ...] | None
    kind: str

    def select_units(
        self, units: Any = None, *, min_rate: float | None = None, cell_type: str | Sequence[str] | None = None
    ) -> Self:
        """Return the recording with only some of its units.

        `Recording.from_nwb` can select units by the columns of the file, such as a region or a quality.

        Parameters
        ----------
        units : sequence of names, or (units,) bool, optional
            Units to keep, in this order; numbers are names, too. A mask keeps their order. By default all.
        min_rate : float, optional
            Keep units with at least so many events per second, on average over the bins.
        cell_type : str or sequence of str, optional
            Keep units of these cell types.

        Raises
        ------
        InputError
            If a name is unknown or repeated, a mask has another length than `unit_ids`, rates of a signal or unknown
            cell types are asked for, or no unit is left.
        """
        columns = np.arange(len(self.unit_ids)) if units is None else _columns(units, self.unit_ids)
        if min_rate is not None:
            check_number("min_rate", min_rate)
            check_condition("min_rate", min_rate, self.kind == "counts", "None for a signal, which has no rates")
            rate = self.activity.mean(axis=0, dtype=float)[columns] / self.bin_size
            columns = columns[rate >= min_rate]
        if cell_type is not None:
            if self.cell_type is None:
                raise InputError("cell_type is not known for this recording: select units by name", parameter="units")
            wanted = (cell_type,) if isinstance(cell_type, str) else check_names("cell_type", cell_type)
            for name in wanted:
                if name not in self.cell_type:
                    raise unknown_name_error("cell_type", name, sorted(set(self.cell_type)))
            columns = columns[np.isin(np.array(self.cell_type, dtype=object)[columns], wanted)]
        if len(columns) == 0:
            raise InputError(f"none of {len(self.unit_ids)} units is left: select at least one", parameter="units")
        spikes, types = self.spike_times, self.cell_type
        return replace(  # type: ignore[type-var]
            self,
            activity=self.activity[:, columns],
            unit_ids=tuple(self.unit_ids[i] for i in columns),
            spike_times=None if spikes is None else tuple(spikes[i] for i in columns),
            cell_type=None if types is None else tuple(types[i] for i in columns),
        )

    def rebin(self, bin_size: float) -> Self:
        """Return the recording in wider bins.

        Counts are summed and signals are averaged. Behavior is that at the new bin centers, interpolated between two
        bins where these are equally near; angles (in degrees or radians) and labels take the earlier one. Bins at the
        end of a segment that do not fill a new bin are left out.

        Parameters
        ----------
        bin_size : float
            Width of the new bins, seconds; a multiple of the present width.

        Raises
        ------
        InputError
            If it is not a multiple, or no segment is as long as a new bin.
        """
        check_positive("bin_size", bin_size)
        ratio = bin_size / self.bin_size
        n = round(min(ratio, len(self.time) + 1))
        if n < 1 or (n <= len(self.time) and abs(ratio - n) > _TOLERANCE * n):
            raise InputError(
                f"bin_size={bin_size:g} s is not a multiple of the present bins of {self.bin_size:g} s: give a "
                "multiple",
                parameter="bin_size",
            )
        segments = segment_slices(self.time, self.bin_size)
        kept = np.zeros(len(self.time), dtype=bool)
        for segment in segments:
            kept[segment.start : segment.stop - (segment.stop - segment.start) % n] = True
        if not kept.any():
            longest = max(segment.stop - segment.start for segment in segments)
            raise InputError(
                f"no segment fills a bin of {bin_size:g} s: the longest has {longest * self.bin_size:g} s; give "
                "shorter bins",
                parameter="bin_size",
            )
        whole = cast("Recording", self)._take(kept)
        groups = whole.activity.reshape(-1, n, whole.activity.shape[1])
        activity = groups.sum(axis=1) if self.kind == "counts" else groups.mean(axis=1, dtype=np.float64)
        behavior = {
            name: _at_centers(values, n, is_angle(self.behavior_unit.get(name, "")))
            for name, values in whole.behavior.items()
        }
        rebinned = replace(
            whole,
            activity=activity.astype(np.float32),
            time=whole.time.reshape(-1, n).mean(axis=1),
            bin_size=n * self.bin_size,
            behavior=behavior,
        )
        return cast(Self, rebinned)

    def linearize(self, name: str = "position", track: Any = None) -> Self:
        """Return the recording with a behavior in x and y replaced by the distance along a track.

        Parameters
        ----------
        name : str
            The behavior, (time, 2). Its unit stays.
        track : Track, or as `waypoints` of `linearize_track`, optional
            By default the middle line of the positions, for tracks without branches. A loop has the period
            `Track.length`.

        Raises
        ------
        InputError
            If there is no such behavior, or see `linearize_track`.
        """
        if name not in self.behavior:
            raise unknown_name_error("name", name, self.behavior)
        values = self.behavior[name]
        if values.dtype == object or values.ndim != 2 or values.shape[1] != 2:
            raise InputError(
                f"{name} cannot be projected to a track: it must be x and y, (time, 2), and has shape {values.shape}",
                parameter="name",
            )
        distance = linearize_track(values, track).distance
        return replace(self, behavior=self.behavior | {name: distance})  # type: ignore[type-var]

    @classmethod
    def concatenate(cls, parts: Sequence[Recording]) -> Recording:
        """Join consecutive parts of one session, such as several files.

        Parameters
        ----------
        parts : sequence of Recording
            In order of time, with the same units, width of bins, behavior and name of the session. Time between two
            parts is a gap. For parts with unrelated units give a list to `KalmanSSL.fit`.

        Raises
        ------
        InputError
            If the parts differ in what must be the same, or overlap in time.
        """
        listed = list(parts)
        check_condition("parts", parts, len(listed) > 0 and all(isinstance(p, cls) for p in listed), "recordings")
        first = listed[0]
        for number, part in enumerate(listed[1:], start=2):
            _check_alike(first, part, number)
            previous = listed[number - 2]
            if part.time[0] < previous.time[-1] + 0.5 * first.bin_size:
                raise InputError(
                    f"part {number} begins at {part.time[0]:.10g} s, before the end of the part before it at "
                    f"{previous.time[-1]:.10g} s: give parts in order of time, in the same clock",
                    parameter="parts",
                )
        spikes = None
        if all(part.spike_times is not None for part in listed):
            spikes = tuple(
                np.concatenate(trains) for trains in zip(*(part.spike_times or () for part in listed), strict=True)
            )
        labels = dict.fromkeys(label for part in listed for label in part.epochs)
        epochs = {
            label: np.unique(np.concatenate([p.epochs[label] for p in listed if label in p.epochs]), axis=0)
            for label in labels
        }
        return replace(
            first,
            activity=np.concatenate([part.activity for part in listed]),
            time=np.concatenate([part.time for part in listed]),
            behavior={name: np.concatenate([part.behavior[name] for part in listed]) for name in first.behavior},
            epochs=epochs,
            spike_times=spikes,
            source=", ".join(dict.fromkeys(part.source for part in listed)),
            notes=tuple(dict.fromkeys(note for part in listed for note in part.notes)),
        )


def _columns(units: Any, unit_ids: tuple[str, ...]) -> np.ndarray:
    """Return the columns (selected units,) int of units that are given by name or by a mask."""
    values = np.asarray(units)
    if values.dtype == bool:
        if values.shape != (len(unit_ids),):
            message = f"units is a mask of shape {values.shape}; there are {len(unit_ids)} units"
            raise InputError(message, parameter="units")
        return np.flatnonzero(values)
    column = {name: number for number, name in enumerate(unit_ids)}
    names = check_names("units", units)
    for name in names:
        if name not in column:
            raise unknown_name_error("unit", name, unit_ids)
    return np.array([column[name] for name in names], dtype=int)


def _at_centers(values: np.ndarray, n: int, nearest: bool) -> np.ndarray:
    """Return behavior (time, ...) at the centers of groups of n bins."""
    groups = values.reshape(-1, n, *values.shape[1:])
    left, right = groups[:, (n - 1) // 2], groups[:, n // 2]
    return left if nearest or values.dtype == object or n % 2 else (left + right) / 2


def _check_alike(first: Recording, part: Recording, number: int) -> None:
    """Raise `InputError` if a part cannot follow the first one."""
    for name, one, two in (
        ("bin_size", first.bin_size, part.bin_size),
        ("kind", first.kind, part.kind),
        ("session", first.session, part.session),
        ("unit_ids", first.unit_ids, part.unit_ids),
        ("cell_type", first.cell_type, part.cell_type),
        ("behavior", sorted(first.behavior), sorted(part.behavior)),
        ("behavior_unit", first.behavior_unit, part.behavior_unit),
    ):
        if one != two:
            raise InputError(
                f"part {number} has {name} {short_repr(two)}, the first has {short_repr(one)}: only parts of one "
                "session with the same units can be joined",
                parameter="parts",
            )
    for name, values in first.behavior.items():
        other = part.behavior[name]
        if values.shape[1:] != other.shape[1:] or (values.dtype == object) != (other.dtype == object):
            raise InputError(
                f"part {number} has {name} of shape {other.shape}, the first of shape {values.shape}: give the same "
                "behavior in all",
                parameter="parts",
            )
