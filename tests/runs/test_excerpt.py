"""The part of a recording that a report shows."""

from __future__ import annotations

import numpy as np
import pytest
from report_pages import simulated

from kalmanssl.data import Recording, running_bins
from kalmanssl.runs._excerpt import excerpt_bins


def test_the_excerpt_contains_much_running(run):
    shown = run.evaluation.arrays
    runs = running_bins(simulated()[1].behavior["position"], end_zones=(0.15, 1.45))
    assert shown["runs"].sum() >= 0.8 * max(runs[start : start + 1600].sum() for start in range(len(runs) - 1599))
    assert np.ptp(shown["time"]) == pytest.approx(40.0, abs=0.1)
    assert np.all(np.diff(shown["time"]) < 0.03)


def test_the_excerpt_is_typical_and_not_the_one_with_the_most_running():
    recording = Recording.from_arrays(np.ones((20_000, 2)), bin_size=0.025)  # 500 s, excerpts of 40 s
    runs = np.arange(20_000) % 10 != 0
    runs[1000:2600] = True  # an exception near the start
    runs[9000:11_000] = False  # rest in the middle
    shown = excerpt_bins(recording, runs)
    assert shown.stop - shown.start == 1600
    assert runs[shown].sum() >= 0.8 * 1600
    assert abs(shown.start + 800 - 10_000) < 2000


@pytest.mark.parametrize(("gap", "seconds"), [(1.0, 40.0), (12.0, 4.0)])
def test_the_excerpt_has_several_trials_but_not_if_most_of_it_were_gaps(gap, seconds):
    time = np.concatenate([(4.0 + gap) * trial + 0.025 * np.arange(160) for trial in range(30)])  # trials of 4 s
    recording = Recording.from_arrays(np.ones((len(time), 2)), time=time, bin_size=0.025)
    shown = time[excerpt_bins(recording, np.ones(len(time)))]
    assert shown[-1] - shown[0] + 0.025 == pytest.approx(seconds, abs=1.1)
    assert shown[-1] - shown[0] < seconds


def test_the_excerpt_of_short_segments_is_typical_and_not_the_longest():
    lengths = np.full(31, 160)
    lengths[5] = 700  # a slow run, near the start
    starts = np.concatenate([[0], np.cumsum(lengths + 2000)[:-1]])
    time = 0.025 * np.concatenate([start + np.arange(length) for start, length in zip(starts, lengths, strict=True)])
    recording = Recording.from_arrays(np.ones((len(time), 2)), time=time, bin_size=0.025)
    shown = excerpt_bins(recording, np.ones(len(time)))
    assert shown.stop - shown.start == 160
    assert abs(shown.start + 80 - len(time) / 2) <= 160
