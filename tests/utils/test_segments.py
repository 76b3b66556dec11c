"""Segments between gaps in time."""

from __future__ import annotations

import numpy as np
import pytest

from kalmanssl.utils.segments import break_at_gaps, gap_starts, in_intervals, segment_index, segment_slices


def test_steps_of_more_than_one_and_a_half_times_the_median_are_gaps() -> None:
    time = np.array([0.0, 1.0, 2.0, 3.4, 4.4, 6.0, 7.0])  # steps 1, 1, 1.4, 1, 1.6, 1
    np.testing.assert_array_equal(gap_starts(time), [5])
    assert segment_slices(time) == [slice(0, 5), slice(5, 7)]
    np.testing.assert_array_equal(segment_index(time), [0, 0, 0, 0, 0, 1, 1])


def test_expected_step_replaces_the_median() -> None:
    time = np.arange(6) * 2.0
    assert len(gap_starts(time)) == 0
    assert segment_slices(time, step=1.0) == [slice(i, i + 1) for i in range(6)]


@pytest.mark.parametrize("n", [0, 1])
def test_empty_and_single_times_have_no_gap(n: int) -> None:
    time = np.zeros(n)
    assert len(gap_starts(time)) == 0
    assert segment_slices(time) == [slice(0, n)]
    assert segment_index(time).tolist() == [0] * n


def test_index_and_slices_agree() -> None:
    time = np.cumsum(np.random.default_rng(0).choice([1.0, 1.1, 3.0], p=[0.6, 0.3, 0.1], size=500))
    index = segment_index(time)
    for number, segment in enumerate(segment_slices(time)):
        assert (index[segment] == number).all()
    assert index[-1] == len(segment_slices(time)) - 1


def test_lines_are_broken_at_gaps() -> None:
    time = np.array([0.0, 1.0, 2.0, 10.0, 11.0])
    drawn, x, xy = break_at_gaps(time, time, np.stack([time, -time], axis=1))
    np.testing.assert_array_equal(x, [0, 1, 2, np.nan, 10, 11])
    np.testing.assert_array_equal(xy[:, 1], [0, -1, -2, np.nan, -10, -11])
    np.testing.assert_array_equal(drawn, [0, 1, 2, 10, 10, 11])


def test_times_are_inside_intervals_of_any_order_that_may_overlap() -> None:
    intervals = np.array([[5.0, 6.0], [0.0, 4.0], [1.0, 2.0]])
    inside = in_intervals(intervals, np.array([-1.0, 0.0, 1.5, 3.0, 4.0, 5.0, 5.9, 6.0]))
    np.testing.assert_array_equal(inside, [False, True, True, True, False, True, True, False])
    assert not in_intervals(np.empty((0, 2)), np.arange(3.0)).any()
