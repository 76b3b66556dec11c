import numpy as np
import pytest
from scipy.stats import norm

from kalmanssl.decoding import (
    Calibration,
    HeldOutErrors,
    ScalePredictive,
    blocks_of_time,
    calibration_curve,
    rolling_origins,
)

DEVIATES = np.linspace(-4, 4, 65)
TABLE = np.stack([norm.cdf(DEVIATES), DEVIATES])
LEVELS = np.array([0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975])


def believed(bins, sd=1.0):
    return ScalePredictive(np.zeros(bins), np.full(bins, sd), TABLE)


def later(error, lag=None, block=None, sd=1.0):
    bins = len(error)
    lag = np.linspace(0, 100, bins) if lag is None else lag
    block = np.arange(bins) // 20 if block is None else block
    return HeldOutErrors(believed(bins, sd), error, lag, block)


def coverage(calibration, error, lag=50.0, sd=1.0):
    """Of the central 50, 80 and 95 % intervals."""
    quantiles = calibration.apply(believed(len(error), sd), np.broadcast_to(lag, error.shape), LEVELS)
    return np.mean((quantiles[:, [2, 1, 0]] <= error[:, None]) & (error[:, None] <= quantiles[:, [4, 5, 6]]), axis=0)


def test_stretches_of_time_are_blocks():
    time = np.concatenate([np.arange(10), 50 + np.arange(5), 90 + np.arange(3)]) * 0.1
    np.testing.assert_array_equal(blocks_of_time(time, at_least=3), [0] * 10 + [1] * 5 + [2] * 3)


def test_long_stretches_are_cut_until_there_are_enough():
    time = np.concatenate([np.arange(900), 2000 + np.arange(100)]) * 0.1
    block = blocks_of_time(time, at_least=20)
    assert len(np.unique(block)) == 20
    assert np.bincount(block).max() <= 51
    assert block[899] != block[900]
    assert (np.diff(block) >= 0).all()


@pytest.mark.parametrize("bins", [0, 1])
def test_blocks_of_hardly_any_time(bins):
    np.testing.assert_array_equal(blocks_of_time(np.arange(bins, dtype=float)), np.zeros(bins))


def test_origins_stand_at_borders_of_blocks():
    block = np.repeat(np.arange(40), 25)
    origins = rolling_origins(block, origins=4, first=0.4)
    assert len(origins) == 4
    assert all(block[origin] != block[origin - 1] for origin in origins)
    assert origins[0] == pytest.approx(400, abs=25)
    assert origins[-1] < 900
    assert rolling_origins(np.zeros(100, dtype=int)) == []


@pytest.mark.parametrize("true_sd", [1.0, 0.4, 2.5])
def test_wrong_sizes_are_put_right(true_sd):
    rng = np.random.default_rng(0)
    calibration = Calibration.learn([later(true_sd * rng.normal(size=4000))])
    found = coverage(calibration, true_sd * rng.normal(size=20_000))
    np.testing.assert_allclose(found, [0.5, 0.8, 0.95], atol=0.02)


def test_heavy_tails_are_put_right():
    rng = np.random.default_rng(1)
    calibration = Calibration.learn([later(rng.standard_t(2, size=4000))])
    np.testing.assert_allclose(coverage(calibration, rng.standard_t(2, size=20_000)), [0.5, 0.8, 0.95], atol=0.02)


def test_width_grows_with_lag_as_the_errors_taught():
    rng = np.random.default_rng(2)
    lag = np.tile(np.linspace(0, 200, 200), 20)
    error = np.hypot(1.0, 0.02 * lag) * rng.normal(size=4000)
    calibration = Calibration.learn([later(error, lag)])
    assert calibration.rate == pytest.approx(0.02, rel=0.5)
    for when, sd in ((0.0, 1.0), (100.0, np.hypot(1, 2.0)), (200.0, np.hypot(1, 4.0)), (300.0, np.hypot(1, 6.0))):
        found = coverage(calibration, sd * rng.normal(size=20_000), when)
        np.testing.assert_allclose(found, [0.5, 0.8, 0.95], atol=0.07)


def test_no_growth_is_invented():
    rng = np.random.default_rng(3)
    calibration = Calibration.learn([later(rng.normal(size=4000))])
    widths = [np.diff(calibration.apply(believed(1), np.array([lag]), LEVELS)[0, [0, 6]])[0] for lag in (0.0, 100.0)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)


def test_unknown_lag_is_the_typical_one():
    rng = np.random.default_rng(4)
    lag = np.tile(np.linspace(0, 200, 200), 20)
    calibration = Calibration.learn([later(np.hypot(1.0, 0.02 * lag) * rng.normal(size=4000), lag)])
    known, unknown, inside, now = (
        calibration.apply(believed(1), np.array([value]), LEVELS) for value in (lag.mean(), np.nan, -50.0, 0.0)
    )
    np.testing.assert_allclose(unknown, known)
    np.testing.assert_allclose(inside, now)


