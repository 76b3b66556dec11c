"""The part of a recording that a report shows."""

from __future__ import annotations

import numpy as np
import pytest
from report_pages import simulated

from kalmanssl.data import Recording, running_bins
from kalmanssl.plotting import new_axes
from kalmanssl.runs._excerpt import excerpt_bins
from kalmanssl.runs.report._time_axis import drawn_time, has_short_gaps, label_segments
from kalmanssl.utils.segments import segment_slices


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
    assert len(shown) == 1600
    assert runs[shown].sum() >= 0.8 * 1600
    assert abs(shown[0] + 800 - 10_000) < 2000


def trials(gap, count=30, seconds=4.0):
    """Return a recording of trials with gaps between them, seconds."""
    n_bins = round(seconds / 0.025)
    starts = (seconds + gap) * np.arange(count)
    time = (starts[:, None] + 0.025 * np.arange(n_bins)).ravel()
    return Recording.from_arrays(np.ones((len(time), 2)), time=time, bin_size=0.025), np.repeat(
        np.arange(count), n_bins
    )


@pytest.mark.parametrize(("gap", "recorded"), [(1.0, 32.0), (12.0, 40.0)])
def test_the_excerpt_has_several_trials_and_whole_ones_if_most_of_its_time_were_gaps(gap, recorded):
    recording, _ = trials(gap)
    shown = excerpt_bins(recording, np.ones(len(recording)))
    assert len(shown) * 0.025 == pytest.approx(recorded, abs=1.1)
    time = recording.time[shown]
    if gap == 12.0:
        assert has_short_gaps(time)
        assert len(segment_slices(time)) == 10
        assert time[0] in recording.time[::160]
    else:
        assert not has_short_gaps(time)
        np.testing.assert_array_equal(drawn_time(time), time)


def test_the_excerpt_of_short_segments_is_typical_and_not_the_longest():
    lengths = np.full(61, 160)
    lengths[5] = 700  # a slow run, near the start
    starts = np.concatenate([[0], np.cumsum(lengths + 2000)[:-1]])
    time = 0.025 * np.concatenate([start + np.arange(length) for start, length in zip(starts, lengths, strict=True)])
    recording = Recording.from_arrays(np.ones((len(time), 2)), time=time, bin_size=0.025)
    shown = excerpt_bins(recording, np.ones(len(time)))
    assert len(shown) == 1600
    assert abs(shown.mean() - len(time) / 2) <= 160


@pytest.mark.parametrize("n_labels", [2, 8])
def test_the_excerpt_of_labels_shows_changes_between_them(n_labels):
    recording, trial = trials(gap=12.0)
    labels = (trial // 2 % n_labels).astype(float)
    shown = excerpt_bins(recording, np.ones(len(recording)), labels)
    assert len(np.unique(labels[shown])) == min(n_labels, 5)
    long = Recording.from_arrays(np.ones((20_000, 2)), bin_size=0.025)  # without gaps; the only change is at 50 s
    changed = excerpt_bins(long, np.ones(20_000), (np.arange(20_000) >= 2000).astype(float))
    assert changed[0] < 2000 <= changed[-1]
    np.testing.assert_array_equal(np.diff(changed), 1)


def test_labels_that_are_known_in_pieces_far_apart_are_shown_in_these_pieces():
    recording = Recording.from_arrays(np.ones((40_000, 2)), bin_size=0.025)
    labels = np.full(40_000, np.nan)
    for number in range(9):  # 3 s every 100 s, with a label of its own
        labels[4000 * number + 1000 : 4000 * number + 1120] = number % 4
    shown = excerpt_bins(recording, np.ones(40_000), labels)
    assert np.isfinite(labels[shown]).all()
    assert len(np.unique(labels[shown])) == 4
    single = np.where(np.isfinite(labels), 0.0, np.nan)  # no change anywhere: an excerpt as without labels
    np.testing.assert_array_equal(
        excerpt_bins(recording, np.ones(40_000), single), excerpt_bins(recording, np.ones(40_000))
    )


def test_gaps_are_drawn_short_and_segments_keep_their_time():
    recording, _ = trials(gap=12.0, count=5)
    time = recording.time
    drawn = drawn_time(time)
    steps = np.diff(drawn)
    np.testing.assert_allclose(np.delete(steps, np.arange(1, 5) * 160 - 1), 0.025)
    assert 0.05 < steps.max() < 1.0  # still a gap
    ax = new_axes()[0]
    ax.plot(drawn, drawn)
    label_segments(ax, time)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0.0", "16.0", "32.0", "48.0", "64.0"]
    np.testing.assert_allclose(ax.get_xticks(), drawn[::160])
