"""Calibration on held-out blocks, blocks of time, and calibration curves."""

import numpy as np
import pytest
from scipy.stats import norm

from kalmanssl.decoding import (
    Calibration,
    CalibrationSettings,
    HeldOutErrors,
    ScalePredictive,
    blocks_of_time,
    calibration_curve,
    rolling_origins,
)
from kalmanssl.decoding.calibration._conformal_map import _MARGIN, NOMINAL_LEVELS, conformal_map
from kalmanssl.errors import InputError

DEVIATES = np.linspace(-4, 4, 65)
TABLE = np.stack([norm.cdf(DEVIATES), DEVIATES])
LEVELS = np.array([0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975])


def gaussian(bins, sd=1.0):
    return ScalePredictive(np.zeros(bins), np.full(bins, sd), TABLE)


def held_out(error, lag=None, block=None, sd=1.0):
    bins = len(error)
    lag = np.linspace(0, 100, bins) if lag is None else lag
    block = np.arange(bins) // 20 if block is None else block
    return HeldOutErrors(gaussian(bins, sd), error, lag, block)


def coverage(calibration, error, lag=50.0, sd=1.0):
    """Coverage of the central 50, 80 and 95 % intervals."""
    quantiles = calibration.apply(gaussian(len(error), sd), np.broadcast_to(lag, error.shape), LEVELS)
    return np.mean((quantiles[:, [2, 1, 0]] <= error[:, None]) & (error[:, None] <= quantiles[:, [4, 5, 6]]), axis=0)


def test_contiguous_segments_are_blocks():
    time = np.concatenate([np.arange(10), 50 + np.arange(5), 90 + np.arange(3)]) * 0.1
    np.testing.assert_array_equal(blocks_of_time(time, min_blocks=3), [0] * 10 + [1] * 5 + [2] * 3)


def test_long_segments_are_cut_until_there_are_enough_blocks():
    time = np.concatenate([np.arange(900), 2000 + np.arange(100)]) * 0.1
    block = blocks_of_time(time, min_blocks=20)
    assert len(np.unique(block)) == 20
    assert np.bincount(block).max() <= 51
    assert block[899] != block[900]
    assert (np.diff(block) >= 0).all()


@pytest.mark.parametrize("bins", [0, 1])
def test_blocks_of_no_bin_and_of_one_bin(bins):
    np.testing.assert_array_equal(blocks_of_time(np.arange(bins, dtype=float)), np.zeros(bins))


def test_rolling_origins_are_at_borders_of_blocks():
    block = np.repeat(np.arange(40), 25)
    origins = rolling_origins(block, n_folds=4, first_fold_fraction=0.4)
    assert len(origins) == 4
    assert all(block[origin] != block[origin - 1] for origin in origins)
    assert origins[0] == pytest.approx(400, abs=25)
    assert origins[-1] < 900
    assert rolling_origins(np.zeros(100, dtype=int)) == []


@pytest.mark.parametrize("true_sd", [1.0, 0.4, 2.5])
def test_a_wrong_scale_is_corrected(true_sd):
    rng = np.random.default_rng(0)
    calibration = Calibration.fit([held_out(true_sd * rng.normal(size=4000))])
    found = coverage(calibration, true_sd * rng.normal(size=20_000))
    np.testing.assert_allclose(found, [0.5, 0.8, 0.95], atol=0.02)


def test_heavy_tails_are_corrected():
    rng = np.random.default_rng(1)
    calibration = Calibration.fit([held_out(rng.standard_t(2, size=4000))])
    np.testing.assert_allclose(coverage(calibration, rng.standard_t(2, size=20_000)), [0.5, 0.8, 0.95], atol=0.02)


def test_intervals_widen_with_lag_as_the_errors_do():
    rng = np.random.default_rng(2)
    lag = np.tile(np.linspace(0, 200, 200), 20)
    error = np.hypot(1.0, 0.02 * lag) * rng.normal(size=4000)
    calibration = Calibration.fit([held_out(error, lag)])
    assert calibration.rate == pytest.approx(0.02, rel=0.5)
    for when, sd in ((0.0, 1.0), (100.0, np.hypot(1, 2.0)), (200.0, np.hypot(1, 4.0))):
        found = coverage(calibration, sd * rng.normal(size=20_000), when)
        np.testing.assert_allclose(found, [0.5, 0.8, 0.95], atol=0.07)
    assert calibration.longest_lag == 200
    longest, beyond = (calibration.apply(gaussian(1), np.array([when]), LEVELS) for when in (200.0, 3000.0))
    np.testing.assert_array_equal(beyond, longest)


