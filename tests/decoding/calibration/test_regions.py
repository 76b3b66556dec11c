"""Calibration of highest-density regions over a coarse grid, whose cells have much mass."""

from __future__ import annotations

import numpy as np
import pytest

from kalmanssl.decoding.calibration import NOMINAL_LEVELS, RegionCalibration
from kalmanssl.decoding.grids import Axis, Grid, likelier_mass_at
from kalmanssl.decoding.results import GridPosterior

LEVELS = (0.5, 0.8, 0.9, 0.95)
GRID = Grid((Axis(0.0, 1.0, 4), Axis(0.0, 1.0, 5)))


def draw(rng: np.random.Generator, bins: int, power: float) -> tuple[np.ndarray, np.ndarray]:
    """Return distributions (bins, 4, 5), and cells that are drawn from these to a power."""
    mass = rng.dirichlet(np.full(GRID.size, 2.0), bins)
    true = mass**power
    cumulative = np.cumsum(true / true.sum(axis=1, keepdims=True), axis=1)
    cell = (rng.random((bins, 1)) > cumulative).sum(axis=1).clip(max=GRID.size - 1)
    return mass.reshape(bins, *GRID.shape), cell


def contains(mass: np.ndarray, cell: np.ndarray, calibration: RegionCalibration, level: float) -> np.ndarray:
    inside = GridPosterior(GRID, mass, calibration).inside(level)
    return inside.reshape(len(mass), -1)[np.arange(len(mass)), cell]


def test_a_region_contains_the_truth_exactly_if_its_score_is_at_most_the_level() -> None:
    mass, cell = draw(np.random.default_rng(0), 3000, 1.0)
    calibration = RegionCalibration(NOMINAL_LEVELS**2)
    score = calibration.score(likelier_mass_at(mass.reshape(len(mass), -1), cell))
    for level in (0.01, *LEVELS, 0.999):
        np.testing.assert_array_equal(contains(mass, cell, calibration, level), score <= level)


@pytest.mark.parametrize("power", [0.3, 1.0, 1.5])  # the distributions are too narrow, right, too broad
def test_regions_of_new_bins_cover_at_the_nominal_level(power: float) -> None:
    rng = np.random.default_rng(1)
    (mass, cell), new = draw(rng, 20000, power), draw(rng, 20000, power)
    level = likelier_mass_at(mass.reshape(len(mass), -1), cell)
    calibration = RegionCalibration.fit(level, np.arange(len(mass)))
    for nominal in LEVELS:
        coverage = contains(*new, calibration, nominal).mean()
        error = np.sqrt(2 * nominal * (1 - nominal) / len(cell))  # of both the calibration and the new bins
        assert abs(coverage - nominal) < 4 * error


def test_a_region_has_the_likeliest_cell_at_least() -> None:
    mass, cell = draw(np.random.default_rng(2), 1000, 8.0)  # the truth is nearly always in the likeliest cell
    flat = mass.reshape(len(mass), -1)
    calibration = RegionCalibration.fit(likelier_mass_at(flat, cell), np.arange(len(mass)))
    inside = GridPosterior(GRID, mass, calibration).inside(0.1).reshape(len(mass), -1)
    assert inside[np.arange(len(mass)), flat.argmax(axis=1)].all()


def test_coverage_and_area_of_several_levels_are_those_of_the_regions() -> None:
    rng = np.random.default_rng(3)
    mass, cell = draw(rng, 3000, 1.0)
    posterior = GridPosterior(GRID, mass, RegionCalibration(NOMINAL_LEVELS**2))
    truth = np.stack(np.unravel_index(cell, GRID.shape), axis=1) + rng.uniform(size=(len(cell), 2))
    covered, area = posterior.coverage_and_area(LEVELS, truth)
    for number, level in enumerate(LEVELS):
        inside = posterior.inside(level).reshape(len(mass), -1)
        np.testing.assert_array_equal(covered[:, number], inside[np.arange(len(mass)), cell])
        np.testing.assert_array_equal(area[:, number], inside.sum(axis=1))
