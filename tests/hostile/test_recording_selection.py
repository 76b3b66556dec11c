"""Malformed arguments of the methods of `Recording` that select bins: splits, epochs, trials, alignment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import assert_refused

from kalmanssl import Recording
from kalmanssl.data import as_recording, join_bins

N, UNITS = 20, 3
COUNTS = np.arange(N * UNITS, dtype=float).reshape(N, UNITS) % 4
TIME = 0.1 * np.arange(N)
HUGE = "x" * 10_000


class _Strange:
    def __repr__(self) -> str:
        return "line\n" * 1000


@pytest.fixture(scope="module")
def recording() -> Recording:
    return Recording.from_arrays(COUNTS, time=TIME, behavior={"x": TIME}, epochs={"first": (0.0, 1.0)})


NOT_TIMES: dict[str, Any] = {
    "text": "1.0",
    "list": [1.0],
    "array": TIME,
    "complex": 1j,
    "bool": True,
    "NaN": np.nan,
    "dict": {},
    "integer too large": 10**400,
    "strange object": _Strange(),
}


@pytest.mark.parametrize(
    "at", [*NOT_TIMES.values(), None, -5.0, 99.0, np.inf], ids=[*NOT_TIMES, "None", "before", "after", "infinite"]
)
def test_splits_at_something_else_are_refused(at: Any, recording: Recording) -> None:
    assert_refused(lambda: recording.split(at=at), "at")


@pytest.mark.parametrize("value", NOT_TIMES.values(), ids=NOT_TIMES)
@pytest.mark.parametrize("name", ["start", "stop"])
def test_restrictions_to_something_else_are_refused(name: str, value: Any, recording: Recording) -> None:
    assert_refused(lambda: recording.restrict(**{name: value}), name)


def test_numpy_scalars_are_times(recording: Recording) -> None:
    assert len(recording.split(np.array(0.5))[0]) == 5
    assert len(recording.restrict(start=np.float32(1.0))) == 10


EPOCHS: dict[str, Any] = {
    "unknown": "second",
    "huge": HUGE,
    "number": 3.0,
    "reversed": (1.0, 0.0),
    "NaN": (0.0, np.nan),
    "text": ["a", "b"],
    "overlap": [(0.0, 1.0), (0.5, 2.0)],
    "outside": (50.0, 60.0),
    "ragged": [(0.0, 1.0), (2.0,)],
    "dict": {"a": 1},
    "empty": np.zeros((0, 2)),
    "bytes": b"first",
}


@pytest.mark.parametrize("epoch", EPOCHS.values(), ids=EPOCHS)
def test_restrictions_to_other_epochs_are_refused(epoch: Any, recording: Recording) -> None:
    assert_refused(lambda: recording.restrict(epoch=epoch), "epoch")


INDICES: dict[str, Any] = {
    "one bin": 3,
    "beyond": [99],
    "repeated": [1, 1],
    "decreasing": [3, 1],
    "none": [],
    "no slice": slice(9, 3),
    "text": "x",
    "None": None,
    "fractions": [0.5],
    "short mask": np.ones(5, bool),
    "mask of nothing": np.zeros(N, bool),
    "two axes": (slice(None), 1),
    "dict": {},
    "slice of text": slice("a", "b"),
    "huge": HUGE,
    "integer too large": [10**30],
    "strange object": _Strange(),
    "two dimensions": np.zeros((2, 2), int),
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_malformed_indices_are_refused(index: Any, recording: Recording) -> None:
    assert_refused(lambda: recording[index], "index")


INTERVALS: dict[str, Any] = {
    "None": None,
    "number": 3,
    "text": "second",
    "huge": HUGE,
    "NUL": "a\0",
    "bytes": b"first",
    "empty": [],
    "one dimension": [0.1, 0.2, 0.3],
    "three columns": np.zeros((2, 3)),
    "reversed": [(1.0, 0.5)],
    "NaN": [(0.1, np.nan)],
    "infinite": [(-np.inf, np.inf)],
    "text inside": [("a", "b")],
    "outside": [(50.0, 51.0)],
    "overlap": [(0.0, 1.0), (0.5, 1.5)],
    "complex": [(0j, 1j)],
    "no start": {"stop_time": [1.0]},
    "no stop": {"start_time": [1.0]},
    "empty table": {},
    "scalars": {"start_time": 0.1, "stop_time": 0.5},
    "starts of text": {"start_time": ["a"], "stop_time": ["b"]},
    "different lengths": {"start": [0.1], "stop": [0.2, 0.3]},
    "a scalar column": {"start": [0.1], "stop": [0.5], "choice": 3},
    "a longer column": {"start": [0.1], "stop": [0.5], "choice": ["a", "b"]},
    "missing file": "absent.nwb",
    "missing path": Path("absent"),
    "shorter than a bin": [(0.11, 0.12)],
}


@pytest.mark.parametrize("intervals", INTERVALS.values(), ids=INTERVALS)
def test_malformed_trials_are_refused(intervals: Any, recording: Recording) -> None:
    assert_refused(lambda: recording.trials(intervals), "interval|trial|path|exist")


CHOICES: dict[str, Any] = {
    "text": "x",
    "None": None,
    "fractions": [0.5],
    "beyond": [9],
    "short mask": np.ones(9, bool),
    "dict": {},
    "two axes": (0, 1),
    "two dimensions": np.zeros((1, 1), int),
}


@pytest.mark.parametrize("index", CHOICES.values(), ids=CHOICES)
def test_malformed_choices_of_trials_are_refused(index: Any, recording: Recording) -> None:
    trials = recording.trials([(0.1, 0.5), (0.6, 1.0)])
    assert_refused(lambda: trials[index], "index")


@pytest.mark.parametrize("name", ["y", HUGE, None, 3, ["x"]], ids=["unknown", "huge", "None", "number", "list"])
def test_unknown_behavior_of_trials_is_refused(name: Any, recording: Recording) -> None:
    assert_refused(lambda: recording.trials([(0.1, 0.5)]).behavior(name), "name")


STOPS: dict[str, Any] = {
    "text": ["a"],
    "number": 0.5,
    "longer": [0.5, 0.6],
    "NaN": [np.nan],
    "before": [0.0],
    "None inside": [None],
}


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_malformed_stops_of_trials_are_refused(stop: Any, recording: Recording) -> None:
    assert_refused(lambda: recording.trials([0.2], stop), "interval|trial|stop")


@pytest.mark.parametrize(
    "options",
    [{"drop_outside": "no"}, {"drop_outside": None}, {"table": 3}, {"table": None}],
    ids=["text", "None", "table number", "table None"],
)
def test_malformed_options_of_trials_are_refused(options: Any, recording: Recording) -> None:
    assert_refused(lambda: recording.trials([(0.1, 0.5)], **options), next(iter(options)))


EVENTS: dict[str, tuple[Any, Any, Any]] = {
    "text": ("a", 0.1, 0.1),
    "None": (None, 0.1, 0.1),
    "NaN": ([np.nan], 0.1, 0.1),
    "none": ([], 0.1, 0.1),
    "two dimensions": (np.zeros((2, 2)), 0.1, 0.1),
    "outside": ([99.0], 0.1, 0.1),
    "before is text": ([0.5], "a", 0.1),
    "before is negative": ([0.5], -1, 0.1),
    "after is NaN": ([0.5], 0.1, np.nan),
    "no window": ([0.5], 0, 0),
    "longer than the memory": ([0.5], 1e12, 0.1),
    "infinite": ([0.5], np.inf, 0.1),
}


@pytest.mark.parametrize(("events", "before", "after"), EVENTS.values(), ids=EVENTS)
def test_malformed_alignments_are_refused(events: Any, before: Any, after: Any, recording: Recording) -> None:
    assert_refused(lambda: recording.align_to(events, before, after), "event|before|after")


KEEP: dict[str, Any] = {
    "None": None,
    "text": "all",
    "short": [True],
    "none": np.zeros(N, bool),
    "numbers": np.arange(N),
    "NaN": np.full(N, np.nan),
    "two dimensions": np.ones((N, 1), bool),
}


@pytest.mark.parametrize("keep", KEEP.values(), ids=KEEP)
def test_malformed_masks_for_joining_are_refused(keep: Any, recording: Recording) -> None:
    assert_refused(lambda: join_bins(recording, keep), "keep")


@pytest.mark.parametrize(
    "value",
    [None, 3, "session.nwb", COUNTS, {}, _Strange()],
    ids=["None", "number", "text", "array", "dict", "strange"],
)
def test_something_else_is_not_a_recording(value: Any) -> None:
    assert_refused(lambda: as_recording("recording", value), "recording")
