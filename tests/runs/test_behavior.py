"""Facts about a recording for a run: its activity, and the name and constant segments of the behavior."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kalmanssl.data import NWBObject, NWBSummary, Recording
from kalmanssl.runs._behavior import activity_kind, behavior_name, longest_constant, with_behavior_name
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


def test_longest_constant_part():
    nan = np.nan
    assert longest_constant(np.array([1.0, 2.0, 2.0, nan, 2.0, 3.0])) == (0.6, 1, 4)
    assert longest_constant(np.array([[1.0, 2.0], [1.0, 3.0], [1.0, 3.0]])) == (2 / 3, 1, 2)
    assert longest_constant(np.array([nan, nan])) == (0.0, 0, 0)