def test_quantiles_never_cross():
    rng = np.random.default_rng(5)
    calibration = Calibration.learn([later(rng.standard_t(1.5, size=200))])
    quantiles = calibration.apply(believed(3), np.array([0.0, 50.0, 500.0]), np.linspace(0.001, 0.999, 500))
    assert (np.diff(quantiles, axis=1) >= 0).all()


def test_few_blocks_that_err_together_get_wider_intervals():
    """Blocks of one sign each: what looks like many scores is few."""
    rng = np.random.default_rng(6)
    alone = rng.normal(size=600)
    together = np.repeat(rng.normal(size=12), 50)
    block = np.repeat(np.arange(12), 50)
    free, tied = (Calibration.learn([later(error, block=block)]) for error in (alone, together))
    assert free.effective > 200
    assert tied.effective < 30


def test_no_calibration_changes_nothing():
    quantiles = Calibration.none().apply(believed(2), np.array([0.0, np.nan]), LEVELS)
    np.testing.assert_allclose(quantiles, believed(2).quantiles(LEVELS))


def test_circular_errors_go_the_short_way_round():
    rng = np.random.default_rng(7)
    center = rng.uniform(0, 360, size=3000)
    truth = (center + 20 * rng.normal(size=3000)) % 360
    predictive = ScalePredictive(center, np.full(3000, 10.0), TABLE, 360.0)
    calibration = Calibration.learn([HeldOutErrors(predictive, truth, np.zeros(3000), np.arange(3000) // 20)])
    low, high = calibration.apply(predictive, np.zeros(3000), np.array([0.1, 0.9])).T
    inside = (truth - low) % 360 <= high - low
    assert inside.mean() == pytest.approx(0.8, abs=0.03)
    assert np.median(high - low) == pytest.approx(2 * 1.2816 * 20, rel=0.1)


def test_state_brings_it_back():
    calibration = Calibration.learn([later(np.random.default_rng(8).normal(size=300))])
    again = Calibration(**calibration.state())
    np.testing.assert_array_equal(again.raw, calibration.raw)
    assert (again.floor, again.rate, again.lag) == (calibration.floor, calibration.rate, calibration.lag)


def test_curve_of_uniform_ranks_is_the_diagonal():
    curve = calibration_curve(np.append((np.arange(10_000) + 0.5) / 10_000, np.nan))
    np.testing.assert_allclose(curve["empirical"], curve["nominal"], atol=1e-3)


def test_curve_error_over_blocks_matches_repeated_recordings():
    rng = np.random.default_rng(9)
    shares, errors = [], []
    for _ in range(300):
        pit = norm.cdf(0.8 * np.repeat(rng.normal(size=40), 10) + 0.6 * rng.normal(size=400))
        curve = calibration_curve(pit, np.array([0.8]), np.repeat(np.arange(40), 10))
        shares.append(curve["empirical"][0])
        errors.append(curve["error"][0])
    assert np.mean(errors) == pytest.approx(np.std(shares), rel=0.15)
    assert calibration_curve(pit, np.array([0.8]))["error"][0] < 0.75 * np.mean(errors)


def test_curve_of_nothing_is_nan():
    assert np.isnan(calibration_curve(np.full(3, np.nan))["empirical"]).all()


def test_each_fold_gets_what_it_was_promised():
    rng = np.random.default_rng(11)
    easy, hard = later(0.7 * rng.normal(size=4000)), later(2.0 * rng.normal(size=4000))
    together, each = (Calibration.learn([easy, hard], each=each) for each in (False, True))
    for fold, at_least in ((easy, 0.79), (hard, 0.79)):
        low, high = each.apply(fold.predictive, fold.lag, np.array([0.1, 0.9])).T
        assert ((low <= fold.truth) & (fold.truth <= high)).mean() > at_least
    low, high = together.apply(hard.predictive, hard.lag, np.array([0.1, 0.9])).T
    assert ((low <= hard.truth) & (hard.truth <= high)).mean() < 0.75


def test_intervals_that_hold_for_each_fold_are_never_narrower_than_the_readout_has_them():
    rng = np.random.default_rng(12)
    calm = [later(0.3 * rng.normal(size=2000)) for _ in range(2)]
    assert (Calibration.learn(calm).raw[1:-1] < Calibration.none().raw[1:-1]).all()
    np.testing.assert_array_equal(Calibration.learn(calm, each=True).raw, Calibration.none().raw)
