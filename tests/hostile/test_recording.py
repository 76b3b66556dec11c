"""Malformed arguments of `Recording.from_arrays` and of the methods that select bins."""

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


def _with(values: np.ndarray, index: Any, value: Any) -> np.ndarray:
    changed = values.astype(np.result_type(values, type(value)) if value is not None else object)
    changed[index] = value
    return changed


class _Strange:
    def __repr__(self) -> str:
        return "line\n" * 1000


BAD: dict[str, dict[str, Any]] = {
    "activity": {
        "None": None,
        "number": 3,
        "text": "counts",
        "list of text": [["a"] * 3] * N,
        "set": {1, 2},
        "dict": {"a": 1},
        "generator": (row for row in COUNTS),
        "object": _Strange(),
        "objects": np.full((N, UNITS), None),
        "complex": COUNTS.astype(complex),
        "dates": np.zeros((N, UNITS), "M8[s]"),
        "bytes": b"0101",
        "compound": np.zeros((N, UNITS), [("a", "f4")]),
        "one dimension": COUNTS[:, 0],
        "three dimensions": COUNTS[..., None],
        "ragged": [[1.0], [1.0, 2.0]],
        "no units": COUNTS[:, :0],
        "no bins": COUNTS[:0],
        "NaN": _with(COUNTS, (3, 1), np.nan),
        "infinite": _with(COUNTS, (3, 1), np.inf),
        "too large for float32": _with(COUNTS, (3, 1), 1e300),
        "negative counts": _with(COUNTS, (3, 1), -1.0),
        "all NaN": COUNTS * np.nan,
        "masked": np.ma.masked_greater(COUNTS, 2),
        "masked integers": np.ma.masked_greater(COUNTS.astype(int), 2),
        "integer too large": [[10**400] * 3] * N,
    },
    "kind": {
        "None": None,
        "number": 3,
        "unknown": "spikes",
        "list": ["counts"],
        "array": np.array(["counts", "a"]),
        "huge": HUGE,
    },
    "time": {
        "number": 3.0,
        "text": "now",
        "list of text": ["0.1"] * N,
        "objects of text": np.array(["0.1"] * N, object),
        "None inside": [None] * N,
        "complex": TIME.astype(complex),
        "dates": TIME.astype("M8[s]"),
        "short": TIME[:-1],
        "long": np.arange(N + 1.0),
        "two dimensions": TIME[:, None],
        "NaN": _with(TIME, 3, np.nan),
        "infinite": _with(TIME, 3, np.inf),
        "decreasing": TIME[::-1],
        "repeated": _with(TIME, 3, TIME[2]),
        "masked": np.ma.masked_greater(TIME, 1.0),
        "set": {1.0},
        "steps that overflow": np.linspace(-1.7e308, 1.7e308, N),
        "integer too large": [*range(N - 1), 10**400],
    },
    "bin_size": {
        "text": "0.1",
        "bool": True,
        "NaN": np.nan,
        "zero": 0,
        "negative": -0.1,
        "infinite": np.inf,
        "list": [0.1],
        "array": np.array([0.1]),
        "complex": 0.1 + 0j,
        "too large for times": 1e308,
        "integer too large": 10**400,
        "too small for times": 5e-324,
    },
    "unit_ids": {
        "number": 3,
        "text": "abc",
        "bytes": b"abc",
        "dict": {"a": 1, "b": 2, "c": 3},
        "set": {"a", "b", "c"},
        "short": ["a"],
        "long": list("abcd"),
        "repeated": ["a", "a", "b"],
        "equal as text": [1, "1", 2],
        "two dimensions": np.zeros((3, 1)),
        "scalar array": np.array(3),
        "None inside": ["a", None, "b"],
        "NaN inside": ["a", np.nan, "b"],
        "lists": [["a"], ["b"], ["c"]],
        "bytes inside": [b"a", b"b", b"c"],
        "surrogate": ["a", "\udcff", "b"],
        "NUL": ["a", "b\0", "c"],
        "dicts": [{}, {}, {}],
    },
    "cell_type": {
        "number": 3,
        "text": "exc",
        "short": ["exc"],
        "dict": {"a": 1, "b": 2, "c": 3},
        "None inside": [None] * 3,
        "surrogate": ["exc", "\udcff", "inh"],
        "lists": [["exc"]] * 3,
        "two dimensions": np.full((3, 1), "exc"),
    },
    "behavior": {
        "number": 3.0,
        "short": TIME[:-1],
        "three dimensions": np.zeros((N, 1, 1)),
        "no dimensions": np.zeros((N, 0)),
        "infinite": {"x": _with(TIME, 3, np.inf)},
        "complex": TIME.astype(complex),
        "set": {1.0, 2.0},
        "arrays inside": {"x": np.array([*[np.zeros(2)] * (N - 1), np.zeros(3)], dtype=object)},
        "lists inside": {"x": np.array([*[[1]] * (N - 1), [1, 2]], dtype=object)},
        "dicts inside": [{"a": 1}] * N,
        "labels of two dimensions": np.full((N, 2), "a"),
        "name None": {None: TIME},
        "name NaN": {np.nan: TIME},
        "surrogate in its name": {"\udcff": TIME},
        "NUL in its name": {"a\0b": TIME},
        "equal names": {1: TIME, "1": TIME},
        "huge name": {HUGE: TIME},
        "line breaks in its name": {"a\nb": TIME[:-1]},
        "dates": TIME.astype("M8[s]"),
        "masked integers": np.ma.masked_greater(np.arange(N), 5),
    },
    "behavior_unit": {
        "text": "m",
        "number": 3,
        "list": ["m"],
        "unknown name": {"speed": "m/s"},
        "unit None": {"position": None},
        "unit number": {"position": 3},
        "unit surrogate": {"position": "\udcff"},
        "many unknown": {HUGE: "m"},
    },
    "epochs": {
        "text": "maze",
        "number": 3,
        "list": [(0, 1)],
        "array": np.zeros((2, 2)),
        "one time": {"a": 1.0},
        "three times": {"a": (0, 1, 2)},
        "reversed": {"a": (1, 0)},
        "equal": {"a": (1, 1)},
        "NaN": {"a": (0, np.nan)},
        "text inside": {"a": ("0", "1")},
        "None inside": {"a": None},
        "many reversed": {"a": np.zeros((1000, 2))},
        "name None": {None: (0, 1)},
        "surrogate": {"\udcff": (0, 1)},
        "ragged": {"a": [(0, 1), (2,)]},
        "equal names": {1: (0, 1), "1": (2, 3)},
        "strange object": {"a": _Strange()},
    },
    "session": {"None": None, "number": 3, "bytes": b"a", "list": ["a"], "surrogate": "\udcff", "NUL": "a\0"},
}
CASES = {f"{name}: {kind}": (name, value) for name, kinds in BAD.items() for kind, value in kinds.items()}


@pytest.mark.parametrize(("name", "value"), CASES.values(), ids=CASES)
def test_malformed_arguments_are_refused(name: str, value: Any) -> None:
    arguments: dict[str, Any] = {"activity": COUNTS, "behavior": TIME} | {name: value}
    assert_refused(lambda: Recording.from_arrays(**arguments), name)


def test_masked_values_of_behavior_are_unknown() -> None:
    found = Recording.from_arrays(COUNTS, behavior=np.ma.masked_greater(TIME, 1.0))
    np.testing.assert_array_equal(found.behavior["position"], np.where(TIME > 1.0, np.nan, TIME))


def test_masked_arrays_without_masked_values_are_arrays() -> None:
    found = Recording.from_arrays(np.ma.masked_greater(COUNTS.astype(int), 9), time=np.ma.array(TIME))
    np.testing.assert_array_equal(found.activity, COUNTS)
    np.testing.assert_array_equal(found.time, TIME)


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
