"""Malformed tables of epochs and trials, and interval series."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from nwb_damage import Inside, assert_unreadable, damaged, summary_problem
from refusals import assert_refused

from kalmanssl import Recording

POSITION = "mazeSpatialSeries"
INTERVALS = Inside("intervals/")


def _dataset(where: str) -> Callable[[h5py.File], None]:
    def damage(file: h5py.File) -> None:
        del file[f"intervals/{where}"]
        file[f"intervals/{where}"] = np.arange(3)

    return damage


TABLES = {
    f"{table}: {name}": (table, make(table, n))
    for table, n in (("trials", 5), ("epochs", 2))
    for name, make in {
        "no starts": lambda table, n: INTERVALS.delete(f"{table}/start_time"),
        "no stops": lambda table, n: INTERVALS.delete(f"{table}/stop_time"),
        "no ids": lambda table, n: INTERVALS.delete(f"{table}/id"),
        "starts as text": lambda table, n: INTERVALS.put(f"{table}/start_time", ["soon"] * n),
        "starts as compound": lambda table, n: INTERVALS.put(f"{table}/start_time", np.zeros(n, [("a", "f8")])),
        "too few starts": lambda table, n: INTERVALS.put(f"{table}/start_time", np.zeros(n - 1)),
        "scalar starts": lambda table, n: INTERVALS.put(f"{table}/start_time", 3.0),
        "two columns of stops": lambda table, n: INTERVALS.put(f"{table}/stop_time", np.zeros((n, 2))),
        "empty dataspace": lambda table, n: INTERVALS.put(f"{table}/stop_time", h5py.Empty("f8")),
        "a dataset": lambda table, n: _dataset(table),
    }.items()
}


@pytest.mark.parametrize(("table", "damage"), TABLES.values(), ids=TABLES)
def test_malformed_interval_tables_are_refused(table: str, damage: Any, tmp_path: Path, session_file: Path) -> None:
    path = damaged(session_file, tmp_path, damage)
    assert_unreadable(path, table, behavior=POSITION)
    recording = Recording.from_nwb(session_file, behavior=POSITION)
    assert_refused(lambda: recording.trials(path, table=table), table)


MEMBERS = {"trials": "intervals", "trials/choice": "intervals/trials", "epochs/label": "intervals/epochs"}


@pytest.mark.parametrize("where", MEMBERS)
def test_names_of_columns_that_are_not_utf8_are_refused(where: str, tmp_path: Path, session_file: Path) -> None:
    def damage(file: h5py.File) -> None:
        group = file[MEMBERS[where]].id
        group.links.move(where.split("/")[-1].encode(), group, b"\xff\xfe")

    assert_unreadable(damaged(session_file, tmp_path, damage), "UTF-8", behavior=POSITION)


TRIALS = {
    "stop before start": INTERVALS.put("trials/stop_time", np.full(5, 900.0)),
    "choices that are not UTF-8": INTERVALS.put("trials/choice", np.array([b"\xff"] * 5)),
}


@pytest.mark.parametrize("damage", TRIALS.values(), ids=TRIALS)
def test_malformed_trials_are_refused_if_they_are_used(damage: Any, tmp_path: Path, session_file: Path) -> None:
    path = damaged(session_file, tmp_path, damage)
    assert_unreadable(path, "trials", behavior="trials/choice")
    recording = Recording.from_nwb(session_file, behavior=POSITION)
    assert_refused(lambda: recording.trials(path), "trial")


def test_an_epoch_that_stops_before_its_start_is_left_out(tmp_path: Path, session_file: Path) -> None:
    path = damaged(session_file, tmp_path, INTERVALS.put("epochs/stop_time", [1020.0, 1000.0]))
    with pytest.warns(match="second"):
        found = Recording.from_nwb(path, behavior=POSITION)
    assert list(found.epochs) == ["first", "trials"]
    assert any("second" in note for note in found.notes)


ODD_LABELS = {
    "not UTF-8": INTERVALS.put("epochs/label", np.array([b"\xff", b"\xfe"])),
    "too few": INTERVALS.put("epochs/label", ["first"]),
}


def test_labels_of_epochs_that_are_not_utf8_are_refused(tmp_path: Path, session_file: Path) -> None:
    assert_unreadable(damaged(session_file, tmp_path, ODD_LABELS["not UTF-8"]), "epochs/label", behavior=POSITION)


def _states(**changes: Any) -> Callable[[h5py.File], None]:
    values = {"data": np.array([1, -1, 2, -2], np.int8), "timestamps": 1000.0 + 10 * np.arange(4)} | changes

    def damage(file: h5py.File) -> None:
        group = file.create_group("processing/behavior/states")
        group.attrs.update({"neurodata_type": "IntervalSeries", "namespace": "core"})
        for name, value in values.items():
            group[name] = value

    return damage


STATES = {
    "data as text": _states(data=["a"] * 4),
    "data as fractions": _states(data=np.array([0.5, -0.5, 1.0, -1.0])),
    "data of NaN": _states(data=np.full(4, np.nan)),
    "data of two dimensions": _states(data=np.zeros((4, 2), int)),
    "data that are compound": _states(data=np.zeros(4, [("a", "i4")])),
    "empty dataspace": _states(data=h5py.Empty("i4")),
    "fewer data": _states(data=np.array([1, -1, 2])),
    "times as text": _states(timestamps=["a"] * 4),
    "times of two dimensions": _states(timestamps=np.zeros((4, 1))),
    "scalar times": _states(timestamps=3.0),
}


@pytest.mark.parametrize("damage", STATES.values(), ids=STATES)
def test_malformed_interval_series_are_refused(damage: Any, tmp_path: Path, session_file: Path) -> None:
    path = damaged(session_file, tmp_path, damage)
    assert not summary_problem(path)
    assert_unreadable(path, "states", behavior="states")
    assert Recording.from_nwb(path, behavior=POSITION).behavior.keys() == {"position"}


def test_tables_of_unknown_extensions_are_not_read(tmp_path: Path, session_file: Path) -> None:
    def damage(file: h5py.File) -> None:
        group = file.create_group("processing/behavior/poses")
        group.attrs.update({"neurodata_type": "PoseEstimation", "namespace": "ndx-pose"})
        group["data"] = np.zeros(3, [("a", "f8")])
        file["processing/behavior/list"] = np.arange(3)

    path = damaged(session_file, tmp_path, damage)
    assert not summary_problem(path)
    found = Recording.from_nwb(path, behavior=POSITION)
    np.testing.assert_array_equal(found.activity, Recording.from_nwb(session_file, behavior=POSITION).activity)
