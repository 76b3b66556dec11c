"""Drift of the code along the direction of motion."""

import numpy as np
import pytest

from kalmanssl.decoding import Drift, TrainTestBlock
from kalmanssl.decoding._drift import improves_held_out, motion_direction

STEP = 0.025
LINE = (None,)


def laps(rate: float, n_laps: int = 30, seed: int = 0, period: float | None = None):
    """Runs back and forth past direction-selective fields that move by `rate` along the direction of motion."""
    rng = np.random.default_rng(seed)
    bins = 60
    position, time, direction = [], [], []
    for lap in range(n_laps):
        along = np.linspace(0, 1, bins)
        sign = 1 if period else (-1) ** lap
        position.append(along * (period or 1.0) if sign > 0 else 1 - along)
        time.append(20.0 * lap + STEP * np.arange(bins))
        direction.append(np.full(bins, sign))
    position, time, direction = (np.concatenate(parts) for parts in (position, time, direction))
    # What the latents stand for: y_i - y_j = rate d (t_i - t_j) for like latents.
    shown = position - rate * direction * time
    centers = np.linspace(-1, 2, 25)
    features = [np.exp(-((shown[:, None] - centers) ** 2) / 0.02) * (direction[:, None] == side) for side in (1, -1)]
    latents = np.concatenate(features, 1) + 0.02 * rng.standard_normal((len(shown), 50))
    return latents, position[:, None], time, direction


@pytest.mark.parametrize("rate", [-3e-4, 0.0, 2e-4])
def test_rate_is_found(rate):
    latents, position, time, _ = laps(rate)
    assert Drift.learn(latents, position, time, LINE).rate == pytest.approx(rate, abs=3e-5)


def test_rate_is_found_with_outliers():
    latents, position, time, _ = laps(-3e-4)
    wrong = np.random.default_rng(1).random(len(position)) < 0.05
    position[wrong] = 1 - position[wrong]
    assert Drift.learn(latents, position, time, LINE).rate == pytest.approx(-3e-4, abs=1e-4)


def test_displacement_undoes_the_drift():
    latents, position, time, direction = laps(-3e-4)
    known = time < 400
    drift = Drift.learn(latents[known], position[known], time[known], LINE)
    moved = drift.displacement(latents, time - time[known][-1])[:, 0]
    expected = -3e-4 * direction * (time - time[known][-1])
    assert np.median(np.abs(moved - expected)) < 0.01  # more where laps of both directions look alike, at the ends
    assert np.abs(moved[-60:]).mean() > 0.04


def block(rate: float) -> TrainTestBlock:
    latents, position, time, _ = laps(rate)
    known = time < 360
    return TrainTestBlock(
        (latents[known], position[known], time[known]), (latents[~known], position[~known], time[~known])
    )


def test_drift_is_worthwhile_only_where_there_is_some():
    assert improves_held_out([block(-3e-4)], LINE)
    assert not improves_held_out([block(0.0)], LINE)
    assert not improves_held_out([], LINE)


def test_a_drift_that_turns_round_is_not_carried_on():
    latents, position, time, direction = laps(-3e-4)
    back = time >= 360
    known = ~back
    position = position.copy()
    position[back, 0] += 2 * 3e-4 * direction[back] * (time[back] - 360)  # from here on it moves the other way
    turned = TrainTestBlock((latents[known], position[known], time[known]), (latents[back], position[back], time[back]))
    assert not improves_held_out([turned], LINE)


def test_circular_behavior_is_wrapped():
    latents, position, time, _ = laps(0.0, period=2.0)
    direction = motion_direction(position, time, (2.0,))
    assert (direction == 1).all()
    folded = (position + 0.7) % 2.0
    np.testing.assert_array_equal(motion_direction(folded, time, (2.0,)), direction)
    assert Drift.learn(latents, folded, time, (2.0,)).rate == pytest.approx(0.0, abs=3e-5)


def test_direction_is_never_taken_over_a_gap_and_zero_at_rest():
    position = np.concatenate([np.zeros(50), np.linspace(0, 1, 50)])[:, None]
    time = np.concatenate([STEP * np.arange(50), 100 + STEP * np.arange(50)])
    direction = motion_direction(position, time, LINE)
    assert (direction[:50] == 0).all()
    assert (direction[50:] == 1).all()


def test_two_dimensions_move_along_a_unit_vector():
    angle = 0.7
    position = np.outer(np.arange(100) * 0.01, [np.cos(angle), np.sin(angle)])
    direction = motion_direction(position, STEP * np.arange(100), (None, None))
    np.testing.assert_allclose(direction, np.tile([np.cos(angle), np.sin(angle)], (100, 1)))


def test_state_makes_it_again():
    latents, position, time, _ = laps(-3e-4)
    drift = Drift.learn(latents, position, time, LINE)
    again = Drift(**drift.state())
    age = time - time[-1]
    np.testing.assert_array_equal(again.displacement(latents, age), drift.displacement(latents, age))
    assert (Drift.none(50, 1).displacement(latents, age) == 0).all()
