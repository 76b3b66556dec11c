"""The name of the decoded behavior in a run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kalmanssl.data import NWBObject, NWBSummary, Recording, speed
from kalmanssl.runs._behavior import activity_kind, behavior_name, with_behavior_name
from kalmanssl.runs._running import position_of, running_speed, speed_unit, where_running
from kalmanssl.runs._settings import RunSettings

TWO = ("processing/behavior/hand_position/SpatialSeries", "processing/behavior/BehavioralTimeSeries/hand_velocity")


def summary_of(*paths, taken=0):
    uses = ["taken" if n == taken else "candidate" for n in range(len(paths))]
    objects = (NWBObject(path, "SpatialSeries", "behavior", use) for path, use in zip(paths, uses, strict=True))
    return NWBSummary("a.nwb", tuple(objects), {}, {})


@pytest.mark.parametrize(
    ("given", "paths", "taken", "name"),
    [
        (None, ("processing/behavior/mazePosition/mazeSeries",), 0, "position"),  # there is no other
        (None, ("processing/behavior/Position/SpatialSeries", TWO[1]), 0, "position"),
        (None, TWO, 0, "hand_position"),
        ("hand_position", TWO, 0, "hand_position"),
        (TWO[0], TWO, 0, "hand_position"),
        ("mazeSeries", ("processing/behavior/mazePosition/mazeSeries",), 0, "mazeSeries"),
        ("mazeSpatialSeries", ("processing/behavior/mazePosition/mazeSpatialSeries",), 0, "position"),
        ("mazePosition", ("processing/behavior/mazePosition/mazeSpatialSeries", TWO[1]), 0, "position"),
        (None, ("processing/behavior/mazePosition/mazeSpatialSeries", TWO[1]), 0, "position"),
        ("position", TWO, 0, "position"),
        (None, TWO, 5, "position"),  # nothing is taken
    ],
)
def test_a_behavior_is_called_by_its_name_in_the_file_if_that_tells_it_from_others(given, paths, taken, name):
    assert behavior_name(RunSettings("x", behavior=given), summary_of(*paths, taken=taken)) == name


def test_only_a_behavior_that_was_read_as_position_is_renamed():
    time = np.arange(20) * 0.1
    recording = Recording(
        np.ones((20, 2)), time, 0.1, ("1", "2"), behavior={"position": time}, behavior_unit={"position": "meters"}
    )
    renamed = with_behavior_name(recording, "hand_position")
    assert list(renamed.behavior) == ["hand_position"]
    assert renamed.behavior_unit == {"hand_position": "meters"}
    assert with_behavior_name(renamed, "velocity") is renamed
    assert with_behavior_name(recording, "position") is recording


def test_amplitudes_of_events_are_no_spikes():
    time = np.arange(20) * 0.1
    recording = Recording(np.ones((20, 2)), time, 0.1, ("1", "2"))
    assert activity_kind(recording) == "spikes"
    assert activity_kind(replace(recording, activity=recording.activity * 0.3)) == "events"
    assert activity_kind(replace(recording, activity=recording.activity * -0.3, kind="signal")) == "signal"


def test_a_velocity_moves_where_it_is_large_not_where_it_changes():
    time = 0.05 * np.arange(2000)
    velocity = np.where(np.arange(2000) % 400 < 100, 0.5, 0.001)[:, None] * [1.0, -1.0]
    velocity[50] = np.nan
    recording = Recording.from_arrays(
        np.ones((2000, 2)), time=time, bin_size=0.05, behavior={"velocity": velocity}, behavior_unit={"velocity": "m/s"}
    )
    settings = RunSettings("x")
    limit = running_speed(settings, recording, "velocity")
    assert 0.002 < limit < 0.6
    found = where_running(settings, recording, "velocity", limit)
    np.testing.assert_array_equal(found[60:90], True)
    np.testing.assert_array_equal(found[120:380], False)
    assert not found[50]
    np.testing.assert_allclose(speed(position_of(recording, "velocity"), time)[200:300], 0.001 * 2**0.5, rtol=1e-3)
    assert (speed_unit("m/s"), speed_unit("m"), speed_unit("")) == ("m/s", "m/s", "")
