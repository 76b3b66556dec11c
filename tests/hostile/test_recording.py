"""Malformed arguments of `Recording.from_arrays`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from refusals import assert_refused

from kalmanssl import Recording

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
