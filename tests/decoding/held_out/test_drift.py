"""Drift of the behavior along the direction of motion."""

import numpy as np
import pytest

from kalmanssl import PositionDecoder
from kalmanssl.decoding import (
    Drift,
    DriftSettings,
    EnsembleReadoutSettings,
    MLPReadoutSettings,
    TrackedBins,
    TrainTestBlock,
    improves_held_out,
)
from kalmanssl.decoding.held_out._drift import _nearest_apart, motion_direction
from kalmanssl.errors import InputError

STEP = 0.025
LINE = (None,)


def laps(rate: float, n_laps: int = 30, seed: int = 0, period: float | None = None):
    """Laps over direction-selective fields that shift by `rate` along the direction of motion."""
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
    # The position that the latents encode: y_i - y_j = rate d (t_i - t_j) where latents are equal.
    encoded = position - rate * direction * time
    centers = np.linspace(-1, 2, 25)
    features = [np.exp(-((encoded[:, None] - centers) ** 2) / 0.02) * (direction[:, None] == side) for side in (1, -1)]
    latents = np.concatenate(features, 1) + 0.02 * rng.standard_normal((len(encoded), 50))
    return latents, position[:, None], time, direction


def fit(latents, position, time, periods, settings=None):
    """Fit to bins that are all in movement."""
    return Drift.fit(latents, position, time, np.ones(len(time), dtype=bool), periods, settings)


@pytest.mark.parametrize("rate", [-3e-4, 0.0, 2e-4])
def test_the_rate_is_recovered(rate):
    latents, position, time, _ = laps(rate)
    assert fit(latents, position, time, LINE).rate == pytest.approx(rate, abs=3e-5)


def test_the_rate_is_recovered_despite_outliers():
    latents, position, time, _ = laps(-3e-4)
    wrong = np.random.default_rng(1).random(len(position)) < 0.05
    position[wrong] = 1 - position[wrong]
    assert fit(latents, position, time, LINE).rate == pytest.approx(-3e-4, abs=1e-4)


def test_the_displacement_matches_the_drift_on_later_time():
    latents, position, time, direction = laps(-3e-4)
    known = time < 400
    drift = fit(latents[known], position[known], time[known], LINE)
    moved = drift.displacement(latents, time - time[known][-1])[:, 0]
    expected = -3e-4 * direction * (time - time[known][-1])
    assert np.median(np.abs(moved - expected)) < 0.01  # larger at the ends, where laps of both directions are similar
    assert np.abs(moved[-60:]).mean() > 0.04


def block(rate: float) -> TrainTestBlock:
    latents, position, time, _ = laps(rate)
    known = time < 360
    return TrainTestBlock(*(TrackedBins(latents[part], position[part], time[part]) for part in (known, ~known)))


def test_the_drift_improves_held_out_blocks_only_if_there_is_drift():
    assert improves_held_out([block(-3e-4)], LINE)
    assert not improves_held_out([block(0.0)], LINE)
    assert not improves_held_out([], LINE)


def test_a_drift_below_the_resolution_of_the_behavior_is_not_used():
    rounded = block(-3e-4)
    for resolution, is_used in ((0.02, True), (0.5, False)):
        parts = (part._replace(behavior=resolution * np.round(part.behavior / resolution)) for part in rounded)
        assert improves_held_out([TrainTestBlock(*parts)], LINE) is is_used


@pytest.mark.filterwarnings("ignore:calibrated on .* blocks of time:UserWarning")
@pytest.mark.parametrize("regressor", ["linear", "ensemble"])
def test_a_decoder_corrects_a_clear_drift_and_no_other(regressor):
    """Fields that shift by 0.1 within the test part, and fields that do not."""
    readout = None if regressor == "linear" else EnsembleReadoutSettings(MLPReadoutSettings(n_steps=150, n_networks=2))
    for rate in (-5e-4, 0.0):
        latents, position, time, _ = laps(rate, n_laps=40)
        known = time < 600
        errors = []
        for settings in (DriftSettings(), DriftSettings(max_error_ratio=1e-9)):
            decoder = PositionDecoder(
                regressor=regressor, readout_settings=readout, drift_settings=settings, random_state=0
            ).fit(latents[known], position[known], time=time[known])
            decoded = decoder.predict(latents[~known], time=time[~known])
            errors.append(np.abs(decoded.mean - position[~known]).mean())
        if rate:
            assert errors[0] < 0.8 * errors[1]
        else:
            assert errors[0] == errors[1]


def test_a_drift_that_reverses_does_not_improve_held_out_blocks():
    latents, position, time, direction = laps(-3e-4)
    later = time >= 360
    known = ~later
    position = position.copy()
    position[later, 0] += 2 * 3e-4 * direction[later] * (time[later] - 360)  # from here on it goes the other way
    parts = (TrackedBins(latents[part], position[part], time[part]) for part in (known, later))
    assert not improves_held_out([TrainTestBlock(*parts)], LINE)


def test_circular_behavior_goes_the_short_way_around():
    latents, position, time, _ = laps(0.0, period=2.0)
    direction = motion_direction(position, time, (2.0,))
    assert (direction == 1).all()
    shifted = (position + 0.7) % 2.0
    np.testing.assert_array_equal(motion_direction(shifted, time, (2.0,)), direction)
    assert fit(latents, shifted, time, (2.0,)).rate == pytest.approx(0.0, abs=3e-5)


