"""Extracts of NWB files: units, behavior and intervals, without the rest."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pynwb
import pytest
from nwb_checks import complaints
from nwb_sessions import START, STOP, session, spikes_of, tracked

from kalmanssl.data import Recording
from kalmanssl.data.nwb import content_size, read_content, read_interval_table, write_content
from kalmanssl.errors import InputError


def extract(source: Path, out: Path):
    """Write an extract, check that it is valid, and return its content."""
    with h5py.File(source) as file:
        content = read_content(file)
        assert content_size(file) > 0
    write_content(content, out, "a test")
    assert not pynwb.validate(path=str(out))
    return content


def rich_session(path: Path) -> Path:
    """Write a session with every kind of column and of series that an extract keeps or leaves out."""
    from pynwb.base import TimeSeries
    from pynwb.behavior import BehavioralTimeSeries, CompassDirection, SpatialSeries

    nwb = pynwb.NWBFile("many kinds", "id", datetime(2020, 1, 1, tzinfo=UTC))
    nwb.add_unit_column("unit_name", "name")
    nwb.add_unit_column("good", "whether it is well isolated")
    for row, spikes in enumerate(spikes_of()):
        observed = [[START, START + 20], [START + 30, STOP]]
        nwb.add_unit(spike_times=spikes, obs_intervals=observed, unit_name=f"u{row}", good=row > 0)
    nwb.units.resolution = 1 / 30_000
    nwb.add_trial_column("choice", "side")
    nwb.add_trial_column("correct", "whether it was rewarded")
    position = TimeSeries(name="lick", data=np.zeros(10), rate=1.0, starting_time=START, unit="V")
    nwb.add_acquisition(position)
    for trial in range(3):
        start = START + 10.0 * trial
        nwb.add_trial(start_time=start, stop_time=start + 5, choice="left", correct=trial > 0, timeseries=position)
    for start, tag in ((START, "run"), (START + 30, "rest")):
        nwb.add_epoch(start_time=start, stop_time=start + 30, tags=[tag, "all"])
    nwb.add_invalid_time_interval(start_time=START + 20, stop_time=START + 30)
    module = nwb.create_processing_module("behavior", "behavior")
    times = START + 0.1 * np.arange(600)
    angle = SpatialSeries(name="angle", data=times % 6.28, timestamps=times, unit="radians", reference_frame="north")
    module.add(CompassDirection(spatial_series=angle, name="Heading"))
    kinds = [
        TimeSeries(name="state", data=["run", "", "rest"] * 200, timestamps=times, unit="label"),
        TimeSeries(name="lit", data=np.arange(600) % 2 == 0, timestamps=times, unit="label"),
        TimeSeries(name="speed", data=np.arange(600), timestamps=times, unit="m/s", conversion=0.01, offset=1.0),
    ]
    module.add(BehavioralTimeSeries(time_series=kinds, name="Others"))
    module.add(TimeSeries(name="video", data=np.zeros((600, 2, 2)), timestamps=times, unit="gray"))
    module.add(TimeSeries(name="bare", data=np.ones(600), timestamps=times, unit="m"))
    with pynwb.NWBHDF5IO(str(path), "w") as io:
        io.write(nwb)
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A session with every kind of column and of series."""
    return rich_session(tmp_path_factory.mktemp("source") / "source.nwb")


@pytest.fixture(scope="module")
def extracted(source) -> Path:
    """The extract of `source`."""
    out = source.with_name("out.nwb")
    extract(source, out)
    return out


@pytest.mark.parametrize("behavior", ["angle", "state", "lit", "speed", "bare", "trials/choice", "trials/correct"])
def test_recording_of_an_extract_is_that_of_its_source(source, extracted, behavior):
    first, second = (Recording.from_nwb(path, behavior=behavior) for path in (source, extracted))
    np.testing.assert_array_equal(first.activity, second.activity)
    np.testing.assert_array_equal(first.time, second.time)
    assert first.unit_ids == second.unit_ids == ("u0", "u1", "u2", "u3")
    assert first.behavior_unit == second.behavior_unit
    for name, values in first.behavior.items():
        np.testing.assert_array_equal(values, second.behavior[name])
    assert first.epochs.keys() == second.epochs.keys() == {"run", "rest", "trials", "invalid_times"}


def test_every_table_of_intervals_is_kept_and_references_are_left_out(extracted):
    with h5py.File(extracted) as file:
        assert set(file["intervals"]) == {"epochs", "invalid_times", "trials"}
    trials = read_interval_table(extracted, "trials")
    assert set(trials) == {"start_time", "stop_time", "choice", "correct", "id"}
    assert list(trials["correct"]) == [False, True, True]


def test_series_that_cannot_be_decoded_are_left_out_with_a_note(extracted):
    with h5py.File(extracted) as file:
        assert set(file["processing/behavior"]) == {"Heading", "Others", "bare"}
        assert "processing/behavior/video is left out" in file["general/notes"][()].decode()


def test_extract_has_no_violation_of_best_practices_that_its_source_does_not_have(source, extracted):
    of_source, of_extract = set(complaints(source)), set(complaints(extracted))
    assert of_extract <= of_source
    assert {text.split()[0] for text in of_source} == {
        "check_spike_times_not_in_unobserved_interval",
        "check_subject_exists",
        "check_regular_timestamps",
    }


def test_position_outside_of_the_behavior_module_is_found(tmp_path):
    from pynwb.behavior import Position, SpatialSeries

    nwb = pynwb.NWBFile("position in the acquisition", "id", datetime(2020, 1, 1, tzinfo=UTC))
    nwb.add_unit(spike_times=spikes_of()[0])
    times = START + 0.1 * np.arange(600)
    series = SpatialSeries(name="xy", data=np.ones((600, 2)), timestamps=times, reference_frame="room")
    nwb.add_acquisition(Position(spatial_series=series))
    with pynwb.NWBHDF5IO(str(tmp_path / "source.nwb"), "w") as io:
        io.write(nwb)
    extract(tmp_path / "source.nwb", tmp_path / "out.nwb")
    assert Recording.from_nwb(tmp_path / "out.nwb").behavior["position"].shape[1] == 2


def test_extract_of_an_extract_is_equal(extracted, tmp_path):
    content = extract(extracted, tmp_path / "again.nwb")
    assert content.metadata["identifier"] == "id"
    assert content.notes == ()


def test_file_without_units_is_refused(tmp_path):
    source = session(tmp_path / "source.nwb", position=[tracked()])
    with h5py.File(source) as file, pytest.raises(InputError, match="no units with spike times"):
        read_content(file)
