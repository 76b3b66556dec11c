"""The summary of an NWB file before a fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from nwb_activity import field_potential, position, sampled, time_series, traces, write
from nwb_sessions import START, STOP, session, spikes_of, tracked

from kalmanssl.data import NWBObject, summarize_nwb
from kalmanssl.errors import InputError


def objects(path: Path, **arguments: Any) -> dict[str, NWBObject]:
    return {o.path: o for o in summarize_nwb(path, **arguments).objects}


def test_units_behavior_and_epochs_of_a_plain_session(plain: Path) -> None:
    summary = summarize_nwb(plain)
    (units,) = summary.taken("activity")
    assert (units.path, units.columns) == ("units", 3)
    n_spikes = sum(len(spikes_of()[unit]) for unit in (0, 2, 3))
    assert f"{n_spikes} spikes" in units.remark
    assert "3 excitatory of 4" in units.remark
    (behavior,) = summary.taken("behavior")
    assert behavior.rate == pytest.approx(40.0)
    assert (behavior.start, behavior.gaps, behavior.unit) == (START, 0, "meters")
    assert set(summary.epochs) == {"PREEpoch", "MazeEpoch", "POSTEpoch"}
    assert summary.problems == {}
    json.dumps(summary.to_dict())


def test_what_is_taken_agrees_with_the_arguments_and_the_rest_are_candidates(tmp_path: Path) -> None:
    events, df = sampled(), sampled(seed=1)
    events["timestamps"][100:] += 2.0
    path = write(
        tmp_path / "a.nwb",
        traces({"Fluorescence/Deconvolved": events, "DfOverF/DfOverF": df}),
        position(np.arange(0.0, 20.0, 0.05)),
        field_potential(np.zeros((100, 2)), 500.0),
    )
    summary = summarize_nwb(path)
    assert summary.taken("activity") == ()
    assert "name one of: processing/ophys/DfOverF/DfOverF, processing" in summary.problems["activity"]
    found = objects(path, activity="Deconvolved")
    taken = found["processing/ophys/Fluorescence/Deconvolved"]
    assert (taken.use, taken.gaps, taken.remark) == ("taken", 1, "events, summed in bins")
    assert taken.gap_seconds == pytest.approx(2.05)
    other = found["processing/ophys/DfOverF/DfOverF"]
    assert (other.use, other.columns, other.remark) == ("candidate", 4, "signal, averaged in bins")
    assert found["processing/ecephys/LFP/LFP"].rate == pytest.approx(500.0)
    rois = found["processing/ophys/ImageSegmentation/ROIs"]
    assert (rois.use, rois.columns) == ("skipped", 4)


def test_series_that_cannot_be_used_are_listed_with_the_reason(tmp_path: Path) -> None:
    args = sampled()
    args["timestamps"][50] = 5.0
    args["data"][:, 1] = np.nan
    nan = sampled()
    nan["data"][:, 1] = np.nan
    path = write(
        tmp_path / "a.nwb",
        traces({"DfOverF/trace": args, "Fluorescence/Raw": nan}),
        time_series("behavior/still", **sampled(units=1)),
    )
    with h5py.File(path, "a") as file:
        del file["processing/behavior/still/timestamps"]
    found = objects(path, activity="Raw")
    assert "time does not increase at sample 50" in found["processing/ophys/DfOverF/trace"].remark
    assert found["processing/ophys/DfOverF/trace"].use == "skipped"
    assert "neither timestamps nor a starting time" in found["processing/behavior/still"].remark
    raw = found["processing/ophys/Fluorescence/Raw"]
    assert raw.columns == 3
    assert "1 of 4 columns have NaN or infinite values (101)" in raw.remark


def test_an_ambiguous_behavior_is_a_problem_that_lists_the_candidates(tmp_path: Path) -> None:
    path = session(
        tmp_path / "a.nwb", spikes_of(), position=[tracked(maze="a"), tracked(maze="b")], epochs=[(START, STOP, "run")]
    )
    summary = summarize_nwb(path)
    assert "behavior is ambiguous; name one of: aPosition, bPosition" in summary.problems["behavior"]
    assert "no behavior is taken: behavior is ambiguous" in str(summary)
    assert len(summarize_nwb(path, behavior="aPosition").taken("behavior")) == 1


def test_the_table_has_every_object(plain: Path) -> None:
    text = str(summarize_nwb(plain))
    for found in summarize_nwb(plain).objects:
        assert found.path in text
    assert "epochs: " in text


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        summarize_nwb(tmp_path / "none.nwb")


def test_times_of_cues_are_not_offered_as_labels(tmp_path: Path) -> None:
    def add_trials(file: Any) -> None:
        for name in ("go_cue", "reward", "target_x", "context"):
            file.add_trial_column(name, name)
        for number in range(4):
            start = 4.0 * number + 1.0
            cue = np.nan if number == 2 else start + 1.0
            values = {"go_cue": cue, "reward": 2.0 + number % 2, "target_x": 0.1 * number, "context": 7.0}
            file.add_trial(start_time=start, stop_time=start + 3.0, **values)

    path = write(tmp_path / "a.nwb", position(np.arange(0.0, 20.0, 0.05)), add_trials)
    found = objects(path)
    cue = found["intervals/trials/go_cue"]
    assert (cue.role, cue.use) == ("other", "skipped")
    assert "times of events" in cue.remark
    for name in ("reward", "target_x"):  # numbers that are not all between start and stop
        assert found[f"intervals/trials/{name}"].use == "candidate"
    constant = found["intervals/trials/context"]
    assert (constant.role, constant.use, constant.remark) == (
        "labels", "skipped", "one distinct value: nothing to decode",
    )  # fmt: skip
    (moved,) = [one for one in found.values() if one.role == "behavior"]
    assert moved.remark == "-1 to 1"  # sin(t)
    named = objects(path, behavior="trials/go_cue")["intervals/trials/go_cue"]
    assert (named.role, named.use) == ("labels", "taken")


def test_a_position_that_jumps_only_at_gaps_has_no_laps(tmp_path: Path) -> None:
    times = START + np.arange(400) / 40.0
    values = (times - START) % 2.0
    for gap, has_laps in ((0.0, True), (1.0, False)):
        shifted = times + gap * ((times - START) // 2.0)
        path = session(tmp_path / f"{gap:g}.nwb", spikes_of(), position=[{"data": values, "timestamps": shifted}])
        (found,) = summarize_nwb(path).taken("behavior")
        assert ("as after laps" in found.remark) == has_laps
