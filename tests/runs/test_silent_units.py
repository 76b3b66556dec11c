"""Units that are silent, or fall silent, are named."""

from __future__ import annotations

import numpy as np

from kalmanssl.data import Recording
from kalmanssl.runs._silent_units import silent_unit_notes


def recording_of(activity: np.ndarray) -> Recording:
    return Recording.from_arrays(activity, bin_size=0.1, unit_ids=[f"u{i}" for i in range(activity.shape[1])])


def test_silent_units_are_named() -> None:
    activity = np.random.default_rng(0).poisson(0.5, (1000, 9))
    activity[:, 1] = 0  # always silent
    activity[500:, 2] = 0  # lost
    activity[:, 3] = 0
    activity[:500:50, 3] = 1  # rare: only 10 active bins are expected
    training, rest = recording_of(activity).split(at=50.0)
    silent, lost = silent_unit_notes(training, rest)
    assert silent == "1 unit (u1) has no activity in the fitted part"
    assert lost.startswith("1 unit (u2) has no activity in the held-out part")
    assert silent_unit_notes(training, None) == [silent]
    assert silent_unit_notes(recording_of(activity[:, 4:]), rest.select_units(["u4", "u5", "u6", "u7", "u8"])) == []


def test_many_silent_units_are_counted() -> None:
    activity = np.zeros((100, 8))
    activity[:, 0] = 1
    assert silent_unit_notes(recording_of(activity), None) == [
        "7 units (u1, u2, u3, u4, u5 and 2 more) have no activity in the fitted part"
    ]
