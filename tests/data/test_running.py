import numpy as np
import pytest

from kalmanssl.data import running_bins, speed, traversals
from kalmanssl.errors import InputError

NAN = float("nan")


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ([0, 1, 5, 9, 10], [-1, 0, 0, 0, -1]),
        ([10, 9, 5, 1, 0], [-1, 0, 0, 0, -1]),
        ([0, 5, 0, 5, 10], [-1, -1, -1, 0, -1]),  # an excursion that turned back is none
        ([0, 0, 5, 10, 10, 5, 0], [-1, -1, 0, -1, -1, 1, -1]),
        ([5, 5, 10, 5], [-1, -1, -1, -1]),  # begins and ends inside the track
        ([0, 10, 0], [-1, -1, -1]),  # faster than the bins
        ([0, 5, NAN, 6, 10], [-1, 0, -1, 0, -1]),
        ([NAN, NAN], [-1, -1]),
    ],
)
def test_traversals_on_handmade_tracks(position, expected):
    np.testing.assert_array_equal(traversals(np.array(position, dtype=float), 0.5, 9.5), expected)


def test_traversals_take_one_column():
    position = np.array([[0.0], [5.0], [10.0]])
    np.testing.assert_array_equal(traversals(position, 0.5, 9.5), [-1, 0, -1])


def test_speed_of_a_circle():
    time = np.arange(0, 10, 0.01)
    position = 3 * np.stack([np.cos(time), np.sin(time)], axis=1)
    np.testing.assert_allclose(speed(position, time, smoothing=0)[2:-2], 3.0, rtol=1e-3)


def test_speed_does_not_leak_into_gaps():
    time = np.arange(100) * 0.1
    position = 2 * time
    position[40:50] = NAN
    found = speed(position, time, smoothing=0)
    assert np.isnan(found[40:50]).all()
    np.testing.assert_allclose(np.delete(found, np.s_[40:50]), 2.0)


def test_running_by_speed():
    time = np.arange(200) * 0.1
    position = np.where(time < 10, 0.0, time - 10)
    position[150] = NAN
    found = running_bins(position, time, min_speed=0.5)
    assert not found[:90].any()
    assert not found[150]
    assert np.delete(found, 150)[110:].all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: traversals(np.zeros((5, 2)), 0, 1), "one dimension"),
        (lambda: traversals(np.zeros(5), 1, 1), "lower_end=1 must be below upper_end=1"),
        (lambda: running_bins(np.zeros(5)), "exactly one of end_zones"),
        (lambda: running_bins(np.zeros(5), end_zones=(0, 1), min_speed=1), "exactly one of end_zones"),
        (lambda: running_bins(np.zeros(5), min_speed=1), "requires time"),
        (lambda: speed(np.zeros(5), np.zeros(4)), "position has 5 samples and time 4"),
        (lambda: speed(np.zeros(5), np.zeros(5)), "time must increase"),
        (lambda: speed(np.full(5, NAN), np.arange(5)), "known at 0 samples"),
    ],
)
def test_messages(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
