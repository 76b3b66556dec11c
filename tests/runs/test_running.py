"""Which bins of a run count as running."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from kalmanssl.data import Recording, speed
from kalmanssl.errors import InputError
from kalmanssl.runs import RunSettings
from kalmanssl.runs._running import position_of, running_speed, speed_unit, where_running


def recording_of(position):
    time = np.arange(len(position)) * 0.1
    return Recording(np.ones((len(position), 2)), time, 0.1, ("1", "2"), behavior={"angle": position})


def test_movement_across_the_end_of_a_period_has_no_jump_in_speed():
    angle = np.arange(0.0, 720.0, 1.0) % 360.0
    angle[100] = np.nan
    slow = RunSettings("x", min_speed=15.0, period=360.0)  # the speed is 10 degrees per second
    assert not where_running(slow, recording_of(angle), "angle").any()
    assert where_running(dataclasses.replace(slow, min_speed=5.0), recording_of(angle), "angle").mean() > 0.9
    assert where_running(dataclasses.replace(slow, period=None), recording_of(angle), "angle").any()


def test_running_is_undefined_without_zones_and_speed_and_ambiguous_with_both():
    recording = recording_of(np.linspace(0.0, 1.0, 50))
    assert where_running(RunSettings("x"), recording, "angle") is None
    assert where_running(RunSettings("x", min_speed=1.0), recording, None) is None
    with pytest.raises(InputError) as error:
        where_running(RunSettings("x", min_speed=1.0, end_zones=[0.1, 0.9]), recording, "angle")
    assert error.value.parameter == "min_speed"


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
