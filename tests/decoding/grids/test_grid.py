"""Grids over behavior: cells, histograms, marginals, shifts and coarser grids."""

import numpy as np
import pytest
from scipy.stats import norm

from kalmanssl.decoding import FittedBins, GridPredictive, MLPReadout, MLPReadoutSettings, ScalePredictive
from kalmanssl.decoding.grids._grid import Axis, Grid, group_dimensions
from kalmanssl.decoding.movement._movement import coarsen_mass

LINE = Axis(-1.0, 0.5, 8)
CIRCLE = Axis(0.0, 30.0, 12, 360.0)
DEVIATES = np.linspace(-4, 4, 65)
TABLE = np.stack([norm.cdf(DEVIATES), DEVIATES])


def test_dimensions_are_grouped_in_pairs():
    expected = {1: [(0,)], 2: [(0, 1)], 3: [(0, 1), (2,)], 4: [(0, 1), (2, 3)]}
    assert {n: group_dimensions(n) for n in expected} == expected


def test_an_axis_covers_the_behavior_and_a_margin_or_the_circle():
    axis = Axis.from_behavior(np.array([2.0, 12.0]), None, 20, 0.1)
    assert (axis.start, axis.width, axis.n_cells) == pytest.approx((1.0, 0.6, 20))
    np.testing.assert_allclose(axis.centers[[0, -1]], [1.3, 12.7])
    circle = Axis.from_behavior(np.array([100.0, 200.0]), 360.0, 12, 0.1)
    assert circle == CIRCLE


def test_places_are_inside_the_grid_also_in_single_precision():
    values = np.array([-9.0, -1.0, -0.75, 0.1, 2.999999, 3.0, 99.0])
    place = LINE.place(values)
    np.testing.assert_allclose(place, [0, 0, 0.5, 2.2, 7.999998, 8, 8], atol=1e-4)
    angles = np.array([0.0, 359.9999999999999, 360.0, -1e-18, 725.0])
    turned = CIRCLE.place(angles)
    np.testing.assert_allclose(np.cos(2 * np.pi * turned / 12), np.cos(np.radians(angles)), atol=1e-4)
    for result, cells in ((place, 8), (turned, 12)):
        cell = np.floor(result.astype(np.float32)).astype(int)
        assert ((cell >= 0) & (cell < cells)).all()


def test_the_networks_can_be_trained_on_behavior_beyond_the_grid():
    """The behavior can leave the grid where the drift of the code is corrected."""
    rng = np.random.default_rng(0)
    behavior = rng.uniform(-2, 2, size=(50, 2))
    grids = [Grid((LINE, Axis(-1.0, 0.5, 4)))]
    readout = MLPReadout((None, None), settings=MLPReadoutSettings(n_steps=3, min_steps=3))
    readout.fit(FittedBins(rng.normal(size=(50, 2)), None, 3 * behavior, grids=grids), rng)
    (mass,) = readout.predict_mass(np.zeros((1, 2)), None)
    assert mass.shape == (1, 8, 4)
    np.testing.assert_allclose(mass.sum(), 1.0, rtol=1e-5)


def test_cells_count_rows_first():
    grid = Grid((LINE, CIRCLE))
    behavior = np.array([[-0.9, 10.0], [-0.3, 350.0], [2.9, 40.0]])
    np.testing.assert_array_equal(grid.cell(behavior), [0, 1 * 12 + 11, 7 * 12 + 1])
    assert grid.shape == (8, 12)
    assert grid.size == 96


def test_marginals_sum_over_the_other_axis():
    mass = np.random.default_rng(1).uniform(size=(5, 8, 12))
    grid = Grid((LINE, CIRCLE))
    np.testing.assert_allclose(grid.marginal(mass, 0), np.einsum("txy->tx", mass))
    np.testing.assert_allclose(grid.marginal(mass, 1), np.einsum("txy->ty", mass))
    np.testing.assert_array_equal(Grid((LINE,)).marginal(mass[:, :, 0], 0), mass[:, :, 0])


def test_a_histogram_without_smoothing_counts_the_weights():
    rng = np.random.default_rng(2)
    behavior = np.stack([rng.uniform(-1, 3, 300), rng.uniform(0, 360, 300)], axis=1)
    weight = rng.uniform(size=300)
    found = Grid((LINE, CIRCLE)).histogram(behavior, weight, 1e-9)
    expected, _, _ = np.histogram2d(*behavior.T, bins=(np.linspace(-1, 3, 9), np.linspace(0, 360, 13)), weights=weight)
    np.testing.assert_allclose(found, expected / weight.sum())


def test_smoothing_of_a_histogram_wraps_on_circles_and_stops_at_the_ends_of_lines():
    one = np.ones(1)
    circle = Grid((CIRCLE,)).histogram(np.array([[5.0]]), one, 1.0)
    line = Grid((LINE,)).histogram(np.array([[-0.9]]), one, 1.0)
    assert circle[-1] == pytest.approx(circle[1])
    assert circle[-1] > 0.2
    assert line[-1] < 1e-4
    assert circle.sum() == pytest.approx(1)
    assert line.sum() == pytest.approx(1)


