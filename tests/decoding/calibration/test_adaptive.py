"""Adaptive levels on streams of scores: coverage after a change of the errors, nested levels and saving."""

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.special import ndtr, ndtri

from kalmanssl.decoding.calibration._adaptive import AdaptiveLevels
from kalmanssl.decoding.calibration._conformal_map import NOMINAL_LEVELS, correlation_length

CORRELATION_BINS = 20
BINS_PER_ERROR = 16.0


def gaussian_errors(rng, bins, scale=1.0):
    """Errors with a standard deviation of `scale` and an exponential autocorrelation over time."""
    keep = np.exp(-1 / CORRELATION_BINS)
    return scale * lfilter([np.sqrt(1 - keep**2)], [1, -keep], rng.normal(size=bins + 500))[500:]


def scores_of(errors):
    """Smallest central level of a standard normal prediction that contains each error."""
    return np.abs(2 * ndtr(errors) - 1)


def level_of(used, nominal):
    return used[:, np.argmin(np.abs(NOMINAL_LEVELS - nominal))]


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("nominal", [0.5, 0.8, 0.95])
def test_coverage_returns_to_the_nominal_level_whatever_the_scale_of_the_errors(scale, nominal):
    scores = scores_of(gaussian_errors(np.random.default_rng(0), 60_000, scale))
    covered = scores <= level_of(AdaptiveLevels.identity().update(scores, BINS_PER_ERROR), nominal)
    assert covered[10_000:].mean() == pytest.approx(nominal, abs=0.012)


def test_levels_hardly_change_if_errors_are_those_of_the_calibration():
    scores = scores_of(gaussian_errors(np.random.default_rng(1), 60_000))
    used = AdaptiveLevels.identity().update(scores, BINS_PER_ERROR)
    for nominal in (0.5, 0.8, 0.95):
        width = ndtri((1 + level_of(used, nominal)) / 2) / ndtri((1 + nominal) / 2)
        assert width.mean() == pytest.approx(1, abs=0.03)
        assert width.std() < 0.1


def test_levels_find_the_tail_of_a_prediction_that_is_much_too_narrow():
    scores = scores_of(gaussian_errors(np.random.default_rng(2), 40_000, scale=2.0))
    level = level_of(AdaptiveLevels.identity().update(scores, BINS_PER_ERROR), 0.95)[20_000:]
    assert np.mean(ndtri((1 + level) / 2)) == pytest.approx(2 * 1.96, rel=0.08)


def test_levels_are_nested_at_every_bin_and_end_at_zero_and_one():
    scores = np.random.default_rng(3).choice([0.0, 0.3, 0.951, 1.0], size=5000)
    used = AdaptiveLevels.identity().update(scores, 1.0)
    assert (np.diff(used, axis=1) >= 0).all()
    assert (used[:, 0] == 0).all()
    assert (used[:, -1] == 1).all()


def test_levels_recover_after_errors_that_no_level_covers():
    rng = np.random.default_rng(4)
    levels = AdaptiveLevels.identity()
    levels.update(np.ones(20_000), BINS_PER_ERROR)
    assert levels.levels[1] > 0.3  # of the nominal level 0.05
    used = levels.update(scores_of(gaussian_errors(rng, 60_000)), BINS_PER_ERROR)
    assert level_of(used, 0.95)[30_000:].mean() == pytest.approx(0.95, abs=0.02)


def test_one_bin_at_a_time_gives_the_same_levels_as_all_at_once():
    scores = scores_of(gaussian_errors(np.random.default_rng(5), 400, scale=1.5))
    together, alone = AdaptiveLevels.identity(), AdaptiveLevels.identity()
    used = together.update(scores, 4.0)
    np.testing.assert_array_equal(used, np.concatenate([alone.update(one[None], 4.0) for one in scores]))
    np.testing.assert_array_equal(together.levels, alone.levels)
    assert together.n_bins == alone.n_bins == 400


def test_saved_levels_continue_as_those_that_were_saved():
    scores = scores_of(gaussian_errors(np.random.default_rng(6), 600, scale=1.5))
    levels = AdaptiveLevels.identity()
    levels.update(scores[:300], 4.0)
    restored = AdaptiveLevels.from_state(levels.to_state())
    np.testing.assert_array_equal(levels.update(scores[300:], 4.0), restored.update(scores[300:], 4.0))


def test_maps_do_not_change_before_the_first_update():
    maps = np.stack([NOMINAL_LEVELS**2, np.sqrt(NOMINAL_LEVELS)])
    np.testing.assert_array_equal(AdaptiveLevels.identity().adapt(maps), maps)


def test_correlation_length_is_the_integrated_autocorrelation_and_ignores_slow_changes():
    rng = np.random.default_rng(7)
    block = np.repeat(np.arange(40), 1000)
    assert correlation_length(rng.normal(size=40_000), block) == pytest.approx(1, abs=0.1)
    fast = gaussian_errors(rng, 40_000)
    expected = (1 + np.exp(-1 / CORRELATION_BINS)) / (1 - np.exp(-1 / CORRELATION_BINS))
    assert correlation_length(fast, block) == pytest.approx(expected, rel=0.2)
    assert correlation_length(fast + 3 * rng.normal(size=40)[block], block) == pytest.approx(expected, rel=0.2)
    assert correlation_length(np.ones(100), np.zeros(100, dtype=int)) == 1
