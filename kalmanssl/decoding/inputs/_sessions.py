"""Sessions that a decoder is fitted on. Each has a clock of its own, so times are compared within a session only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Self

import numpy as np

from kalmanssl.data import Latents
from kalmanssl.errors import InputError

__all__ = ["Sessions", "by_session", "end_of_fit", "on_one_axis"]

_BINS_BETWEEN = 10  # sessions on one axis of time: far enough for a gap


@dataclass(frozen=True)
class Sessions:
    """Sessions of bins that were joined on one axis of time.

    Attributes
    ----------
    names : tuple of str
    index : (time,) int
        Number of the session of each bin.
    shifts : (sessions,)
        What was added to the times of each session, seconds.
    """

    names: tuple[str, ...]
    index: np.ndarray
    shifts: np.ndarray

    @classmethod
    def of(cls, latents: Any, n_bins: int) -> Self:
        """Return the sessions of latents, of an array, or of a list of latents, with a number of bins in all."""
        if not isinstance(latents, list | tuple) or not all(isinstance(one, Latents) for one in latents):
            return cls((getattr(latents, "session", ""),), np.zeros(n_bins, dtype=int), np.zeros(1))
        groups = by_session(latents)
        lengths = [sum(map(len, group)) for group in groups]
        names = tuple(group[0].session for group in groups)
        return cls(names, np.repeat(np.arange(len(groups)), lengths), _shifts(groups))

    def last_times(self, time: np.ndarray, where: np.ndarray) -> dict[str, float]:
        """Return the time of the last bin of each session among those of a mask (time,), in the clock of the session.

        Sessions without such a bin are left out.
        """
        last = {}
        for number, (name, shift) in enumerate(zip(self.names, self.shifts, strict=True)):
            inside = np.flatnonzero(where & (self.index == number))
            if len(inside):
                last[name] = float(time[inside[-1]] - shift)
        return last


def end_of_fit(ends: Mapping[str, float], session: str) -> float:
    """Return the end of the fit in the clock of a session, seconds, from those of all sessions; NaN if it is unknown.

    If the session or the only fitted one has no name, their clock is taken to be the same.
    """
    if session not in ends and len(ends) == 1 and "" in (session, *ends):
        return next(iter(ends.values()))
    return ends.get(session, float("nan"))


def by_session(latents: Sequence[Latents]) -> list[list[Latents]]:
    """Return latents of trials by session.

    Raises
    ------
    InputError
        If trials of other sessions are between those of one session.
    """
    groups = [list(group) for _, group in groupby(latents, key=lambda one: one.session)]
    names = [group[0].session for group in groups]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise InputError(
            f"latents has trials of other sessions between those of session {repeated[0]!r}: sort them by session",
            parameter="latents",
        )
    return groups


def on_one_axis(latents: Sequence[Latents]) -> list[Latents]:
    """Return latents whose sessions follow one another in time, with gaps between them; one session is unchanged."""
    groups = by_session(latents)
    if len(groups) == 1:
        return list(latents)
    return [
        replace(one, time=np.asarray(one.time) + shift)
        for group, shift in zip(groups, _shifts(groups), strict=True)
        for one in group
    ]


def _shifts(groups: Sequence[Sequence[Latents]]) -> np.ndarray:
    """Return what is added to the times of each session, seconds; zero for the first one."""
    times = [np.concatenate([np.asarray(one.time, dtype=float) for one in group]) for group in groups]
    steps = np.concatenate([np.diff(time) for time in times])
    gap = _BINS_BETWEEN * (float(np.median(steps)) if len(steps) else 1.0)
    shifts = np.zeros(len(groups))
    for number in range(1, len(groups)):
        shifts[number] = times[number - 1][-1] + shifts[number - 1] + gap - times[number][0]
    return shifts
