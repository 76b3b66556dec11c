"""Predictive distributions and their CRPS."""

import numpy as np
import pytest
from scipy.stats import norm

from kalmanssl.decoding import GridPredictive, ScalePredictive, quantile_crps
from kalmanssl.decoding.grids._circular import wrap
from kalmanssl.decoding.grids._predictive import SD_STEP
from kalmanssl.errors import InputError


def gaussian_grid(mean, sd, start=-10.0, width=0.05, cells=400):
    edges = start + width * np.arange(cells + 1)
    cumulative = norm.cdf((edges - np.asarray(mean)[:, None]) / np.asarray(sd)[:, None])
    mass = np.diff(cumulative, axis=1)
    return GridPredictive(mass / mass.sum(axis=1, keepdims=True), np.full(len(mass), start), width)


def gaussian_scale(mean, sd, period=None):
    deviates = np.linspace(-4, 4, 65)
    return ScalePredictive(np.asarray(mean), np.asarray(sd), np.stack([norm.cdf(deviates), deviates]), period)


def test_the_crps_of_gaussians_matches_the_closed_form():
    rng = np.random.default_rng(0)
    mean, sd = rng.normal(size=50), rng.uniform(0.2, 2, size=50)
    truth = mean + 2 * sd * rng.normal(size=50)
    z = (truth - mean) / sd
    closed = sd * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    levels = np.linspace(1e-5, 1 - 1e-5, 5001)
    quantiles = norm.ppf(levels, mean[:, None], sd[:, None])
    np.testing.assert_allclose(quantile_crps(quantiles, levels, truth), closed, atol=3e-4)


def test_the_crps_matches_the_energy_form():
    rng = np.random.default_rng(1)
    draws = np.sort(np.where(rng.random(4000) < 0.3, rng.normal(-2, 0.3, 4000), rng.exponential(size=4000)))
    truth = np.array([-2.5, 0.0, 0.1, 6.0])
    half_distance = np.abs(draws[:, None] - draws).mean() / 2
    energy = np.abs(draws[:, None] - truth).mean(axis=0) - half_distance
    levels = (np.arange(4000) + 0.5) / 4000
    found = quantile_crps(np.tile(draws, (4, 1)), levels, truth)
    np.testing.assert_allclose(found, energy, rtol=2e-3)


def test_the_crps_of_a_point_prediction_is_the_absolute_error():
    found = quantile_crps(np.full((3, 5), 2.0), np.linspace(0.1, 0.9, 5), np.array([2.0, 3.0, -1.0]))
    np.testing.assert_allclose(found, [0, 1, 3], atol=1e-12)


def test_the_crps_of_wrong_shapes_raises_an_error():
    with pytest.raises(InputError, match=r"quantiles \(3, 4\) must have a row for each of 2 bins"):
        quantile_crps(np.zeros((3, 4)), np.linspace(0.1, 0.9, 4), np.zeros(2))


@pytest.mark.parametrize("make", [gaussian_grid, gaussian_scale])
def test_moments_quantiles_and_cdf_of_gaussians(make):
    mean, sd = np.array([0.0, 1.0, -2.0]), np.array([0.5, 1.0, 1.5])
    predictive = make(mean, sd)
    levels = np.array([0.01, 0.25, 0.5, 0.9])
    np.testing.assert_allclose(predictive.mean(), mean, atol=5e-3)
    np.testing.assert_allclose(predictive.quantiles(levels), norm.ppf(levels, mean[:, None], sd[:, None]), atol=0.02)
    value = np.array([0.3, 2.2, -4.0])
    np.testing.assert_allclose(predictive.cdf(value), norm.cdf(value, mean, sd), atol=5e-3)


@pytest.mark.parametrize("make", [gaussian_grid, gaussian_scale])
def test_the_cdf_inverts_the_quantiles(make):
    predictive = make(np.array([0.0, 0.7]), np.array([0.5, 1.3]))
    for level in (0.003, 0.2, 0.5, 0.99):
        value = predictive.quantiles(np.array([level]))[:, 0]
        np.testing.assert_allclose(predictive.cdf(value), level, atol=1e-9)


@pytest.mark.parametrize("make", [gaussian_grid, gaussian_scale])
def test_levels_may_differ_from_bin_to_bin(make):
    predictive = make(np.array([0.0, 1.0]), np.array([0.5, 1.0]))
    levels = np.array([[0.1, 0.9], [0.3, 0.4]])
    each = [predictive[[i]].quantiles(levels[i])[0] for i in range(2)]
    np.testing.assert_allclose(predictive.quantiles(levels), each)