def test_intervals_do_not_widen_if_the_errors_do_not_grow():
    rng = np.random.default_rng(3)
    calibration = Calibration.fit([held_out(rng.normal(size=4000))])
    widths = [np.diff(calibration.apply(gaussian(1), np.array([lag]), LEVELS)[0, [0, 6]])[0] for lag in (0.0, 100.0)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)


def test_an_unknown_lag_counts_as_the_mean_lag_and_a_negative_one_as_zero():
    rng = np.random.default_rng(4)
    lag = np.tile(np.linspace(0, 200, 200), 20)
    calibration = Calibration.fit([held_out(np.hypot(1.0, 0.02 * lag) * rng.normal(size=4000), lag)])
    known, unknown, inside, now = (
        calibration.apply(gaussian(1), np.array([value]), LEVELS) for value in (lag.mean(), np.nan, -50.0, 0.0)
    )
    np.testing.assert_allclose(unknown, known)
    np.testing.assert_allclose(inside, now)


def test_quantiles_never_cross():
    rng = np.random.default_rng(5)
    calibration = Calibration.fit([held_out(rng.standard_t(1.5, size=200))])
    quantiles = calibration.apply(gaussian(3), np.array([0.0, 50.0, 500.0]), np.linspace(0.001, 0.999, 500))
    assert (np.diff(quantiles, axis=1) >= 0).all()


def test_correlated_errors_within_blocks_lower_the_effective_number():
    """The error is constant within a block, so there are as many independent errors as blocks."""
    rng = np.random.default_rng(6)
    independent = rng.normal(size=600)
    correlated = np.repeat(rng.normal(size=12), 50)
    block = np.repeat(np.arange(12), 50)
    many, few = (Calibration.fit([held_out(error, block=block)]) for error in (independent, correlated))
    assert many.effective > 200
    assert few.effective < 30


def test_the_identity_changes_nothing():
    quantiles = Calibration.identity().apply(gaussian(2), np.array([0.0, np.nan]), LEVELS)
    np.testing.assert_allclose(quantiles, gaussian(2).quantiles(LEVELS))


