"""The readout by nearest neighbors, and the ensemble of networks and neighbors."""

import numpy as np
import pytest

from kalmanssl.decoding import (
    EnsembleReadout,
    EnsembleReadoutSettings,
    FittedBins,
    MLPReadoutSettings,
    NeighborReadout,
    NeighborReadoutSettings,
    PositionDecoder,
)
from kalmanssl.decoding.grids._grid import Grid
from kalmanssl.decoding.readouts import _neighbors
from kalmanssl.errors import InputError

SHARP = NeighborReadoutSettings(n_neighbors=7, smoothing=0.05, smoothing_joint=0.05, uniform_fraction=1e-9)
QUICK = MLPReadoutSettings(n_steps=60, n_cells_joint=16)


def problem(rng, bins, dims=1):
    mean = rng.normal(size=(bins, 4)) + 3.0
    return mean, np.tanh(mean[:, :dims] - 3.0) + 0.1 * rng.normal(size=(bins, dims))


def grid_of(behavior, n_cells=20):
    return Grid.from_behavior(behavior, (None,) * behavior.shape[1], [n_cells] * behavior.shape[1], 0.1)


@pytest.mark.parametrize("dims", [1, 2])
def test_the_mass_is_the_weighted_histogram_of_the_bins_with_the_smallest_angle(dims):
    rng = np.random.default_rng(0)
    mean, behavior = problem(rng, 200, dims)
    weight = rng.uniform(0.5, 2.0, size=200)
    grid = grid_of(behavior)
    readout = NeighborReadout((None,) * dims, SHARP).fit(mean, behavior, weight, [grid])
    queries, _ = problem(rng, 30)
    (mass,) = readout.predict_mass(queries)
    cell = grid.cell(behavior)
    for query, found in zip(queries, mass.reshape(30, -1), strict=True):
        a, b = query - mean.mean(axis=0), mean - mean.mean(axis=0)
        angle = np.arccos(b @ a / np.linalg.norm(a) / np.linalg.norm(b, axis=1))
        near = np.argsort(angle)[:7]
        expected = np.bincount(cell[near], weight[near], minlength=grid.size)
        np.testing.assert_allclose(found, expected / expected.sum(), atol=1e-5)


def test_histograms_of_a_circle_are_smoothed_across_its_end():
    rng = np.random.default_rng(1)
    mean = rng.normal(size=(50, 3))
    grid = Grid.from_behavior(np.zeros((50, 1)), (360.0,), [36], 0.0)
    settings = NeighborReadoutSettings(smoothing=2.0)
    (mass,) = NeighborReadout((360.0,), settings).fit(mean, np.full((50, 1), 1.0), None, [grid]).predict_mass(mean)
    np.testing.assert_allclose(mass[:, 1:10], mass[:, :-10:-1], rtol=1e-4)
    np.testing.assert_allclose(mass.sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("periods", [(None, None), (None, 2.5), (2.5, 2.5)])
@pytest.mark.parametrize("smoothing", [0.05, 1.0, 6.0])
def test_joint_histograms_are_the_same_without_a_compiler(periods, smoothing, monkeypatch):
    rng = np.random.default_rng(6)
    mean, behavior = problem(rng, 300, 2)
    behavior = np.stack(
        [column if period is None else column % period for column, period in zip(behavior.T, periods, strict=True)],
        axis=1,
    )
    grid = Grid.from_behavior(behavior, periods, [20, 13], 0.1)
    settings = NeighborReadoutSettings(n_neighbors=12, smoothing_joint=smoothing)
    readout = NeighborReadout(periods, settings).fit(mean, behavior, rng.uniform(0.5, 2.0, size=300), [grid])
    queries, _ = problem(rng, 40)
    (found,) = readout.predict_mass(queries)
    monkeypatch.setattr(_neighbors, "has_compiler", lambda: False)
    (expected,) = readout.predict_mass(queries)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 1.0, rtol=1e-5)


