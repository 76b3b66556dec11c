"""The recordings of the benchmark: files, times of the split, and behaviors to decode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from decoding import simulated
from decoding.tasks import Data, Target
from kalmanssl.data import Recording, running_bins, running_threshold, speed
from kalmanssl.errors import InputError

__all__ = ["ALL_RECORDINGS", "RECORDINGS", "SIMULATED", "VARIATIONS", "Source", "load", "targets_of"]

BIN_SIZE = 0.025
CALCIUM_FRAME = 0.05
SMOOTHING = 0.1  # s, standard deviation of the Gaussian kernel of speeds to decode


@dataclass(frozen=True)
class Source:
    """Where a recording comes from and how it is divided.

    Attributes
    ----------
    read : callable
        `read(folder)` returns the recording.
    split_at : float
        Training is before, testing from this time of the recording on, s.
    targets : tuple of Target
        Behaviors to decode.
    track : str
        Behavior whose speed separates movement from rest.
    end_zones : (float, float), optional
        Ends of a linear track; running bins are then the traversals between them.
    events : bool
        The activity consists of amplitudes of calcium events instead of counts.
    file : str
        Path in the data folder; empty for a simulated recording.
    names_in_file : mapping of str
        Names in the file of the behaviors of the recording, if they are not its only ones.
    """

    read: Callable[[Path], Recording]
    split_at: float
    targets: tuple[Target, ...]
    track: str = "position"
    end_zones: tuple[float, float] | None = None
    events: bool = False
    file: str = ""
    names_in_file: Mapping[str, str] = field(default_factory=dict)


def _spikes(file: str, behavior: Mapping[str, str] | None = None) -> Callable[[Path], Recording]:
    """Return a function that reads a file with sorted spikes in bins of 25 ms."""
    return lambda folder: Recording.from_nwb(folder / file, bin_size=BIN_SIZE, behavior=behavior)


def _calcium(file: str) -> Callable[[Path], Recording]:
    """Return a function that reads a file with deconvolved calcium events; its frames are the bins."""
    return lambda folder: Recording.from_nwb(folder / file, bin_size=CALCIUM_FRAME, activity="Deconvolved")


def _position(recording: str, name: str = "position") -> Target:
    return Target(f"{recording}, {name}", "position", "cm", 100.0)


def _velocity(recording: str, name: str) -> Target:
    return Target(f"{recording}, {name}", "velocity", "cm/s", 100.0)


def _angle(recording: str) -> Target:
    return Target(f"{recording}, angle", "head_direction", "degrees", 180 / np.pi, period=2 * np.pi)


def _source(file: str, split_at: float, *targets: Target, behavior: Mapping[str, str] | None = None) -> Source:
    return Source(_spikes(file, behavior), split_at, targets, file=file, names_in_file=behavior or {})


HC11 = "hc11/achilles_maze.nwb"
HEAD_DIRECTION = "recordings/head_direction_first70.nwb"
CALCIUM = "recordings/calcium_ca1_c6m3_session{}.nwb"
CALCIUM_SPLITS = {1: 830.5, 2: 826.2, 3: 820.8, 4: 836.3}

RECORDINGS: dict[str, Source] = {
    "hc-11": Source(_spikes(HC11), 18960.0, (_position("hc-11"),), end_zones=(-0.15, 1.10), file=HC11),
    "head direction": Source(
        _spikes(HEAD_DIRECTION), 7960.0, (_angle("head direction"),), track="head_direction", file=HEAD_DIRECTION
    ),
    "reach": _source(
        "recordings/reach_first70.nwb",
        393.0,
        _position("reach", "hand position"),
        _velocity("reach", "hand velocity"),
        behavior={"position": "hand_position", "velocity": "hand_velocity"},
    ),
    "center-out": _source(
        "recordings/center_out.nwb",
        979.2,
        _position("center-out", "cursor position"),
        _velocity("center-out", "cursor velocity"),
        behavior={"position": "cursor_position", "velocity": "cursor_velocity"},
    ),
    **{
        f"calcium {number}": Source(
            _calcium(CALCIUM.format(number)),
            split_at,
            (_position(f"calcium {number}"),),
            events=True,
            file=CALCIUM.format(number),
        )
        for number, split_at in CALCIUM_SPLITS.items()
    },
}
"""The real recordings by name."""

SIMULATED: dict[str, Source] = {
    "simulated track": Source(
        lambda folder: simulated.track(), 3744.0, (_position("simulated track"),), end_zones=(0.1, 1.5)
    ),
    "simulated ring": Source(
        lambda folder: simulated.ring(), 90.0, (_angle("simulated ring"),), track="head_direction"
    ),
    "simulated arm": Source(lambda folder: simulated.arm(), 140.0, (_position("simulated arm"),)),
}
"""Small simulated recordings by name, for tests."""


def _fewer_units(name: str, count: int) -> dict[str, Source]:
    """Return a recording with `count` of its units, drawn with a seed."""

    def read(folder: Path) -> Recording:
        recording = RECORDINGS[name].read(folder)
        kept = np.sort(np.random.default_rng(0).permutation(recording.n_units)[:count])
        return recording.select_units([recording.unit_ids[number] for number in kept])

    return _variation(name, f"{name}, {count} units", read)


def _shorter(name: str, minutes: float) -> dict[str, Source]:
    """Return a recording with only the last minutes of its training part."""
    source = RECORDINGS[name]

    def read(folder: Path) -> Recording:
        return source.read(folder).split(at=source.split_at - 60 * minutes)[1]

    return _variation(name, f"{name}, {minutes:g} min", read)


def _speed(name: str, new_name: str, unit: str) -> dict[str, Source]:
    """Return a recording whose speed is to be decoded: that of its position, or the angular velocity of its angle.

    The speed of a position, `kalmanssl.data.speed`, has no sign. The velocity of an angle has one, as turns to the left
    and to the right differ in the activity of many cells.
    """
    source = RECORDINGS[name]
    target = source.targets[0]

    def read(folder: Path) -> Recording:
        recording = source.read(folder)
        values = recording.behavior[target.behavior]
        if target.period is None:
            recording.behavior["speed"] = speed(values, recording.time, SMOOTHING)
        else:
            recording.behavior["speed"] = _angular_velocity(values, recording, target.period)
        return recording

    speeds = (Target(new_name, "speed", unit, target.factor),)
    return {new_name: replace(source, read=read, targets=speeds)}


def _angular_velocity(angle: np.ndarray, recording: Recording, period: float) -> np.ndarray:
    """Return the derivative of a smoothed angle (time,), per second; positive where the angle grows.

    The magnitude of it is not exactly `speed` with a period: at the ends of a segment the angle is continued by its
    mirror image instead of its last value, and segments of less than `SMOOTHING` seconds are NaN.
    """
    found = np.full(len(angle), np.nan)
    for segment in recording.segments():
        time = recording.time[segment]
        if time[-1] - time[0] >= SMOOTHING:
            smooth = gaussian_filter1d(np.unwrap(angle[segment], period=period), SMOOTHING / recording.bin_size)
            found[segment] = np.gradient(smooth, time)
    return found


def _variation(name: str, new_name: str, read: Callable[[Path], Recording]) -> dict[str, Source]:
    source = RECORDINGS[name]
    targets = tuple(replace(target, name=target.name.replace(name, new_name)) for target in source.targets)
    return {new_name: replace(source, read=read, targets=targets)}


VARIATIONS: dict[str, Source] = {
    **_fewer_units("hc-11", 25),
    **_fewer_units("head direction", 8),
    **_fewer_units("reach", 40),
    **_fewer_units("center-out", 25),
    **_fewer_units("calcium 1", 100),
    **_fewer_units("calcium 3", 100),
    **_shorter("hc-11", 5),
    **_shorter("head direction", 5),
    **_shorter("reach", 2),
    **_speed("hc-11", "running speed", "cm/s"),
    **_speed("head direction", "turning speed", "degrees/s"),
    **_speed("reach", "hand speed", "cm/s"),
    **_speed("center-out", "cursor speed", "cm/s"),
    **_speed("calcium 1", "running speed, calcium", "cm/s"),
    "place cells, open field": Source(lambda folder: simulated.open_field(), 630.0, (_position("place cells"),)),
    "sparse place cells": Source(lambda folder: simulated.open_field(2.5), 630.0, (_position("sparse place cells"),)),
    "grid cells": Source(lambda folder: simulated.grid_cells(), 630.0, (_position("grid cells"),)),
    "compass of a fly": Source(
        lambda folder: simulated.compass(), 840.0, (_angle("compass of a fly"),), track="head_direction"
    ),
}
"""Recordings with fewer units, less training time, or another behavior, and simulated ones of other kinds, by name.

Nothing was chosen by their test parts; choices are made on the training parts of `RECORDINGS`.
"""


ALL_RECORDINGS = RECORDINGS | SIMULATED | VARIATIONS


@lru_cache(maxsize=1)
def load(name: str, folder: Path) -> Data:
    """Read a recording and split it; running bins are found with a threshold from the training part."""
    source = ALL_RECORDINGS[name]
    if source.file and not (folder / source.file).is_file():
        raise InputError(f"there is no file {folder / source.file}: give the folder with --data", parameter="data")
    train, test = source.read(folder).split(at=source.split_at)
    if source.end_zones is not None:
        masks = [running_bins(part.behavior[source.track], end_zones=source.end_zones) for part in (train, test)]
    else:
        period = next((t.period for t in source.targets if t.behavior == source.track), None)
        limit = running_threshold(train.behavior[source.track], train.time, period)
        masks = [
            running_bins(part.behavior[source.track], part.time, min_speed=limit, period=period)
            for part in (train, test)
        ]
    return Data(name, train, test, masks[0], masks[1], source.events, has_traversals=source.end_zones is not None)


def targets_of(name: str) -> tuple[Target, ...]:
    """Return the behaviors to decode from a recording."""
    return ALL_RECORDINGS[name].targets
