"""The command info, and activity that is chosen by name in fit."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cli_commands import fails, invoke
from nwb_activity import position, sampled, time_series, traces, write

from kalmanssl.data import Recording


@pytest.fixture(scope="module")
def imaging(tmp_path_factory):
    """Two kinds of traces with a position, and ROIs with NaN in one of them."""
    df = sampled(seed=1)
    df["data"][3, 2] = np.nan
    return write(
        tmp_path_factory.mktemp("info") / "imaging.nwb",
        traces({"Fluorescence/Deconvolved": sampled(), "DfOverF/DfOverF": df}),
        position(np.arange(0.0, 20.0, 0.05)),
    )


def test_info_prints_a_table_with_the_candidates(imaging):
    result = invoke("info", imaging)
    assert result.exit_code == 0, result.output
    assert "processing/ophys/Fluorescence/Deconvolved" in result.stdout
    assert "no activity is taken: activity is ambiguous; name one of" in result.stdout
    chosen = invoke("info", imaging, "--activity", "Deconvolved")
    assert "activity, taken" in chosen.stdout


def test_info_suggests_a_command_that_fits_the_recording(imaging, recording):
    assert "--out run --activity DfOverF --until" in invoke("info", imaging).stdout
    command = invoke("info", imaging, "--activity", "Deconvolved").stdout.splitlines()[-1].split()
    assert command == [
        "kalmanssl",
        "fit",
        str(imaging),
        "--out",
        "run",
        "--activity",
        "Deconvolved",
        "--until",
        "11.96",  # of the time with both
    ]
    *_, until = invoke("info", recording).stdout.split()
    times = Recording.from_nwb(recording).time
    assert times[0] < float(until) < times[-1]


def test_info_names_the_option_for_other_behaviors_and_never_divides_paths(imaging, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    option = "name it: fit ... --behavior "
    shown = invoke("info", imaging, "--activity", "Deconvolved").stdout
    assert "processing/ophys/Fluorescence/Deconvolved" in shown
    assert option not in shown  # the file has one behavior
    times = np.arange(0.0, 20.0, 0.05)
    velocity = time_series("behavior/velocity", data=np.cos(times), timestamps=times, unit="m/s")
    path = write(tmp_path / "two.nwb", traces({"Fluorescence/Deconvolved": sampled()}), position(times), velocity)
    shown = invoke("info", path).stdout
    named = shown.partition(option)[2].split()[0]
    assert named == "velocity"
    assert "behavior, taken" in invoke("info", path, "--behavior", named).stdout
    other = time_series("other/velocity", data=np.sin(times), timestamps=times, unit="m/s")
    path = write(
        tmp_path / "three.nwb", traces({"Fluorescence/Deconvolved": sampled()}), position(times), velocity, other
    )
    named = invoke("info", path).stdout.partition(option)[2].split()[0]
    assert named == "processing/behavior/velocity"  # the name alone is that of two series
    assert "behavior, taken" in invoke("info", path, "--behavior", named).stdout


def test_info_prints_json(imaging):
    result = invoke("info", imaging, "--activity", "DfOverF", "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    taken = [o for o in summary["objects"] if o["use"] == "taken"]
    assert [o["path"] for o in taken] == [
        "processing/ophys/DfOverF/DfOverF",
        "processing/behavior/Position/SpatialSeries",
    ]
    assert taken[0]["columns"] == 3
    assert summary["problems"] == {}


def test_names_that_do_not_exist_are_refused_with_the_option(imaging, tmp_path):
    assert fails("info", imaging, "--activity", "Spikes").startswith("error: --activity='Spikes' is not in the file")
    assert "--behavior='speed' is not in the file" in fails("info", imaging, "--behavior", "speed")
    assert "does not exist" in fails("info", tmp_path / "none.nwb")


def test_fit_prints_the_summary_and_refuses_an_ambiguous_activity(imaging, tmp_path):
    out = tmp_path / "run"
    result = invoke("fit", imaging, "--out", out)
    assert result.exit_code == 2
    assert "Contents of imaging.nwb" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: --activity is ambiguous; name one of: processing/ophys")
    assert list(tmp_path.iterdir()) == []
    refused = ("fit", imaging, "--out", out, "--activity", "DfOverF", "--units", "all")
    assert "1 of 4 columns have NaN or infinite values (102)" in fails(*refused)
    assert "shorter than the sampling period" in fails(*refused[:6], "--bin-size", 0.01)
    assert list(tmp_path.iterdir()) == []


def test_info_names_groups_of_units_and_labels_of_a_file_without_series(tmp_path):
    from datetime import UTC, datetime

    from pynwb import NWBHDF5IO, NWBFile

    file = NWBFile("a test", "id", datetime(2020, 1, 1, tzinfo=UTC))
    file.add_unit_column("location", "region")
    file.add_trial_column("odor", "name")
    for unit in range(4):
        file.add_unit(spike_times=np.arange(0.1, 60.0, 0.5 + 0.1 * unit), location=["CA1", "CA3"][unit % 2])
    for trial in range(12):
        file.add_trial(start_time=5.0 * trial, stop_time=5.0 * trial + 2, odor=["octanol", "limonene"][trial % 2])
    path = tmp_path / "odor.nwb"
    with NWBHDF5IO(str(path), "w") as io:
        io.write(file)
    shown = invoke("info", path).stdout
    assert "location: CA1 (2), CA3 (2)" in shown
    assert "select them by a column: fit ... --units location=CA1" in shown
    assert "--out run --behavior odor --until" in shown
    assert "select them" not in invoke("info", path, "--units", "location=CA1").stdout


def test_the_suggested_time_is_one_with_known_behavior(tmp_path):
    times = np.arange(0.0, 200.0, 0.05)
    tracked = np.where((times > 20.0) & (times < 70.0), np.sin(times), np.nan)  # then it sleeps without a camera
    activity = time_series("ecephys/rates", **sampled(n=4000, timestamps=times))
    lone = time_series("behavior/position", data=tracked, timestamps=times, unit="cm")
    path = write(tmp_path / "sleep.nwb", activity, lone)
    shown = invoke("info", path).stdout
    assert "20.05 to 69.95" in shown
    assert shown.split()[-1] == "54.98"


def test_of_several_behaviors_the_command_names_what_most_analyses_use(tmp_path):
    times = np.arange(0.0, 20.0, 0.05)
    args = {"timestamps": times, "unit": "px"}
    names = ("licks", "pupil_diameter", "speed_raw", "speed", "wheel_rotation")
    series = [time_series(f"running/{name}", data=np.sin(times + i), **args) for i, name in enumerate(names)]
    constant = time_series("running/events", data=np.ones(400), **args)
    path = write(tmp_path / "many.nwb", time_series("ecephys/rates", **sampled()), constant, *series)
    shown = invoke("info", path).stdout
    assert "name one of: speed, " in shown
    assert "--out run --behavior speed --until" in shown
    assert "skipped" in next(line for line in shown.splitlines() if "running/events" in line)
    assert "one distinct value: nothing to decode" in shown


def test_the_table_is_not_cut_at_its_right_side(tmp_path):
    times = 1.6e9 + np.concatenate([np.arange(0.0, 500.0, 0.05), np.arange(9e4, 9e4 + 500, 0.05)])
    values = time_series("behavior/position", data=np.sin(times), timestamps=times, unit="cm")
    rates = sampled(n=len(times), timestamps=times)
    path = write(tmp_path / "long.nwb", time_series(f"ecephys/rates_{50 * 'n'}", **rates), values)
    assert invoke("info", path).stdout.count("1 (8.95e+04 s)") == 2


def test_one_of_several_epochs_is_suggested_unless_it_has_all_of_the_behavior(tmp_path):
    times = np.arange(0.0, 200.0, 0.05)

    def epochs(file):
        for start, stop, label in ((0.0, 80.0, "sleep"), (80.0, 180.0, "maze"), (180.0, 200.0, "box")):
            file.add_epoch(start_time=start, stop_time=stop, tags=[label])

    def written(first, last):
        values = np.where((times > first) & (times < last), np.sin(times), np.nan)
        series = time_series("behavior/position", data=values, timestamps=times, unit="cm")
        activity = time_series("ecephys/rates", **sampled(n=4000, timestamps=times))
        return write(tmp_path / f"{first:g}.nwb", activity, series, epochs)

    assert (
        "to use the time of one epoch: fit ... --during maze --until 150\n"
        in invoke("info", written(40.0, 200.0)).stdout
    )
    assert "one epoch" not in invoke("info", written(85.0, 175.0)).stdout
