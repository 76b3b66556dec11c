"""Mixtures of movement priors."""

from dataclasses import replace

import numpy as np
import pytest

from kalmanssl.decoding.grids import Axis, Grid
from kalmanssl.decoding.movement import (
    Familiarity,
    Movement,
    MovementComponent,
    MovementMixture,
    MovementStatistics,
    ReadoutMass,
    filtered_mass,
    posterior_mass,
    temper,
)

N, CELLS = 60, 12


@pytest.fixture(scope="module")
def walk() -> Movement:
    rng = np.random.default_rng(0)
    position = np.abs((np.cumsum(rng.normal(0, 0.05, (400, 1)), axis=0) + 1) % 2 - 1)
    step = np.diff(position, axis=0, prepend=position[:1])
    state, follows = np.zeros(400, dtype=int), np.arange(400) > 0
    grid = Grid((Axis(0.0, 1 / CELLS, CELLS),))
    statistics = MovementStatistics.from_behavior(grid, position, step, state, follows, np.ones(400))
    return Movement(statistics, 2.0, 0.5, 1e-4)


@pytest.fixture(scope="module")
def given() -> ReadoutMass:
    rng = np.random.default_rng(1)
    mass, average = (rng.dirichlet(np.full(CELLS, 0.3), N).astype(np.float32) for _ in range(2))
    start, missing = np.isin(np.arange(N), [0, 25]), np.isin(np.arange(N), [3, 30, 31])
    return ReadoutMass(mass, start, missing, np.full(CELLS, 1 / CELLS), rng.exponential(size=N), average)


def mixture_of(walk: Movement) -> MovementMixture:
    return MovementMixture(
        (
            MovementComponent("none", "product", 0.3, None, Familiarity(0.5, 2.0)),
            MovementComponent("walk", "average", 0.7, walk, Familiarity(0.5, 4.0)),
        )
    )


@pytest.mark.parametrize("smooth", [False, True])
def test_the_posterior_is_the_weighted_mean_of_those_of_the_components(walk, given, smooth):
    found = mixture_of(walk).posterior(given, smooth)
    alone, expected = (
        temper(mass, Familiarity(0.5, power).weight(given.distance), given.occupancy)
        for mass, power in ((given.mass, 2.0), (given.average, 4.0))
    )
    expected = 0.3 * alone + 0.7 * posterior_mass(walk, replace(given, mass=expected), smooth)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-5)


def test_filtering_in_two_pieces_is_filtering_of_all_bins(walk, given):
    mixture = mixture_of(walk)
    whole, last = mixture.filtered(given, [])
    np.testing.assert_array_equal(whole, mixture.posterior(given, False))
    cut, names = 40, ("mass", "start", "missing", "distance", "average")
    pieces = [
        replace(given, **{name: getattr(given, name)[rows] for name in names})
        for rows in (slice(0, cut), slice(cut, None))
    ]
    first, beliefs = mixture.filtered(pieces[0], [])
    second, after = mixture.filtered(pieces[1], beliefs)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, atol=1e-6)
    assert beliefs[0] is None  # every bin by itself has no belief
    np.testing.assert_allclose(after[1], last[1], atol=1e-6)


def test_one_component_is_its_posterior_without_change(walk, given):
    mixture = MovementMixture((MovementComponent("walk", "product", 1.0, walk, Familiarity()),))
    expected = filtered_mass(walk, given, None)[0]
    np.testing.assert_array_equal(mixture.posterior(given, False), expected)
    np.testing.assert_array_equal(MovementMixture.none().posterior(given, True), given.mass)


def test_statistics_are_replaced_where_there_is_a_movement_prior(walk):
    asked = []

    def measure(kind: str) -> MovementStatistics:
        asked.append(kind)
        return walk.statistics.coarsen(2)

    changed = mixture_of(walk).with_statistics(measure)
    assert asked == ["walk"]
    assert changed.components[0].movement is None
    assert changed.components[1].movement.statistics.grid.shape == (CELLS // 2,)
    assert changed.weights == {"none": 0.3, "walk": 0.7}


def test_a_saved_mixture_decodes_as_before(walk, given):
    mixture = mixture_of(walk)
    again = MovementMixture.from_state(mixture.to_state())
    np.testing.assert_array_equal(again.posterior(given, True), mixture.posterior(given, True))