def test_circular_errors_go_the_short_way_around():
    rng = np.random.default_rng(7)
    center = rng.uniform(0, 360, size=3000)
    truth = (center + 20 * rng.normal(size=3000)) % 360
    predictive = ScalePredictive(center, np.full(3000, 10.0), TABLE, 360.0)
    calibration = Calibration.fit([HeldOutErrors(predictive, truth, np.zeros(3000), np.arange(3000) // 20)])
    low, high = calibration.apply(predictive, np.zeros(3000), np.array([0.1, 0.9])).T
    inside = (truth - low) % 360 <= high - low
    assert inside.mean() == pytest.approx(0.8, abs=0.03)
    assert np.median(high - low) == pytest.approx(2 * 1.2816 * 20, rel=0.1)


def test_a_saved_state_makes_the_same_calibration():
    calibration = Calibration.fit([held_out(np.random.default_rng(8).normal(size=300))])
    again = Calibration.from_state(calibration.to_state())
    np.testing.assert_array_equal(again.calibrated_levels, calibration.calibrated_levels)
    assert (again.floor, again.rate, again.lag) == (calibration.floor, calibration.rate, calibration.lag)


def test_levels_that_exceed_one_by_rounding_are_limited():
    state = Calibration.identity().to_state()
    state["calibrated_levels"][1, -1] += 1e-7
    assert Calibration.from_state(state).calibrated_levels.max() == 1


def test_the_curve_of_uniform_ranks_is_the_diagonal():
    curve = calibration_curve(np.append((np.arange(10_000) + 0.5) / 10_000, np.nan))
    np.testing.assert_allclose(curve["empirical"], curve["nominal"], atol=1e-3)


def test_the_error_of_the_curve_over_blocks_matches_its_variation_over_repeated_recordings():
    rng = np.random.default_rng(9)
    shares, errors = [], []
    for _ in range(300):
        pit = norm.cdf(0.8 * np.repeat(rng.normal(size=40), 10) + 0.6 * rng.normal(size=400))
        curve = calibration_curve(pit, np.array([0.8]), np.repeat(np.arange(40), 10))
        shares.append(curve["empirical"][0])
        errors.append(curve["error"][0])
    assert np.mean(errors) == pytest.approx(np.std(shares), rel=0.15)
    assert calibration_curve(pit, np.array([0.8]))["error"][0] < 0.75 * np.mean(errors)


def test_the_curve_without_known_ranks_is_nan():
    assert np.isnan(calibration_curve(np.full(3, np.nan))["empirical"]).all()


def test_the_errors_of_all_folds_are_pooled():
    rng = np.random.default_rng(11)
    folds = [held_out(scale * rng.normal(size=4000)) for scale in (0.7, 2.0)]
    settings = CalibrationSettings(max_bins=100_000)
    pooled = Calibration.fit(folds, settings)
    error, lag = np.concatenate([fold.truth for fold in folds]), np.concatenate([fold.lag for fold in folds])
    together = Calibration.fit([held_out(error, lag, np.concatenate([fold.block for fold in folds]))], settings)
    for name, value in together.to_state().items():
        np.testing.assert_allclose(getattr(pooled, name), value)
    low, high = pooled.apply(gaussian(8000), lag, np.array([0.1, 0.9])).T
    inside = (low <= error) & (error <= high)
    assert inside.mean() == pytest.approx(0.8, abs=0.01)
    assert inside[:4000].mean() > 0.9 > 0.7 > inside[4000:].mean()


@pytest.mark.parametrize(("n_blocks", "size", "correlation"), [(20, 50, 0.3), (12, 50, 0.05), (300, 1, 0.0)])
def test_intervals_cover_the_nominal_level_on_average_plus_the_margin(n_blocks, size, correlation):
    """Scores are uniform, so the coverage of a level is the level itself, and correlated within blocks."""
    rng = np.random.default_rng(12)
    block, found, margin = np.repeat(np.arange(n_blocks), size), [], []
    for _ in range(600):
        common, own = np.repeat(rng.normal(size=n_blocks), size), rng.normal(size=len(block))
        central = norm.cdf(np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own)
        levels, effective = conformal_map(central, block)
        found.append(levels)
        margin.append(_MARGIN * np.sqrt(NOMINAL_LEVELS * (1 - NOMINAL_LEVELS) / effective))
    excess = np.mean(found, axis=0) - NOMINAL_LEVELS - np.mean(margin, axis=0)
    inner = (NOMINAL_LEVELS >= 0.2) & (NOMINAL_LEVELS <= 0.95)
    np.testing.assert_allclose(excess[inner], 0, atol=0.008)


def test_a_weight_counts_as_repeated_scores():
    rng = np.random.default_rng(14)
    central, block = rng.random(2000), np.repeat(np.arange(20), 100)
    weight = np.where(block % 2 == 0, 2, 1)
    central[block % 2 == 0] **= 2
    levels, effective = conformal_map(central, block, weight=0.5 * weight)
    repeated, number = conformal_map(np.repeat(central, weight), np.repeat(block, weight))
    np.testing.assert_allclose(levels, repeated, atol=2e-3)
    assert effective == pytest.approx(number, rel=1e-6)
    assert levels[NOMINAL_LEVELS == 0.5] < conformal_map(central, block)[0][NOMINAL_LEVELS == 0.5] - 0.02


def test_the_maps_use_the_weights_of_folds():
    rng = np.random.default_rng(15)
    folds = [held_out(scale * rng.normal(size=4000)) for scale in (0.7, 2.0)]
    folds[0].fold_weight = 1e-6
    calibration = Calibration.fit(folds, CalibrationSettings(noise_grid=(0.0,), refinement_grid=(1.0,)))
    np.testing.assert_allclose(coverage(calibration, 2 * rng.normal(size=20_000)), [0.5, 0.8, 0.95], atol=0.03)


def test_the_grid_of_the_settings_bounds_the_added_noise():
    errors = [held_out(2.5 * np.random.default_rng(13).normal(size=2000))]
    assert Calibration.fit(errors).floor > 1
    without = Calibration.fit(errors, settings=CalibrationSettings(noise_grid=(0.0,), refinement_grid=(1.0,)))
    assert (without.floor, without.rate) == (0.0, 0.0)
    np.testing.assert_allclose(coverage(without, errors[0].truth), [0.5, 0.8, 0.95], atol=0.02)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("min_blocks", 1, "min_blocks must be a whole number, at least 2"),
        ("first_fold_fraction", 1.0, r"first_fold_fraction must be inside \(0, 1\)"),
        ("noise_grid", (-1.0,), "noise_grid must be finite and not negative"),
        ("refinement_grid", (), "refinement_grid must be at least one number"),
    ],
)
def test_settings_out_of_range_raise_an_error_that_names_them(setting, value, message):
    with pytest.raises(InputError, match=message) as caught:
        CalibrationSettings(**{setting: value})
    assert caught.value.parameter == setting
