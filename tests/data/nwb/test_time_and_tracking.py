"""Time that the file marks as invalid, points that were tracked with low confidence, and fibers of a photometry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from nwb_activity import position, sampled, time_series, write
from nwb_sessions import RATE, START, STOP, one_line, session, spikes_of, track, tracked

from kalmanssl.data import Recording, summarize_nwb
from kalmanssl.errors import InputError, RecordingWarning


def with_invalid(path: Path, *spans: tuple[float, float]) -> Path:
    """Add a table of invalid times, as pynwb writes it, to a file."""
    with h5py.File(path, "r+") as file:
        table = file.require_group("intervals").create_group("invalid_times")
        table.attrs.update(neurodata_type="TimeIntervals", namespace="core", colnames=["start_time", "stop_time"])
        table["id"] = np.arange(len(spans))
        table["start_time"], table["stop_time"] = (np.array(times) for times in zip(*spans, strict=True))
    return path


def test_invalid_times_are_left_out(tmp_path: Path) -> None:
    path = session(tmp_path / "units.nwb", spikes_of(), position=[tracked()])
    before = Recording.from_nwb(path)
    with_invalid(path, (START + 20.0, START + 25.0), (START + 24.0, START + 30.0), (STOP + 100.0, STOP + 200.0))
    rec = Recording.from_nwb(path)
    assert not ((rec.time > START + 20.0) & (rec.time < START + 30.0)).any()
    assert len(before) - len(rec) == pytest.approx(10.0 / rec.bin_size, abs=1)
    assert any("intervals/invalid_times: " in note and "are left out" in note for note in rec.notes)
    invalid = Recording.from_nwb(path, epoch="invalid_times")  # it can be asked for
    assert invalid.time[0] > START + 20.0
    assert invalid.time[-1] < START + 30.0


def test_sampled_activity_has_no_bins_in_invalid_times(tmp_path: Path) -> None:
    path = write(tmp_path / "rates.nwb", time_series("ecephys/rates", **sampled()))
    with_invalid(path, (7.0, 9.0))
    time = Recording.from_nwb(path, behavior=False).time
    assert len(time) == 200 - 39  # those at both ends are half outside
    assert not ((time > 7.001) & (time < 8.999)).any()


def test_a_file_of_invalid_time_is_refused(tmp_path: Path) -> None:
    path = with_invalid(session(tmp_path / "units.nwb", spikes_of(), position=[tracked()]), (-np.inf, np.inf))
    with pytest.raises(InputError, match="all of the time is in intervals/invalid_times") as error:
        Recording.from_nwb(path)
    one_line(error)


def pose(path: Path, confidence: Any) -> Path:
    """Write a file with a point of the extension ndx-pose, which is a series with a confidence."""
    session(path, spikes_of(), series=[tracked(name="nose", unit="px")])
    with h5py.File(path, "r+") as file:
        series = file["processing/behavior/BehavioralTimeSeries/nose"]
        series.attrs["neurodata_type"], series.attrs["namespace"] = "PoseEstimationSeries", "ndx-pose"
        series["confidence"] = confidence
    return path


def test_points_of_low_confidence_are_unknown(tmp_path: Path) -> None:
    confidence = np.full(int((STOP - START) * RATE), 0.9)
    confidence[400:800], confidence[1000] = 0.3, np.nan
    path = pose(tmp_path / "pose.nwb", confidence)
    with pytest.warns(RecordingWarning, match="400 of 2400 samples have a confidence below 0.6 and are unknown"):
        rec = Recording.from_nwb(path, behavior="nose")
    lost = (rec.time > START + 400 / RATE) & (rec.time < START + 799 / RATE)
    seen = (rec.time < START + 399 / RATE) | (rec.time > START + 800 / RATE)
    assert np.isnan(rec.behavior["nose"][lost]).all()
    np.testing.assert_allclose(rec.behavior["nose"][seen], track(rec.time[seen]), atol=0.01)
    (found,) = summarize_nwb(path).taken("behavior")
    assert (found.type, found.unit) == ("PoseEstimationSeries", "px")
    assert "400 samples missing" in found.remark


def test_a_confidence_of_another_length_is_refused_in_one_line(tmp_path: Path) -> None:
    path = pose(tmp_path / "pose.nwb", np.ones(7))
    with pytest.raises(InputError, match="has 2400 samples but 7 values of confidence") as error:
        Recording.from_nwb(path)
    one_line(error)
    (found,) = (o for o in summarize_nwb(path).objects if o.path.endswith("nose"))
    assert "7 values of confidence" in found.remark


@pytest.mark.parametrize("kind", ["TimeSeries", "FiberPhotometryResponseSeries"])
def test_fibers_are_activity(tmp_path: Path, kind: str) -> None:
    args = sampled(units=3)
    path = write(tmp_path / "fibers.nwb", time_series("ophys/dff", **args), time_series("ophys/isosbestic", **args))
    with h5py.File(path, "r+") as file:
        file["processing/ophys/dff"].attrs["neurodata_type"] = kind
    rec = Recording.from_nwb(path, behavior=False)
    assert rec.kind == "signal"
    np.testing.assert_array_equal(rec.activity, args["data"])


@pytest.mark.parametrize("behavior", [None, False])
def test_a_message_names_the_invalid_times_that_leave_nothing(tmp_path: Path, behavior: Any) -> None:
    units = session(tmp_path / "units.nwb", spikes_of(), position=[tracked()])
    rates = write(tmp_path / "rates.nwb", time_series("ecephys/rates", **sampled()), position(sampled()["timestamps"]))
    for path in (units, rates):
        with_invalid(path, (0.0, 2 * STOP))
        with pytest.raises(InputError, match="intervals/invalid_times: 2120 s are marked as invalid") as error:
            Recording.from_nwb(path, behavior=behavior)
        one_line(error)


def test_invalid_times_without_an_end_are_described(tmp_path: Path) -> None:
    path = with_invalid(session(tmp_path / "units.nwb", spikes_of(), position=[tracked()]), (START + 30.0, np.inf))
    rec = Recording.from_nwb(path)
    assert rec.time[-1] < START + 30.0
    assert any("times without an end are marked as invalid" in note for note in rec.notes)
