"""Malformed objects of pynapple, and malformed arguments beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from refusals import assert_refused

from kalmanssl import Recording

nap = pytest.importorskip("pynapple")

SPIKES = np.sort(np.random.default_rng(0).uniform(0, 50, 300))
UNITS = nap.TsGroup({0: nap.Ts(SPIKES), 1: nap.Ts(SPIKES + 0.01)})
TIME = np.arange(50) / 10
SERIES = nap.TsdFrame(t=TIME, d=np.ones((50, 2)))

ACTIVITY: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "array": lambda: np.ones((3, 3)),
    "intervals": lambda: nap.IntervalSet(0, 1),
    "tensor": lambda: nap.TsdTensor(t=np.arange(5.0), d=np.ones((5, 2, 2))),
    "NaN": lambda: nap.TsdFrame(t=TIME, d=np.full((50, 2), np.nan)),
    "complex": lambda: nap.TsdFrame(t=TIME, d=np.full((50, 2), 1j)),
    "one sample": lambda: nap.Tsd(t=[1.0], d=[1.0]),
    "no samples": lambda: nap.Tsd(t=[], d=[]),
    "no spikes": lambda: nap.Ts([]),
    "a spike that is far away": lambda: nap.TsGroup({0: nap.Ts(np.append(SPIKES, 1e9)), 1: nap.Ts(SPIKES)}),
}


@pytest.mark.parametrize("make", ACTIVITY.values(), ids=ACTIVITY)
def test_malformed_activity_is_refused(make: Callable[[], Any]) -> None:
    activity = make()
    assert_refused(lambda: Recording.from_pynapple(activity), "activity|bin_size|bins")


ARGUMENTS: dict[str, tuple[str, Any]] = {
    "tiny bins": ("bin_size", 1e-9),
    "bins of NaN": ("bin_size", np.nan),
    "bins of text": ("bin_size", "a"),
    "support of text": ("time_support", "a"),
    "scalar support": ("time_support", 3),
    "support of three columns": ("time_support", np.zeros((2, 3))),
    "reversed support": ("time_support", (5, 1)),
    "infinite support": ("time_support", (-np.inf, np.inf)),
    "support of NaN": ("time_support", (0, np.nan)),
    "number as kind": ("kind", 3),
    "signal of spikes": ("kind", "signal"),
    "behavior elsewhere": ("behavior", nap.Tsd(t=[100.0, 101.0], d=[1.0, 2.0])),
    "behavior without values": ("behavior", nap.Ts([1.0, 2.0])),
    "complex behavior": ("behavior", nap.Tsd(t=[1.0, 2.0], d=[1j, 2.0])),
    "units as behavior": ("behavior", UNITS),
    "epochs without stops": ("epochs", {"a": nap.Ts([1.0])}),
    "epochs without label": ("epochs", nap.IntervalSet(0, 1)),
    "number as session": ("session", 3),
}


@pytest.mark.parametrize(("name", "value"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_malformed_arguments_are_refused(name: str, value: Any) -> None:
    arguments: dict[str, Any] = {name: value}
    assert_refused(lambda: Recording.from_pynapple(UNITS, **arguments), "bin_size|" + name)


def test_other_bins_than_those_of_the_samples_are_refused() -> None:
    assert_refused(lambda: Recording.from_pynapple(SERIES, bin_size=5.0), "bin_size")
    assert_refused(lambda: Recording.from_pynapple(SERIES, kind=np.array(["counts", "a"])), "kind")  # type: ignore[arg-type]


def test_times_without_stops_are_neither_epochs_nor_trials() -> None:
    recording = Recording.from_pynapple(UNITS)
    assert_refused(lambda: recording.restrict(epoch=nap.Ts([1.0])), "epoch")
    assert_refused(lambda: recording.trials(nap.Ts([1.0])), "intervals")
    assert_refused(lambda: recording.trials(nap.IntervalSet([0, 500], [1, 600])), "trial")
