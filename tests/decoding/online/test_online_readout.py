"""Readouts and intervals for one bin agree with those for many bins."""

import numpy as np
import pytest

from kalmanssl.decoding import (
    Calibration,
    FittedBins,
    MLPReadout,
    MLPReadoutSettings,
    NeighborReadout,
    NeighborReadoutSettings,
)
from kalmanssl.decoding.calibration import NOMINAL_LEVELS
from kalmanssl.decoding.grids._grid import Axis
from kalmanssl.decoding.online._interval import OnlineInterval
from kalmanssl.decoding.online._readout import _OneBinNeighbors, _OneBinNetworks
from kalmanssl.decoding.results._levels import QUANTILE_LEVELS, quantile_weights

NETWORKS = MLPReadoutSettings(n_cells=30, n_cells_joint=10, n_networks=3, hidden=20, n_steps=20)


def latents_and_behavior(n_bins: int, n_features: int, dims: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Latents with axes of very different variance, and a behavior that depends on the first ones."""
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(n_bins, n_features)) / np.sqrt(1 + np.arange(n_features))
    rotation, _ = np.linalg.qr(rng.normal(size=(n_features, n_features)))
    return latents @ rotation + 0.3, latents[:, :dims] + 0.1 * rng.normal(size=(n_bins, dims))


@pytest.mark.parametrize(("n_bins", "n_features"), [(20, 3), (200, 4), (700, 33), (2500, 40), (3000, 120)])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_search_for_one_bin_finds_the_same_neighbors(n_bins, n_features, dims):
    latents, behavior = latents_and_behavior(n_bins, n_features, dims)
    periods = (None,) * dims
    weight = np.random.default_rng(1).random(n_bins)
    readout = NeighborReadout(periods, NeighborReadoutSettings(max_reference_bins=2600))
    readout.fit(latents, behavior, weight, NETWORKS.make_grids(behavior, periods))
    new, _ = latents_and_behavior(40, n_features, dims, seed=2)
    new = np.concatenate([new, latents[:5], 100 * new[:1], readout.center[None]])
    one = _OneBinNeighbors(readout)
    ignored = np.random.default_rng(3).normal(size=(len(new), 5))  # features after those of the fit
    found, distance = zip(*[one(row) for row in np.concatenate([new, ignored], axis=1)], strict=True)
    masses, distances = readout.predict_mass_and_distance(new)
    np.testing.assert_allclose(distance, distances, rtol=1e-5, atol=1e-6)
    for number, expected in enumerate(masses):
        same = np.array([row[number] for row in found])
        np.testing.assert_allclose(same[:-1], expected[:-1], rtol=1e-5, atol=1e-8)
        assert same[-1].sum() == pytest.approx(1, rel=1e-5)  # all bins are equally far from the center


def test_the_networks_for_one_bin_give_the_same_histograms():
    latents, behavior = latents_and_behavior(300, 7, 3)
    readout = MLPReadout((None,) * 3, settings=NETWORKS).fit(
        FittedBins(latents, None, behavior, n_present=4), np.random.default_rng(0)
    )
    one = _OneBinNetworks(readout)
    found = [one(row).product for row in latents[:20]]
    for number, expected in enumerate(readout.predict_mass(latents[:20], None)):
        np.testing.assert_allclose([row[number] for row in found], expected, rtol=1e-5)


@pytest.mark.parametrize("period", [None, 4.0])
@pytest.mark.parametrize("level", [0.5, 0.77, 0.95, 0.9999])
def test_the_interval_of_one_bin_is_that_of_the_calibration(period, level):
    rng = np.random.default_rng(0)
    axis = Axis(0.0, 0.1, 40, period) if period else Axis(-1.0, 0.05, 40)
    mass = (rng.random((60, 40)) ** np.array([1, 4, 20])[rng.integers(0, 3, (60, 1))]).astype(np.float32)
    mass[:5] = 0.0
    mass[np.arange(5), [0, 39, 20, 7, 1]] = 1.0
    mass[5:10, 10:] = 0.0
    mass /= mass.sum(axis=1, keepdims=True)
    lag = rng.uniform(-20, 200, size=60)
    lag[::7] = np.nan
    maps = np.stack([NOMINAL_LEVELS**0.8, NOMINAL_LEVELS**1.3])
    calibration = Calibration(0.05, 0.004, 30.0, 100.0, 1.5, maps, 50.0)
    predictive = axis.predictive(mass)
    table = calibration.apply(predictive, lag, QUANTILE_LEVELS).astype(np.float32)
    ends = []
    for q in ((1 - level) / 2, (1 + level) / 2):
        right, weight = quantile_weights(QUANTILE_LEVELS, q)
        ends.append((1 - weight) * table[:, right - 1] + weight * table[:, right])
    mean = predictive.mean()
    if period is not None:  # the interval lies around the mean
        mean = mean % period
        turn = period * np.round((mean - np.mean(ends, axis=0)) / period)
        ends = [end + turn for end in ends]
    interval = OnlineInterval(axis, calibration, level)
    found = np.array([interval(row, float(at)) for row, at in zip(mass, lag, strict=True)]).T
    np.testing.assert_allclose(found, [mean, *ends], rtol=1e-5, atol=1e-6)
