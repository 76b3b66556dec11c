"""Choices of time by a table of intervals, and of units by the table of electrodes."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from nwb_sessions import START, spikes_of, tracked

from kalmanssl.data import Recording, summarize_nwb
from kalmanssl.errors import InputError


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four units on two shanks, trials that overlap, and one epoch with the label "run"."""
    from datetime import UTC, datetime

    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.behavior import Position, SpatialSeries

    file = NWBFile("a test", "id", datetime(2020, 1, 1, tzinfo=UTC))
    device = file.create_device("probe")
    for shank, location in enumerate(["CA1", "CA3", "CA1"]):
        group = file.create_electrode_group(f"shank{shank}", "a shank", location, device)
        file.add_electrode(location=location, group=group)
    for row, times in enumerate(spikes_of()):
        file.add_unit(spike_times=times, id=row, electrodes=[[0, 1], [1], [2], []][row])
    module = file.create_processing_module("behavior", "behavior")
    series = SpatialSeries(name="mazeSpatialSeries", reference_frame="x", unit="meters", **tracked())
    module.add(Position(spatial_series=series, name="mazePosition"))
    for start, stop in [(20.0, 30.0), (5.0, 10.0), (8.0, 12.0)]:
        file.add_trial(start_time=START + start, stop_time=START + stop)
    file.add_epoch(start_time=START, stop_time=START + 50, tags=["run"])
    target = tmp_path_factory.mktemp("choices") / "a.nwb"
    with NWBHDF5IO(str(target), "w") as io:
        io.write(file)
    return target


def test_tables_of_intervals_are_epochs_by_their_name(path: Path) -> None:
    recording = Recording.from_nwb(path)
    assert list(recording.epochs) == ["run", "trials"]
    np.testing.assert_allclose(recording.epochs["trials"] - START, [[5, 10], [8, 12], [20, 30]])
    in_trials = recording.restrict("trials")
    lags = in_trials.time - START
    assert ((lags > 4.999) & (lags < 12) | (lags > 19.999) & (lags < 30)).all()
    assert len(in_trials) == pytest.approx(17.0 / 0.025, abs=2)
    assert len(Recording.from_nwb(path, epoch="trials")) == pytest.approx(17.0 / 0.025, abs=2)
    summary = summarize_nwb(path)
    assert list(summary.epochs) == ["run", "trials"]
    assert "run, trials (3)" in str(summary)


def test_units_are_selected_by_a_column_of_their_first_electrode(path: Path) -> None:
    def chosen(**columns: object) -> tuple[str, ...]:
        return Recording.from_nwb(path, units=columns).unit_ids

    assert chosen(location="CA1") == ("0", "2")
    assert chosen(location=["CA1", "CA3"]) == ("0", "1", "2")
    assert chosen(location="CA1", id=[2, 3]) == ("2",)
    with pytest.raises(InputError, match="no unit has 'V1' in column 'location'; its values: CA1, CA3, None"):
        chosen(location="V1")
    with pytest.raises(InputError, match="has no column 'area'"):
        chosen(area="CA1")


def test_the_summary_has_the_groups_of_units_that_can_be_selected(path: Path) -> None:
    (units,) = summarize_nwb(path).taken("activity")
    assert units.groups["location"] == {"CA1": 2, "CA3": 1}  # the fourth has no electrode
    assert "location: CA1 (2), CA3 (1)" in str(summarize_nwb(path))


def test_units_with_the_id_of_their_electrode_are_selected_by_its_columns(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "allen.nwb"
    shutil.copy(path, target)
    with h5py.File(target, "r+") as file:
        units = file["units"]
        del units["electrodes"], units["electrodes_index"]
        units["peak_channel_id"] = [1, 0, 2, 77]
        units["peak_channel_id"].attrs["neurodata_type"] = "VectorData"
    assert Recording.from_nwb(target, units={"location": "CA1"}).unit_ids == ("1", "2")
    assert Recording.from_nwb(target, units={"group_name": "shank1"}).unit_ids == ("0",)
    (units_object,) = summarize_nwb(target).taken("activity")
    assert units_object.groups["location"] == {"CA1": 2, "CA3": 1}
