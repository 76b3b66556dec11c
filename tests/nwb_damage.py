"""Small valid NWB files, and functions that damage copies of them with h5py."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from nwb_activity import field_potential, module, position, sampled, stored_bands, traces, write
from nwb_sessions import RATE, START, STOP, track
from refusals import LONGEST_MESSAGE, assert_refused, time_limit

from kalmanssl import Recording
from kalmanssl.data import summarize_nwb
from kalmanssl.errors import InputError

Damage = Callable[[h5py.File], object]

SPATIAL = "processing/behavior/mazePosition/mazeSpatialSeries"
OTHER = "processing/behavior/BehavioralTimeSeries/pupil"


def write_session(path: Path) -> Path:
    """Write a session with units, a position, another series, epochs and trials."""
    times = START + np.arange(int((STOP - START) * RATE)) / RATE
    rng = np.random.default_rng(0)

    def units(file: Any) -> None:
        file.add_unit_column("cell_type", "cell type")
        file.add_unit_column("shank", "shank")
        for row in range(3):
            spikes = np.sort(rng.uniform(START, STOP, 200))
            file.add_unit(
                spike_times=spikes,
                id=10 + row,
                obs_intervals=[[START, STOP]],
                cell_type=("excitatory", "inhibitory", "excitatory")[row],
                shank=row,
            )

    def behavior(file: Any) -> None:
        from pynwb.base import TimeSeries
        from pynwb.behavior import BehavioralTimeSeries, Position, SpatialSeries

        spatial = SpatialSeries(
            name="mazeSpatialSeries", data=track(times), timestamps=times, reference_frame="x", unit="meters"
        )
        pupil = TimeSeries(name="pupil", data=np.cos(times), starting_time=START, rate=RATE, unit="a.u.")
        target = module(file, "behavior")
        target.add(Position(spatial_series=spatial, name="mazePosition"))
        target.add(BehavioralTimeSeries(time_series=[pupil]))

    def tables(file: Any) -> None:
        file.add_epoch_column("label", "label")
        file.add_epoch(start_time=START, stop_time=START + 20, label="first")
        file.add_epoch(start_time=START + 20, stop_time=STOP, label="second")
        file.add_trial_column("choice", "choice")
        file.add_trial_column("reward", "reward")
        for trial in range(5):
            begin = START + 10 * trial
            file.add_trial(start_time=begin, stop_time=begin + 8, choice="left" if trial % 2 else "right", reward=0.5)

    return write(path, units, behavior, tables)


def write_traces(path: Path) -> Path:
    """Write calcium traces of four cells with their table, and a position."""
    return write(path, traces({"Fluorescence/Deconvolved": sampled()}), position(5.0 + np.arange(200) / 20))


def write_potential(path: Path) -> Path:
    """Write a field potential of two channels at 200 Hz, and a position."""
    data = np.random.default_rng(0).normal(size=(2000, 2)).astype(np.float32)
    return write(path, field_potential(data, 200.0), position(np.arange(200) / 20))


def write_bands(path: Path) -> Path:
    """Write stored band power of two channels in two bands."""
    data = np.random.default_rng(0).gamma(1.0, size=(200, 2, 2)).astype(np.float32)
    return write(path, stored_bands(data, 20.0), position(np.arange(200) / 20))


def put(file: h5py.File, where: str, value: Any, **options: Any) -> h5py.Dataset:
    """Replace a dataset, with the attributes that it had."""
    attributes = dict(file[where].attrs.items())
    del file[where]
    made = file.create_dataset(where, data=value, **options)
    for name, attribute in attributes.items():
        made.attrs[name] = attribute
    return made


class Inside:
    """Functions that damage what is at a path inside a group of a file; by default inside the file.

    Parameters
    ----------
    group : str
        Path of the group, with a slash at its end.
    """

    def __init__(self, group: str = "") -> None:
        self.group = group

    def put(self, where: str, value: Any, **options: Any) -> Damage:
        """Replace the values of a dataset."""
        return lambda file: put(file, self.group + where, value, **options)

    def change(self, where: str, change: Callable[[np.ndarray], Any]) -> Damage:
        """Replace the values of a dataset by what `change` returns for them."""
        return lambda file: put(file, self.group + where, change(file[self.group + where][()]))

    def delete(self, where: str) -> Damage:
        """Delete a dataset or a group."""
        return lambda file: file.__delitem__(self.group + where)

    def empty_group(self, where: str) -> Damage:
        """Put an empty group in place of a dataset or a group."""

        def damage(file: h5py.File) -> None:
            del file[self.group + where]
            file.create_group(self.group + where)

        return damage

    def attribute(self, where: str, name: str, value: Any) -> Damage:
        """Set an attribute of a dataset or a group."""
        return lambda file: file[self.group + where].attrs.__setitem__(name, value)


FILE = Inside()


def with_entry(index: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that sets one entry of an array."""

    def change(values: np.ndarray) -> np.ndarray:
        values[index] = value
        return values

    return change


def damaged(source: Path, folder: Path, damage: Damage) -> Path:
    """Return a damaged copy of a file in a folder."""
    path = folder / "damaged.nwb"
    shutil.copyfile(source, path)
    with h5py.File(path, "r+") as file:
        damage(file)
    return path


def summary_problem(path: Path) -> str:
    """Summarize a damaged file in bounded time; return the refusal, or "" if it is summarized on lines of text."""
    with time_limit(10.0):
        try:
            text = str(summarize_nwb(path))
        except InputError as error:
            line = str(error)
            assert len(line.splitlines()) == 1
            assert len(line) <= LONGEST_MESSAGE
            return line
    assert text.encode("utf-8")
    return ""


def assert_unreadable(path: Path, match: str, **arguments: Any) -> str:
    """Check that reading refuses a file with one line, and that its summary is a summary or one line."""
    summary_problem(path)
    return assert_refused(lambda: Recording.from_nwb(path, **arguments), match)