def test_many_bins_are_thinned_in_proportion_to_their_weight():
    rng = np.random.default_rng(2)
    mean, behavior = problem(rng, 5000)
    rare = np.arange(5000) % 10 == 0
    weight = np.where(rare, 9.0, 1.0)
    settings = NeighborReadoutSettings(max_reference_bins=400)
    readout = NeighborReadout((None,), settings).fit(mean, behavior, weight, [grid_of(behavior)])
    assert len(readout.search.references) <= 400
    assert readout.votes.sum() == 400
    whole = NeighborReadout((None,)).fit(mean, behavior, weight, [grid_of(behavior)])
    candidates, drawn = (one.search.references @ one.components.T for one in (whole, readout))
    kept = (np.abs(candidates[:, None] - drawn).max(axis=2) < 1e-6).any(axis=1)
    assert np.mean(rare[kept]) == pytest.approx(0.5, abs=0.05)


def test_no_bins_give_no_histograms_and_few_reference_bins_are_all_used():
    rng = np.random.default_rng(3)
    mean, behavior = problem(rng, 5)
    readout = NeighborReadout((None,)).fit(mean, behavior, None, [grid_of(behavior)])
    assert readout.predict_mass(np.empty((0, 4)))[0].shape == (0, 20)
    (mass,) = readout.predict_mass(mean)
    np.testing.assert_allclose(mass, np.broadcast_to(mass[:1], mass.shape), rtol=1e-5)


def fitted_ensemble(weight, dims=1, seed=4):
    rng = np.random.default_rng(seed)
    mean, behavior = problem(rng, 400, dims)
    settings = EnsembleReadoutSettings(QUICK, neighbor_weight=weight)
    return EnsembleReadout((None,) * dims, settings=settings).fit(FittedBins(mean, None, behavior), rng), problem(
        rng, 40
    )[0]


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0])
def test_the_ensemble_is_the_weighted_geometric_mean_of_its_histograms(weight, dims):
    readout, queries = fitted_ensemble(weight, dims)
    (mass,) = readout.predict_mass(queries, None)
    (network,) = readout.networks.predict_mass(queries, None)
    (neighbors,) = readout.neighbors.predict_mass(queries)
    expected = (network ** (1 - weight) * neighbors**weight).reshape(40, -1).astype(float)
    np.testing.assert_allclose(mass.reshape(40, -1), expected / expected.sum(axis=1, keepdims=True), rtol=1e-3)


def test_an_ensemble_that_is_saved_and_restored_predicts_the_same():
    readout, queries = fitted_ensemble(0.5, 2)
    restored = EnsembleReadout.from_state(readout.to_state())
    for before, after in zip(readout.predict(queries, None), restored.predict(queries, None), strict=True):
        np.testing.assert_array_equal(before.mass, after.mass)
    assert restored.settings == readout.settings


def test_a_decoder_with_settings_of_the_ensemble_is_restored_with_them():
    rng = np.random.default_rng(5)
    mean, behavior = problem(rng, 400)
    settings = EnsembleReadoutSettings(QUICK, NeighborReadoutSettings(n_neighbors=9), 0.4)
    decoder = PositionDecoder(readout_settings=settings, random_state=0).fit(mean, behavior[:, 0])
    restored = PositionDecoder.from_state(decoder.to_state())
    assert restored.readout_settings == settings
    np.testing.assert_array_equal(restored.predict(mean).mean, decoder.predict(mean).mean)


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        (NeighborReadoutSettings, "n_neighbors", 0),
        (NeighborReadoutSettings, "max_reference_bins", 1.5),
        (NeighborReadoutSettings, "smoothing", 0.0),
        (NeighborReadoutSettings, "uniform_fraction", 0.0),
        (EnsembleReadoutSettings, "neighbor_weight", 1.2),
        (EnsembleReadoutSettings, "networks", NeighborReadoutSettings()),
    ],
)
def test_settings_out_of_range_are_refused(settings, name, value):
    with pytest.raises(InputError, match=name):
        settings(**{name: value})
