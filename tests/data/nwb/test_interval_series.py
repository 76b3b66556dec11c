"""Interval series (`IntervalSeries`), which have the beginnings and ends of states, as labels and as trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nwb_activity import module, sampled, traces, write

from kalmanssl.data import Recording, summarize_nwb
from kalmanssl.errors import InputError


def states(data: list[int], timestamps: list[float], name: str = "licking") -> Any:
    """Return a function that adds an interval series in `BehavioralEpochs`."""

    def add(file: Any) -> None:
        from pynwb.behavior import BehavioralEpochs
        from pynwb.misc import IntervalSeries

        series = IntervalSeries(name=name, data=np.array(data, dtype=np.int8), timestamps=timestamps)
        module(file, "behavior").add(BehavioralEpochs(interval_series=series, name=f"{name} epochs"))

    return add


def recording_file(path: Path, *contents: Any) -> Path:
    """Write four traces from 5 to 15 s, and `contents`."""
    return write(path, traces({"Fluorescence/Deconvolved": sampled()}), *contents)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State 1 from 6 to 8 s and from 10 to 14 s, and state 2 from 11 to 12 s."""
    return recording_file(
        tmp_path_factory.mktemp("nwb") / "states.nwb", states([1, -1, 1, 2, -2, -1], [6, 8, 10, 11, 12, 14])
    )


@pytest.mark.parametrize("name", ["licking", "processing/behavior/licking epochs/licking", "licking epochs/licking"])
def test_labels_are_the_numbers_of_the_states_and_none_between_them(path: Path, name: str) -> None:
    rec = Recording.from_nwb(path, behavior=name)
    label = rec.behavior["licking"]

    def between(start: float, stop: float) -> set[Any]:
        return set(label[(rec.time > start) & (rec.time < stop)])

    assert between(6.1, 7.9) == {"1"}
    assert between(8.1, 9.9) == {"none"}
    assert between(10.1, 10.9) == {"1"}
    assert between(11.1, 11.9) == {"2"}
    assert between(12.1, 13.9) == {"1"}
    assert rec.time[0] > 5.9
    assert rec.time[-1] < 14.1


def test_states_are_the_trials_of_a_recording(path: Path) -> None:
    rec = Recording.from_nwb(path, behavior=False)
    with pytest.raises(InputError, match="overlap"):
        rec.trials(path, table="licking")
    with pytest.raises(InputError, match="its tables: processing/behavior/licking epochs/licking"):
        rec.trials(path, table="sniffing")


def test_states_without_overlap_are_trials_with_the_state_as_a_column(tmp_path: Path) -> None:
    path = recording_file(tmp_path / "a.nwb", states([1, -1, 3, -3], [6, 8, 10, 11]))
    trials = Recording.from_nwb(path, behavior=False).trials(path, table="licking")
    np.testing.assert_array_equal(trials.start, [6, 10])
    np.testing.assert_array_equal(trials.stop, [8, 11])
    assert list(trials.columns["state"]) == ["1", "3"]


@pytest.mark.parametrize(
    ("data", "times", "expected"),
    [
        ([-1, 1, -1], [6, 7, 9], {"1"}),  # the end of an interval that began before the series
        ([1, 2, -2], [6, 8, 9], {"1", "2"}),  # an interval without an end
        ([1, 1, -1], [6, 7, 9], {"1"}),  # a beginning that is stored two times
        ([1, 0, -1, 2, -2], [6, 7, 9, 10, 12], {"1", "none", "2"}),
        ([1, -1, 2, -2], [10, 12, 6, 8], {"1", "none", "2"}),  # not in the order of time
    ],
)
def test_incomplete_intervals_are_read(tmp_path: Path, data: list[int], times: list[float], expected: set[str]) -> None:
    rec = Recording.from_nwb(recording_file(tmp_path / "a.nwb", states(data, times)), behavior="licking")
    assert {label for label in rec.behavior["licking"] if label is not None} == expected


def test_interval_series_are_listed_as_labels_and_are_not_taken_by_default(path: Path, tmp_path: Path) -> None:
    (found,) = (o for o in summarize_nwb(path).objects if o.type == "IntervalSeries")
    assert (found.role, found.use, found.start, found.stop) == ("labels", "candidate", 6.0, 14.0)
    assert found.remark == "3 intervals, 2 distinct values; none between them"
    (found,) = (o for o in summarize_nwb(path, behavior="licking").objects if o.type == "IntervalSeries")
    assert found.use == "taken"
    empty = recording_file(tmp_path / "a.nwb", states([], []))
    (found,) = (o for o in summarize_nwb(empty).objects if o.type == "IntervalSeries")
    assert found.remark == "no intervals"
    with pytest.raises(InputError, match="no tracked behavior"):
        Recording.from_nwb(empty, behavior="licking")
