import numpy as np
import pytest

from kalmanssl.data import count_laps, lap_length, running_bins, running_threshold, speed, traversals
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


def test_speed_is_computed_within_segments_without_gaps():
    time = np.concatenate([np.arange(50) * 0.1, 7.0 + np.arange(50) * 0.1, [20.0]])
    position = np.concatenate([time[:50], 100 - 3 * time[50:100], [0.0]])
    found = speed(position, time, smoothing=0)
    np.testing.assert_allclose(found[:50], 1.0)
    np.testing.assert_allclose(found[50:100], 3.0)
    assert np.isnan(found[100])  # a single sample has no speed


def test_speed_of_an_angle_goes_the_short_way_around():
    time = np.arange(400) * 0.025
    angle = (2.0 * time) % (2 * np.pi)
    np.testing.assert_allclose(speed(angle, time, smoothing=0, period=2 * np.pi), 2.0)
    assert running_bins(angle, time, min_speed=1.9, period=2 * np.pi)[20:-20].all()
    assert not running_bins(angle, time, min_speed=2.1, period=2 * np.pi)[20:-20].any()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_threshold_separates_running_from_rest(share):
    rng = np.random.default_rng(0)
    time = np.arange(20_000) * 0.025
    runs = (np.arange(20_000) // 100) % 10 < 10 * share
    velocity = np.where(runs, 40 * np.exp(0.3 * rng.normal(size=20_000)), 0.5 * rng.normal(size=20_000))
    position = np.cumsum(velocity) * 0.025
    threshold = running_threshold(position, time)
    assert 2 < threshold < 30
    found = speed(position, time) > threshold
    inside = np.convolve(runs, np.ones(41), mode="same") % 41 == 0  # away from the borders of runs
    assert np.mean(found[inside] == runs[inside]) > 0.99


def test_threshold_scales_with_the_unit_and_ignores_noise_of_the_tracking():
    rng = np.random.default_rng(0)
    time = np.arange(8000) * 0.025
    position = np.cumsum(np.where((np.arange(8000) // 400) % 2, 40.0, 0.0)) * 0.025
    quiet, noisy = (running_threshold(position + sd * rng.normal(size=8000), time) for sd in (1e-6, 1e-2))
    assert noisy == pytest.approx(quiet, rel=0.2)
    assert running_threshold(100 * position, time) == pytest.approx(100 * running_threshold(position, time))


def test_threshold_of_a_behavior_that_does_not_move_is_infinite():
    assert running_threshold(np.zeros(100), np.arange(100) * 0.025) == np.inf


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


def test_a_jump_back_after_each_lap_is_no_movement():
    time = np.arange(0.0, 120.0, 0.05)
    belt = (10.0 * time) % 180.0  # five laps at 10 cm/s
    belt[-400:] = belt[-400]  # then it stands
    found = speed(belt, time)
    np.testing.assert_allclose(found[20:-420], 10.0, rtol=0.12)
    assert 0 < running_threshold(belt, time) < 10.0
    assert count_laps(belt) == 5
    assert lap_length(belt) == pytest.approx(180.0, abs=0.51)


@pytest.mark.parametrize(
    "position",
    [
        np.tile(np.r_[np.linspace(0, 100, 50), np.linspace(100, 0, 50)], 5),  # back and forth
        np.where(np.arange(500) % 100 == 7, 100.0, np.linspace(0, 10, 500)),  # tracking errors
        np.tile(np.linspace(0, 100, 50), 2),  # one jump
        np.zeros(50),
        np.full(50, np.nan),
        np.tile(np.linspace(0, 100, 50), 5)[:, None] * np.ones(2),
    ],
)
def test_other_positions_have_no_laps(position):
    assert count_laps(position) == 0
    assert lap_length(position) is None


def test_jumps_over_gaps_in_time_are_no_laps():
    position = np.tile(np.linspace(0, 100, 50), 5)
    is_next = np.arange(1, 250) % 50 != 0
    assert count_laps(position) == 4
    assert count_laps(position, is_next) == 0


def test_laps_of_any_type_of_numbers():
    belt = (10.0 * np.arange(0.0, 120.0, 0.05)) % 180.0
    for position in ((belt - 90).astype(np.int8), (300 * belt - 27000).astype(np.int16), belt[:, None], belt.tolist()):
        values = np.asarray(position, dtype=float)
        assert count_laps(position) == 6
        assert lap_length(position) == np.ptp(values)
    assert count_laps(np.float64(3)) == 0
    assert count_laps(belt, np.ones(len(belt) - 1, dtype=int)) == 6
    with pytest.raises(InputError, match="is_next has shape") as error:
        count_laps(belt, np.ones(3))
    assert error.value.parameter == "is_next"
