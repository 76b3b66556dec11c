"""Drift of the behavior along the direction of motion."""

from dataclasses import replace

import numpy as np
import pytest

from kalmanssl import PositionDecoder
from kalmanssl.decoding import (
    Drift,
    DriftErrors,
    DriftSettings,
    EnsembleReadoutSettings,
    MLPReadoutSettings,
    drift_rate,
)
from kalmanssl.decoding._drift import motion_direction, resolution
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


def errors(rate: float, seed: int = 0, noise: float = 0.02, n_laps: int = 30) -> DriftErrors:
    """Errors of a decoder that knows the encoded position, on laps after the end of a fit at time 0."""
    *_, time, direction = laps(rate, n_laps=n_laps, seed=seed)
    rng = np.random.default_rng(seed)
    per_lap = noise * rng.standard_normal(n_laps).repeat(len(time) // n_laps)
    error = rate * direction * time + per_lap + noise * rng.standard_normal(len(time))
    return DriftErrors(error[:, None], 1.0 * direction[:, None], time, np.arange(len(time)) // 60)


@pytest.mark.parametrize("rate", [-3e-4, 2e-4])
def test_the_rate_is_recovered(rate):
    assert drift_rate([errors(rate)]) == pytest.approx(rate, abs=3e-5)
    both = [errors(rate, seed) for seed in (1, 2)]
    assert drift_rate(both) == pytest.approx(rate, abs=3e-5)


def test_the_rate_is_recovered_despite_outliers():
    data = errors(-3e-4)
    wrong = np.random.default_rng(1).random(len(data.error)) < 0.05
    data.error[wrong] += np.random.default_rng(2).choice([-1.0, 1.0], (wrong.sum(), 1))
    assert drift_rate([data]) == pytest.approx(-3e-4, abs=1e-4)


def test_without_drift_a_rate_is_rarely_found():
    found = [drift_rate([errors(0.0, seed)]) for seed in range(200)]
    assert np.mean(np.array(found) != 0) < 0.12  # two standard errors over 30 laps: 5 % or a little more
    assert np.abs(found).max() < 1e-4


def test_a_rate_is_reduced_by_its_uncertainty():
    data = errors(-3e-4, noise=0.1)
    displacement = data.displacement
    raw = float((data.error * displacement).sum() / (displacement**2).sum())
    reduced = drift_rate([data], settings=DriftSettings(huber_threshold=1e6, min_standard_errors=1e-6))
    weighted = displacement * (data.error - raw * displacement)
    error = np.sqrt((np.bincount(data.block, weighted[:, 0]) ** 2).sum()) / (displacement**2).sum()
    assert reduced == pytest.approx(raw * (1 - (error / raw) ** 2))
    unclear = DriftSettings(huber_threshold=1e6, min_standard_errors=float(abs(raw) / error * 1.01))
    assert drift_rate([data], settings=unclear) == 0


def test_there_is_no_rate_of_too_few_blocks_or_no_movement():
    data = errors(-3e-4, n_laps=4)
    assert drift_rate([data]) == 0
    empty = DriftErrors(np.zeros((0, 1)), np.zeros((0, 1)), np.zeros(0), np.zeros(0, dtype=int))
    assert drift_rate([empty]) == 0
    many = np.arange(len(data.error))
    assert drift_rate([DriftErrors(data.error, 0 * data.direction, data.age, many)]) == 0
    assert drift_rate([DriftErrors(data.error, data.direction, 0 * data.age + 1, many)]) == 0


def test_a_rate_must_be_that_of_every_fold():
    along, against = errors(-3e-4, 1, n_laps=60), errors(1e-4, 2, n_laps=30)
    assert drift_rate([along]) < 0
    assert drift_rate([along, along]) < 0
    assert drift_rate([along, against]) == 0
    assert drift_rate([along, errors(0.0, 3, noise=0.5)]) == 0


def test_a_lag_that_does_not_grow_is_no_drift():
    found = []
    for seed in range(20):
        data = errors(0.0, seed)
        found.append(drift_rate([replace(data, error=data.error - 0.1 * data.direction)]))
    assert np.mean(np.array(found) == 0) > 0.8
    data = errors(-3e-4)
    both = drift_rate([replace(data, error=data.error - 0.05 * data.direction)])
    assert both == pytest.approx(
        -3e-4 - 0.05 / 400, rel=0.15
    )  # the lag is counted, too, at two thirds of the longest age


def test_a_drift_below_the_resolution_of_the_behavior_is_not_corrected():
    data = errors(-3e-4)
    typical = 3e-4 * np.median(data.age)
    assert drift_rate([data], resolution=1.8 * typical) != 0
    assert drift_rate([data], resolution=2.2 * typical) == 0


def test_the_displacement_follows_the_direction_and_ends_at_the_longest_age():
    latents, position, time, direction = laps(-3e-4)
    drift = Drift.along_motion(latents, position, time, np.ones(len(time), dtype=bool), LINE).with_rate(-3e-4, 400.0)
    moved = drift.displacement(latents, time)[:, 0]
    expected = -3e-4 * direction * np.minimum(time, 400.0)
    assert np.median(np.abs(moved - expected)) < 0.01  # larger at the ends, where laps of both directions are similar
    np.testing.assert_array_equal(drift.displacement(latents, np.full(len(time), -1.0)), 0.0)
    far, farther = (drift.displacement(latents, np.full(len(time), age)) for age in (400.0, 4000.0))
    np.testing.assert_array_equal(far, farther)


@pytest.mark.filterwarnings("ignore:calibrated on .* blocks of time:UserWarning")
@pytest.mark.parametrize("regressor", ["linear", "ensemble"])
def test_a_decoder_corrects_a_clear_drift_and_no_other(regressor):
    """Fields that shift by 0.1 within the test part, and fields that do not."""
    readout = None if regressor == "linear" else EnsembleReadoutSettings(MLPReadoutSettings(n_steps=150, n_networks=2))
    for rate in (-5e-4, 0.0):
        latents, position, time, _ = laps(rate, n_laps=40)
        known = time < 600
        errors = []
        for settings in (DriftSettings(), DriftSettings(min_standard_errors=1e9)):
            decoder = PositionDecoder(
                regressor=regressor, readout_settings=readout, drift_settings=settings, random_state=0
            ).fit(latents[known], position[known], time=time[known])
            decoded = decoder.predict(latents[~known], time=time[~known])
            errors.append(np.abs(decoded.mean - position[~known]).mean())
        if rate:
            # Not more: these latents drift within the fitted part, too, where nothing is corrected.
            assert errors[0] < 0.85 * errors[1]
        else:
            assert errors[0] == errors[1]


def test_circular_behavior_goes_the_short_way_around():
    _, position, time, _ = laps(0.0, period=2.0)
    direction = motion_direction(position, time, (2.0,))
    assert (direction == 1).all()
    shifted = (position + 0.7) % 2.0
    np.testing.assert_array_equal(motion_direction(shifted, time, (2.0,)), direction)


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


def test_bins_at_rest_are_not_displaced():
    """At rest the latents lie elsewhere, and the decoded behavior is not to be shifted."""
    latents, position, time, direction = laps(-3e-4)
    rng = np.random.default_rng(2)
    order = np.argsort(np.concatenate([time, time + 5.0]), kind="stable")
    rest_latents = np.concatenate([0.02 * rng.standard_normal(latents.shape), np.ones((len(time), 3))], axis=1)
    running_latents = np.concatenate([latents, np.zeros((len(time), 3))], axis=1)
    at_rest = np.concatenate([running_latents, rest_latents])[order]
    behavior = np.concatenate([position, rng.uniform(size=position.shape)])[order]
    times, moving = np.concatenate([time, time + 5.0])[order], (np.arange(2 * len(time)) < len(time))[order]
    drift = Drift.along_motion(at_rest, behavior, times, moving, LINE).with_rate(-3e-4, 1e4)
    moved = drift.displacement(at_rest, np.full(len(times), 400.0))[:, 0]
    assert np.abs(moved[~moving]).mean() < 0.1 * np.abs(moved[moving]).mean()
    assert np.corrcoef(moved[moving], -direction)[0, 1] > 0.8


def test_a_saved_state_makes_the_same_drift():
    latents, position, time, _ = laps(-3e-4)
    drift = Drift.along_motion(latents, position, time, np.ones(len(time), dtype=bool), LINE).with_rate(-3e-4, 300.0)
    again = Drift.from_state(drift.to_state())
    np.testing.assert_array_equal(again.displacement(latents, time), drift.displacement(latents, time))
    earlier = {name: value for name, value in drift.to_state().items() if name != "longest_age"}
    assert Drift.from_state(earlier).longest_age == np.inf
    assert (Drift.zero(50, 1).displacement(latents, time) == 0).all()


def test_the_direction_is_that_over_the_half_width():
    _, position, time, _ = laps(-3e-4)
    assert set(np.unique(motion_direction(position, time, LINE, half_width=5 * STEP))) == {-1.0, 1.0}


def test_settings_out_of_range_raise_an_error_that_names_them():
    with pytest.raises(InputError, match="huber_threshold must be positive") as caught:
        DriftSettings(huber_threshold=0.0)
    assert caught.value.parameter == "huber_threshold"


@pytest.mark.parametrize(("step", "expected"), [(0.04, 0.04), (1e-3, 1e-3)])
def test_the_resolution_is_that_of_the_coarsest_dimension(step, expected):
    rng = np.random.default_rng(0)
    behavior = np.stack([step * np.round(rng.normal(size=5000) / step), 1e-6 * rng.normal(size=5000)], axis=1)
    assert resolution(behavior) == pytest.approx(expected, rel=1e-6)
    assert resolution(np.zeros((5, 1))) == 0
