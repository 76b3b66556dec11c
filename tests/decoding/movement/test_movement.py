"""Movement priors: transition probabilities, stationary distribution, direction, and the readout's likelihoods."""

import numpy as np
import pytest

from kalmanssl.decoding.grids._grid import Axis, Grid
from kalmanssl.decoding.movement._movement import Movement, MovementStatistics
from kalmanssl.decoding.movement._state_space import forward_step

LINE = Grid((Axis(0.0, 0.1, 24),))
CIRCLE = Grid((Axis(0.0, 15.0, 24, 360.0),))
PLANE = Grid((Axis(0.0, 0.1, 9), Axis(0.0, 60.0, 6, 360.0)))
GRIDS = {"line": LINE, "circle": CIRCLE, "two dimensions": PLANE}


def statistics(grid, n_states, rng):
    """Statistics of made-up behavior that is uneven over the grid and moves in each state by its own amount."""
    bins = 4000
    upper = np.array([axis.start + axis.n_cells * axis.width for axis in grid.axes])
    behavior = upper * rng.beta(0.8, 2.0, size=(bins, len(grid.axes)))
    state = np.repeat(rng.integers(n_states, size=bins // 40), 40)
    width = np.array([axis.width for axis in grid.axes])
    step = width * (np.array([0.0, -0.6, 0.8])[state][:, None] + 0.4 * rng.normal(size=behavior.shape))
    follows = np.arange(bins) % 500 != 0
    return MovementStatistics.from_behavior(grid, behavior, step, state, follows, rng.uniform(size=bins))


def transition_matrix(transition):
    """All transition probabilities, by applying one step to every motion state and cell in turn."""
    shape = transition.prior.shape
    units = np.eye(transition.prior.size).reshape(-1, *shape)
    flat = np.ones(shape[1:])
    return np.stack([forward_step(unit, flat, transition).ravel() for unit in units])


@pytest.mark.parametrize("n_states", [1, 3])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_transitions_sum_to_one_and_leave_the_occupancy_unchanged(grid, n_states):
    s = statistics(grid, n_states, np.random.default_rng(0))
    transition = Movement(s, 2.0, 0.2, 0.01).transition()
    scaled = np.einsum(
        "sxy,sxX,syY,sXY->sxyXY",
        transition.before, transition.along_rows, transition.along_columns, transition.after,
    )  # fmt: skip
    np.testing.assert_allclose(scaled.sum(axis=(3, 4)), 1.0)
    assert scaled.min() >= 0
    occupancy = s.occupancy.reshape(transition.prior.shape)
    occupancy = occupancy / occupancy.sum(axis=(1, 2), keepdims=True)
    change = np.einsum("sxy,sxyXY->sXY", occupancy, scaled) - occupancy
    with_drift = s.drift.any(axis=1)
    assert with_drift.sum() == (3 if n_states == 3 else 0)
    assert np.abs(change[~with_drift]).max(initial=0) < 1e-9
    total_variation = np.abs(change[with_drift]).sum(axis=(1, 2)) / 2
    assert total_variation.max(initial=0) < 0.2  # a drift carries mass to an end: see the docstring of the module
    np.testing.assert_allclose(transition_matrix(transition).sum(axis=1), 1.0)
    assert transition.prior.sum() == pytest.approx(1)


def test_the_stationary_distribution_of_one_motion_state_is_the_occupancy():
    """The leading eigenvector of the whole matrix, jumps included."""
    s = statistics(LINE, 1, np.random.default_rng(1))
    matrix = transition_matrix(Movement(s, 1.0, 0.2, 0.02).transition())
    stationary = np.linalg.matrix_power(matrix, 4096)[0]
    np.testing.assert_allclose(stationary, s.occupancy.ravel() / s.occupancy.sum(), rtol=1e-6)


def test_the_occupancy_is_the_weighted_histogram_by_motion_state():
    rng = np.random.default_rng(2)
    behavior = rng.uniform(0, 2.4, size=(6000, 1))
    state = (behavior[:, 0] > 1.2).astype(int)
    weight = np.where(state == 1, 3.0, 1.0)
    s = MovementStatistics.from_behavior(LINE, behavior, 0 * behavior, state, np.ones(6000, dtype=bool), weight)
    np.testing.assert_allclose(s.occupancy.reshape(2, -1).sum(axis=1), [0.25, 0.75], atol=0.02)
    assert s.occupancy[0, 16:].sum() < 0.1 * s.occupancy[0].sum()
    assert (s.occupancy > 0).all()


def test_steps_and_switches_are_counted_only_where_a_bin_follows_another():
    behavior = np.full((8, 1), 1.0)
    step = np.array([9.0, 0.2, 0.2, 0.4, 9.0, -0.3, -0.3, 0.0])[:, None]
    state = np.array([2, 2, 2, 2, 1, 1, 1, 0])
    follows = np.array([False, True, True, True, False, True, True, True])
    s = MovementStatistics.from_behavior(LINE, behavior, step, state, follows, np.ones(8))
    np.testing.assert_allclose(s.drift[:, 0], [0, -3, 8 / 3])
    np.testing.assert_allclose(s.sd[:, 0], [0, 0, np.std([2, 2, 4])], atol=1e-9)
    counts = np.array([[0, 0, 0], [1, 2, 0], [0, 0, 3]]) + 0.5
    np.testing.assert_allclose(s.switching, counts / counts.sum(axis=1, keepdims=True))


def test_motion_states_without_bins_are_left_out():
    """If only bins in movement are used there is no bin at rest."""
    rng = np.random.default_rng(3)
    behavior = rng.uniform(0, 2.4, size=(500, 1))
    state = rng.integers(1, 3, size=500)
    step = 0.1 * np.where(state == 1, -1.0, 1.0)[:, None]
    follows = np.ones(500, dtype=bool)
    s = MovementStatistics.from_behavior(LINE, behavior, step, state, follows, np.ones(500))
    np.testing.assert_allclose(s.drift[:, 0], [-1, 1])
    assert s.occupancy.shape == (2, 24)
    assert np.isfinite(transition_matrix(Movement(s, 1.0, 0.2, 0.01).transition())).all()


def peaks(grid, where, drift, n_steps=4):
    """Means of a belief that starts at a cell, after a few steps."""
    shape = grid.shape
    occupancy = np.full((1, *shape), 1 / grid.size)
    dims = len(shape)
    drift = np.broadcast_to(drift, (1, dims))
    s = MovementStatistics(grid, occupancy, drift, np.full((1, dims), 0.5), np.ones((1, 1)))
    transition = Movement(s, 1.0, 0.2, 1e-6).transition()
    belief = np.zeros(transition.prior.shape)
    belief[(0, *where)] = 1.0
    for _ in range(n_steps):
        belief = forward_step(belief, np.ones(transition.prior.shape[1:]), transition)
    return belief[0]


def test_a_drift_moves_the_belief_in_its_direction():
    cells = np.arange(24)
    for drift in (-1.5, 0.0, 1.5):
        moved = peaks(LINE, (12, 0), drift, n_steps=2)[:, 0] @ cells - 12
        assert moved == pytest.approx(2 * drift, rel=0.15, abs=1e-4)


def test_a_walk_wraps_on_a_circle_and_stops_at_the_ends_of_a_line():
    turned = peaks(CIRCLE, (22, 0), 1.0)[:, 0]
    assert np.argmax(turned) == 2
    unbiased = peaks(CIRCLE, (0, 0), 0.0)[:, 0]
    np.testing.assert_allclose(unbiased[1:], unbiased[:0:-1], atol=1e-9)
    held = peaks(LINE, (22, 0), 0.0)[:, 0]
    assert held[18:].sum() > 0.999
    mixed = peaks(PLANE, (4, 5), [0.0, 1.0], n_steps=2)
    assert np.unravel_index(np.argmax(mixed), mixed.shape) == (4, 1)


def test_a_belief_that_drifts_to_an_end_stays_there():
    held = peaks(LINE, (20, 0), 1.5, n_steps=10)[:, 0]
    assert held[20:].sum() > 0.99


def test_the_width_factor_scales_the_walk():
    s = MovementStatistics(LINE, np.full((1, 24), 1 / 24), np.zeros((1, 1)), np.ones((1, 1)), np.ones((1, 1)))
    cells = np.arange(24)
    for factor in (1.0, 2.0, 3.0):
        matrix = transition_matrix(Movement(s, factor, 0.2, 1e-9).transition())
        assert np.sqrt(matrix[12] @ (cells - 12) ** 2) == pytest.approx(factor, rel=0.06)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_a_likelihood_is_a_power_of_the_ratio_to_the_occupancy(grid):
    rng = np.random.default_rng(4)
    s = statistics(grid, 3, rng)
    mass = rng.dirichlet(np.ones(grid.size), size=6).reshape(6, *grid.shape)
    found = Movement(s, 1.0, 0.3, 0.01).likelihood(mass)
    occupancy = s.occupancy.sum(axis=0) / s.occupancy.sum()
    expected = (mass / occupancy) ** 0.3
    expected /= expected.reshape(6, -1).max(axis=1).reshape(-1, *[1] * len(grid.shape))
    np.testing.assert_allclose(found.reshape(mass.shape), expected)
    flat = Movement(s, 1.0, 0.3, 0.01).likelihood(occupancy[None])
    np.testing.assert_allclose(flat, 1.0)


def test_statistics_on_a_coarser_grid():
    s = statistics(LINE, 3, np.random.default_rng(5))
    coarse = s.coarsen(3)
    assert coarse.grid.shape == (8,)
    np.testing.assert_allclose(coarse.occupancy, s.occupancy.reshape(3, 8, 3).sum(axis=2))
    np.testing.assert_allclose(coarse.sd, s.sd / 3)
    np.testing.assert_allclose(coarse.drift, s.drift / 3)
    np.testing.assert_array_equal(coarse.switching, s.switching)


def test_a_saved_state_makes_the_same_prior():
    movement = Movement(statistics(PLANE, 2, np.random.default_rng(6)), 2.0, 0.2, 0.01)
    again = Movement.from_state(movement.to_state())
    for name, value in vars(movement.transition()).items():
        np.testing.assert_array_equal(getattr(again.transition(), name), value)
    mass = np.full((1, 9, 6), 1 / 54)
    np.testing.assert_array_equal(again.likelihood(mass), movement.likelihood(mass))