def test_the_direction_does_not_cross_a_gap_and_is_zero_at_rest():
    position = np.concatenate([np.zeros(50), np.linspace(0, 1, 50)])[:, None]
    time = np.concatenate([STEP * np.arange(50), 100 + STEP * np.arange(50)])
    direction = motion_direction(position, time, LINE)
    assert (direction[:50] == 0).all()
    assert (direction[50:] == 1).all()


def test_the_direction_in_two_dimensions_is_a_unit_vector():
    angle = 0.7
    position = np.outer(np.arange(100) * 0.01, [np.cos(angle), np.sin(angle)])
    direction = motion_direction(position, STEP * np.arange(100), (None, None))
    np.testing.assert_allclose(direction, np.tile([np.cos(angle), np.sin(angle)], (100, 1)))


def test_bins_at_rest_do_not_affect_the_rate_and_are_not_displaced():
    """At rest the latents lie elsewhere, and the decoded behavior is not to be shifted."""
    latents, position, time, direction = laps(-3e-4)
    rng = np.random.default_rng(2)
    order = np.argsort(np.concatenate([time, time + 5.0]), kind="stable")
    rest_latents = np.concatenate([0.02 * rng.standard_normal(latents.shape), np.ones((len(time), 3))], axis=1)
    running_latents = np.concatenate([latents, np.zeros((len(time), 3))], axis=1)
    at_rest = np.concatenate([running_latents, rest_latents])[order]
    behavior = np.concatenate([position, rng.uniform(size=position.shape)])[order]
    times, moving = np.concatenate([time, time + 5.0])[order], (np.arange(2 * len(time)) < len(time))[order]
    drift = Drift.fit(at_rest, behavior, times, moving, LINE)
    assert drift.rate == pytest.approx(-3e-4, abs=3e-5)
    moved = drift.displacement(at_rest, np.full(len(times), 400.0))[:, 0]
    assert np.abs(moved[~moving]).mean() < 0.1 * np.abs(moved[moving]).mean()
    assert np.corrcoef(moved[moving], -direction)[0, 1] > 0.8


def test_a_saved_state_makes_the_same_drift():
    latents, position, time, _ = laps(-3e-4)
    drift = fit(latents, position, time, LINE)
    again = Drift.from_state(drift.to_state())
    age = time - time[-1]
    np.testing.assert_array_equal(again.displacement(latents, age), drift.displacement(latents, age))
    assert (Drift.zero(50, 1).displacement(latents, age) == 0).all()


def test_settings_change_the_fit():
    latents, position, time, _ = laps(-3e-4)
    too_far = DriftSettings(min_time_apart=1e4)  # no pair of bins is that far apart
    assert fit(latents, position, time, LINE, too_far).rate == 0
    demanding = DriftSettings(max_error_ratio=0.01)
    assert not improves_held_out([block(-3e-4)], LINE, demanding)
    rest = motion_direction(position, time, LINE, half_width=5 * STEP)
    assert set(np.unique(rest)) == {-1.0, 1.0}


def test_settings_out_of_range_raise_an_error_that_names_them():
    with pytest.raises(InputError, match="huber_threshold must be positive") as caught:
        DriftSettings(huber_threshold=0.0)
    assert caught.value.parameter == "huber_threshold"


def test_neighbors_far_apart_in_time_equal_those_of_all_pairs():
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(300, 6)).astype(np.float32)
    time = np.cumsum(rng.uniform(0.1, 0.5, size=300))
    near, is_apart = _nearest_apart(
        latents, time, np.zeros(300, dtype=int), DriftSettings(n_neighbors=10, min_time_apart=20.0)
    )
    cosine = np.where(np.abs(time[:, None] - time) > 20.0, latents @ latents.T, -np.inf)
    expected = -np.sort(-cosine, axis=1)[:, :10]
    np.testing.assert_allclose(-np.sort(-np.take_along_axis(cosine, near, axis=1)), expected, rtol=1e-5)
    assert is_apart.all()


def test_neighbors_that_are_not_far_enough_in_time_are_marked():
    latents, time = np.eye(4, dtype=np.float32), np.array([0.0, 1.0, 2.0, 30.0])
    settings = DriftSettings(n_neighbors=3, min_time_apart=5.0)
    near, is_apart = _nearest_apart(latents, time, np.zeros(4, dtype=int), settings)
    assert set(near[0][is_apart[0]]) == {3}
    assert set(near[3][is_apart[3]]) == {0, 1, 2}
    near, is_apart = _nearest_apart(latents, time, np.array([0, 1, 1, 1]), settings)  # two sessions
    assert not is_apart[0].any()
    assert set(near[3][is_apart[3]]) == {1, 2}


def test_latents_of_one_dimension_have_no_drift():
    rng = np.random.default_rng(0)
    position = np.cumsum(rng.normal(size=(500, 1)), axis=0)
    drift = Drift.fit(position + rng.normal(size=(500, 1)), position, STEP * np.arange(500), np.ones(500, bool), LINE)
    assert drift.rate == 0
