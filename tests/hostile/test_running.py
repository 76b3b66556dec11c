"""Malformed positions, times and thresholds of `speed`, `traversals`, `running_bins` and `running_threshold`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from refusals import assert_refused

from kalmanssl.data import running_bins, running_threshold, speed, traversals

N = 50
TIME = 0.1 * np.arange(N)
POSITION = np.sin(TIME)

POSITIONS: dict[str, Any] = {
    "None": None,
    "text": "here",
    "list of text": ["here"] * N,
    "number": 3.0,
    "complex": POSITION.astype(complex),
    "three dimensions": POSITION.reshape(N, 1, 1),
    "no dimensions": np.zeros((N, 0)),
    "set": {1.0},
    "dict": {"a": 1},
    "infinite": np.where(POSITION > 0.9, np.inf, POSITION),
    "ragged": [[1.0], [1.0, 2.0]],
    "objects": [object()] * N,
    "masked integers": np.ma.masked_greater(np.arange(N), 9),
}
TIMES: dict[str, Any] = {
    "text": "now",
    "list of text": ["now"] * N,
    "number": 3.0,
    "short": TIME[:-1],
    "two dimensions": TIME[:, None],
    "NaN": np.where(TIME > 2, np.nan, TIME),
    "infinite": np.where(TIME > 2, np.inf, TIME),
    "decreasing": TIME[::-1],
    "equal": np.zeros(N),
    "complex": TIME.astype(complex),
    "empty": [],
}
NUMBERS: dict[str, Any] = {
    "text": "1",
    "NaN": np.nan,
    "list": [1.0],
    "array": TIME,
    "bool": True,
    "complex": 1j,
    "negative": -1.0,
}


@pytest.mark.parametrize("position", POSITIONS.values(), ids=POSITIONS)
def test_malformed_positions_are_refused(position: Any) -> None:
    assert_refused(lambda: speed(position, TIME), "position")
    assert_refused(lambda: running_threshold(position, TIME), "position")
    assert_refused(lambda: traversals(position, -0.5, 0.5), "position")
    assert_refused(lambda: running_bins(position, TIME, min_speed=0.1), "position")
    assert_refused(lambda: running_bins(position, end_zones=(-0.5, 0.5)), "position")


@pytest.mark.parametrize("time", TIMES.values(), ids=TIMES)
def test_malformed_times_are_refused(time: Any) -> None:
    assert_refused(lambda: speed(POSITION, time), "time")
    assert_refused(lambda: running_threshold(POSITION, time), "time")
    assert_refused(lambda: running_bins(POSITION, time, min_speed=0.1), "time")


@pytest.mark.parametrize("value", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("name", ["smoothing", "period", "min_speed"])
def test_malformed_numbers_are_refused(name: str, value: Any) -> None:
    if name == "min_speed":
        assert_refused(lambda: running_bins(POSITION, TIME, min_speed=value), name)
    else:
        assert_refused(lambda: speed(POSITION, TIME, **{name: value}), name)


@pytest.mark.parametrize("value", [1e9, 1e300, np.inf])
def test_smoothing_that_is_longer_than_the_recording_is_refused(value: float) -> None:
    assert_refused(lambda: speed(POSITION, TIME, smoothing=value), "smoothing")


ZONES: dict[str, Any] = {
    "number": 3.0,
    "one": (1.0,),
    "three": (1.0, 2.0, 3.0),
    "text": ("a", "b"),
    "None": (None, 1.0),
    "NaN": (np.nan, 1.0),
    "reversed": (1.0, 0.0),
    "equal": (1.0, 1.0),
    "dict": {1.0: 2.0, 3.0: 4.0},
    "set": {1.0, 2.0},
    "complex": (0j, 1j),
    "ragged": [(1.0,), 2.0],
}


@pytest.mark.parametrize("zones", ZONES.values(), ids=ZONES)
def test_malformed_end_zones_are_refused(zones: Any) -> None:
    assert_refused(lambda: running_bins(POSITION, end_zones=zones), "end")


def test_positions_that_are_never_known_are_refused() -> None:
    assert_refused(lambda: speed(np.full(N, np.nan), TIME), "position")
    assert_refused(lambda: running_bins(POSITION, min_speed=0.1), "time")
    assert_refused(lambda: running_bins(POSITION), "end_zones")
    assert (traversals(np.full(N, np.nan), -0.5, 0.5) == -1).all()
