"""Behavior in the containers of NWB, and columns of interval tables in processing modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nwb_activity import module, sampled, traces, write

from kalmanssl.data import Recording
from kalmanssl.errors import InputError

TIMES = np.arange(5.0, 15.0, 0.05)


def series(kind: str, name: str, unit: str, data: np.ndarray) -> Any:
    from pynwb.base import TimeSeries
    from pynwb.behavior import SpatialSeries

    args = {"name": name, "data": data, "timestamps": TIMES, "unit": unit}
    return SpatialSeries(reference_frame="x", **args) if kind == "spatial" else TimeSeries(**args)


def behavior(file: Any) -> None:
    """Add one series in each container, two of them with the same name, and a table of states."""
    from pynwb.behavior import BehavioralTimeSeries, CompassDirection, EyeTracking, PupilTracking
    from pynwb.epoch import TimeIntervals

    target = module(file, "behavior")
    angle = series("spatial", "SpatialSeries", "radians", np.mod(TIMES, 2 * np.pi))
    target.add(CompassDirection(spatial_series=angle, name="CompassDirection"))
    gaze = series("spatial", "SpatialSeries", "degrees", np.column_stack([TIMES, -TIMES]))
    target.add(EyeTracking(spatial_series=gaze, name="EyeTracking"))
    target.add(PupilTracking(time_series=series("time", "diameter", "mm", TIMES), name="PupilTracking"))
    target.add(BehavioralTimeSeries(time_series=series("time", "speed", "m/s", 2 * TIMES)))
    states = TimeIntervals(name="states", description="states")
    states.add_column("state", "state")
    states.add_interval(start_time=5.0, stop_time=10.0, state="run")
    states.add_interval(start_time=10.0, stop_time=14.0, state="rest")
    target.add(states)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("nwb") / "behavior.nwb"
    return write(target, traces({"Fluorescence/Deconvolved": sampled()}), behavior)


def test_every_container_is_read_by_its_name(path: Path) -> None:
    names = ["CompassDirection", "EyeTracking", "PupilTracking", "speed"]
    rec = Recording.from_nwb(path, behavior=names)
    assert list(rec.behavior) == ["CompassDirection", "EyeTracking", "diameter", "speed"]
    np.testing.assert_allclose(rec.behavior["CompassDirection"], np.mod(TIMES, 2 * np.pi))
    np.testing.assert_allclose(rec.behavior["EyeTracking"], np.column_stack([TIMES, -TIMES]))
    np.testing.assert_allclose(rec.behavior["diameter"], TIMES)
    np.testing.assert_allclose(rec.behavior["speed"], 2 * TIMES)


def test_a_general_name_of_two_series_is_ambiguous(path: Path) -> None:
    with pytest.raises(InputError, match="behavior='SpatialSeries' is ambiguous"):
        Recording.from_nwb(path, behavior="SpatialSeries")


def test_the_gaze_is_not_taken_where_there_is_other_behavior(path: Path) -> None:
    assert list(Recording.from_nwb(path).behavior) == ["CompassDirection"]


@pytest.mark.parametrize("name", ["state", "states/state", "processing/behavior/states/state"])
def test_a_column_of_an_interval_table_in_a_module_is_a_label(path: Path, name: str) -> None:
    state = Recording.from_nwb(path, behavior=name).behavior["state"]
    assert set(state[:99]) == {"run"}
    assert set(state[101:170]) == {"rest"}


def test_two_series_of_the_same_name_need_a_dict(tmp_path: Path) -> None:
    def two(file: Any) -> None:
        for name in ("left", "right"):
            module(file, name).add(series("time", "paw", "m", TIMES + (name == "right")))

    path = write(tmp_path / "a.nwb", traces({"Fluorescence/Deconvolved": sampled()}), two)
    paths = {"left": "processing/left/paw", "right": "processing/right/paw"}
    with pytest.raises(InputError, match="two series of the name paw"):
        Recording.from_nwb(path, behavior=list(paths.values()))
    rec = Recording.from_nwb(path, behavior=paths)
    np.testing.assert_allclose(rec.behavior["right"] - rec.behavior["left"], 1.0)