@pytest.mark.parametrize("make", [gaussian_grid, gaussian_scale])
def test_gaussian_noise_adds_its_variance_to_each_bin(make):
    mean, sd, extra = np.array([0.0, 1.0, 2.0]), np.array([0.5, 0.5, 0.5]), np.array([0.0, 0.5, 1.2])
    found = make(mean, sd).add_gaussian_noise(extra).quantiles(norm.cdf([-1.0, 1.0]))
    expected = np.sqrt(sd**2 + extra**2)
    np.testing.assert_allclose((found[:, 1] - found[:, 0]) / 2, expected, rtol=0.08)
    np.testing.assert_allclose(found.mean(axis=1), mean, atol=0.02)


def test_gaussian_noise_keeps_the_mass_on_the_grid():
    predictive = gaussian_grid([9.5], [0.3]).add_gaussian_noise(np.array([2.0]))
    np.testing.assert_allclose(predictive.mass.sum(), 1.0)
    assert predictive.quantiles(np.array([0.999]))[0, 0] <= 10.0


def test_quantiles_of_more_bins_than_are_handled_at_a_time():
    mean = np.linspace(-3, 3, 10_000)
    found = gaussian_grid(mean, np.full(10_000, 0.5)).quantiles(np.array([0.5]))[:, 0]
    np.testing.assert_allclose(found, mean, atol=1e-3)


def circular_grid(mean, sd, period=360.0, cells=180):
    center = (np.arange(cells) + 0.5) * period / cells
    mass = np.exp(-0.5 * (wrap(center - np.asarray(mean)[:, None], period) / sd) ** 2)
    return GridPredictive.circular(mass / mass.sum(axis=1, keepdims=True), period)


@pytest.mark.parametrize("mean", [0.0, 1.0, 90.0, 180.0, 359.0])
def test_a_circular_grid_starts_opposite_its_mass(mean):
    predictive = circular_grid([mean], 10.0)
    low, middle, high = predictive.quantiles(norm.cdf([-1.0, 0.0, 1.0]))[0]
    assert wrap(middle - mean, 360.0) == pytest.approx(0, abs=0.1)
    assert wrap(predictive.mean()[0] - mean, 360.0) == pytest.approx(0, abs=0.1)
    assert (high - low) / 2 == pytest.approx(10, rel=0.02)
    for shift in (-360, 0, 360):  # the same angle
        assert predictive.cdf(np.array([mean + 10 + shift]))[0] == pytest.approx(norm.cdf(1), abs=2e-3)


def test_wide_noise_on_a_circle_gives_a_uniform_distribution():
    predictive = circular_grid([359.0], 10.0).add_gaussian_noise(np.array([1e4]))
    np.testing.assert_allclose(predictive.mass, 1 / 180, rtol=1e-4)


def test_a_circular_scale_predictive_wraps():
    predictive = gaussian_scale(np.array([359.0]), np.array([10.0]), 360.0)
    assert predictive.cdf(np.array([9.0]))[0] == pytest.approx(norm.cdf(1), abs=1e-6)
    wide = gaussian_scale(np.array([10.0]), np.array([500.0]), 360.0).quantiles(np.array([0.001, 0.999]))[0]
    np.testing.assert_allclose(wide, [-170, 190])


def test_wrap_brings_differences_to_half_a_period():
    np.testing.assert_allclose(wrap(np.array([-190.0, 350.0, 10.0]), 360.0), [170, -10, 10])
    np.testing.assert_allclose(wrap(np.array([-190.0, 350.0]), None), [-190, 350])


@pytest.mark.parametrize("period", [None, 12.0])
@pytest.mark.parametrize("sd", [0.3, 2.0, 9.0])
def test_gaussian_noise_moves_mass_between_cells_as_the_normal_distribution_says(period, sd):
    cells = 12
    sd = SD_STEP ** np.round(np.log(sd) / np.log(SD_STEP))
    found = GridPredictive(np.eye(cells), np.zeros(cells), 1.0, period).add_gaussian_noise(np.full(cells, sd)).mass
    center = np.arange(cells) + 0.5
    edges = np.arange(cells + 1.0)
    if period is None:
        edges[[0, -1]] = -np.inf, np.inf
    turns = [0.0] if period is None else period * np.arange(-20, 21)
    expected = sum(np.diff(norm.cdf(edges + turn, center[:, None], sd), axis=1) for turn in turns)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_probabilities_in_single_precision_do_not_exceed_one():
    """A calibration with a level above one would be refused as damaged when it is loaded."""
    mass = np.random.default_rng(3).random((2000, 101)).astype(np.float32)
    predictive = GridPredictive(mass / mass.sum(axis=1, keepdims=True), np.zeros(2000), 1.0)
    assert (np.cumsum(predictive.mass, axis=1)[:, -1] > 1).any()
    assert predictive.cdf(np.full(2000, 101.0)).max() == 1
    assert predictive.cdf(np.zeros(2000)).min() == 0