def test_shifts_move_the_mean_and_rotate_circles():
    rng = np.random.default_rng(3)
    mass = np.zeros((40, 8, 12))
    mass[:, 2:5, :] = rng.uniform(size=(40, 3, 12))
    mass /= mass.sum(axis=(1, 2), keepdims=True)
    by = np.stack([rng.uniform(-1, 1, 40), rng.uniform(-720, 720, 40)], axis=1)
    grid = Grid((LINE, CIRCLE))
    moved = grid.shift(mass, by)
    np.testing.assert_allclose(moved.sum(axis=(1, 2)), 1.0)
    before, after = (grid.marginal(part, 0) @ LINE.centers for part in (mass, moved))
    np.testing.assert_allclose(after - before, by[:, 0], atol=1e-9)
    whole = grid.shift(mass, np.tile([0.0, -90.0], (40, 1)))
    np.testing.assert_allclose(whole, np.roll(mass, -3, axis=2))
    np.testing.assert_allclose(grid.shift(mass, np.tile([0.5, 0.0], (40, 1))), np.roll(mass, 1, axis=1))


def test_mass_that_leaves_a_line_is_lost_and_the_rest_normalized():
    mass = np.tile([0.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.2, 0.6], (1, 1))
    moved = Grid((LINE,)).shift(mass, np.array([[0.5]]))
    np.testing.assert_allclose(moved, [[0, 0.5, 0, 0, 0, 0, 0, 0.5]])


def test_the_probability_of_cells_matches_the_distribution_function():
    predictive = ScalePredictive(np.array([0.3, 2.0, -30.0]), np.array([0.4, 2.0, 1.0]), TABLE)
    edges = LINE.start + LINE.width * np.arange(9)
    expected = np.diff(norm.cdf(edges, predictive.center[:, None], predictive.scale[:, None]), axis=1)
    expected[:, 0] += norm.cdf(edges[0], predictive.center, predictive.scale)
    expected[:, -1] += norm.sf(edges[-1], predictive.center, predictive.scale)
    np.testing.assert_allclose(LINE.discretize(predictive), expected, atol=1e-6)


@pytest.mark.parametrize("center", [0.0, 7.0, 178.0, 180.0, 359.9, -20.0])
@pytest.mark.parametrize("scale", [0.1, 5.0, 40.0])
def test_the_probability_of_cells_on_a_circle_wraps(center, scale):
    fine = Axis(0.0, 2.5, 144, 360.0)
    found = fine.discretize(ScalePredictive(np.array([center]), np.array([scale]), TABLE, 360.0))[0]
    edges = 2.5 * np.arange(145)
    turns = 360.0 * np.arange(-3, 4)[:, None]
    expected = np.diff(norm.cdf(edges + turns, center, scale), axis=1).sum(axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_probability_of_cells_inverts_the_predictive_of_a_histogram():
    rng = np.random.default_rng(4)
    for axis in (LINE, CIRCLE):
        mass = rng.dirichlet(np.full(axis.n_cells, 0.2), size=200)
        predictive = axis.predictive(mass)
        assert isinstance(predictive, GridPredictive)
        np.testing.assert_allclose(axis.discretize(predictive), mass, atol=1e-9)


def test_coarser_grids_cover_the_same_range_and_preserve_the_mass():
    grid = Grid((LINE, CIRCLE))
    coarse = grid.coarsen(4)
    assert coarse.shape == (2, 3)
    behavior = np.stack([np.linspace(-1, 2.99, 200), np.linspace(0, 359, 200)], axis=1)
    np.testing.assert_allclose(coarse.place(behavior), grid.place(behavior) / 4)
    mass = np.random.default_rng(5).dirichlet(np.ones(96), size=7).reshape(7, 8, 12)
    found = coarsen_mass(mass, grid, 4)
    for x in range(2):
        for y in range(3):
            block = mass[:, 4 * x : 4 * x + 4, 4 * y : 4 * y + 4]
            np.testing.assert_allclose(found[:, x, y], block.sum(axis=(1, 2)))


def test_a_grid_is_coarsened_by_the_smallest_factor_that_leaves_few_enough_cells():
    grid = Grid((LINE, CIRCLE))
    assert [grid.coarsening(limit) for limit in (12, 11, 6, 5, 3)] == [1, 2, 2, 4, 4]
    assert grid.coarsening(2) == 1  # no factor does


def test_interpolation_is_that_of_a_line_and_wraps_on_circles():
    values = np.random.default_rng(6).normal(size=4)
    wide = LINE.coarsen(2)
    np.testing.assert_allclose(values @ LINE.interpolation(2), np.interp(LINE.centers, wide.centers, values))
    wide = CIRCLE.coarsen(3)
    expected = np.interp(CIRCLE.centers, wide.centers, values, period=360.0)
    np.testing.assert_allclose(values @ CIRCLE.interpolation(3), expected)


def test_a_saved_state_makes_the_same_grid():
    grid = Grid((LINE, CIRCLE))
    assert Grid.from_state(grid.to_state()) == grid
