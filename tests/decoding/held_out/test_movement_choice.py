"""Choice of the movement prior on held-out bins."""

import numpy as np
import pytest

from kalmanssl.decoding.grids import Grid
from kalmanssl.decoding.held_out import HeldOutMass, MovementSettings, choose_movement
from kalmanssl.decoding.held_out._mass import mean_by_block, mean_crps
from kalmanssl.decoding.movement import Familiarity, Movement, MovementStatistics, ReadoutMass

BINS, BLOCKS = 1000, 20
GRID = Grid.from_behavior(np.linspace(0, 1, 100)[:, None], (None,), (48,), 0.0)


@pytest.fixture(scope="module")
def walk() -> tuple[HeldOutMass, MovementStatistics]:
    """A slow walk between the ends of a line, and Gaussian likelihoods that are wrong for many bins in a row."""
    rng = np.random.default_rng(0)
    position = 0.5 + 0.4 * np.sin(np.cumsum(0.02 + 0.02 * rng.normal(size=BINS)))[:, None]
    error = np.convolve(rng.normal(size=BINS + 19), np.full(20, 0.05), mode="valid")
    center = (np.arange(48) + 0.5) / 48
    mass = np.exp(-0.5 * ((center - position - 0.5 * error[:, None]) / 0.1) ** 2)
    mass = (mass / mass.sum(axis=1, keepdims=True)).astype(np.float32)
    start, never = np.arange(BINS) == 0, np.zeros(BINS, dtype=bool)
    block = np.arange(BINS) * BLOCKS // BINS
    held_out = HeldOutMass(ReadoutMass(mass, start, never), ~never, position, np.ones(BINS), block)
    moved = np.diff(position, axis=0, prepend=position[:1])
    statistics = MovementStatistics.from_behavior(
        GRID, position, moved, np.zeros(BINS, dtype=int), ~start, np.ones(BINS)
    )
    return held_out, statistics


def choose(walk, **settings):
    held_out, statistics = walk
    chosen = MovementSettings(**({"kinds": ("none", "walk")} | settings))
    return choose_movement(GRID, {"walk": [statistics]}, [held_out], True, chosen, Familiarity())


def choose_walk(walk, **settings) -> Movement:
    (component,) = choose(walk, kinds=("walk",), **settings).mixture.components
    return component.movement


def test_the_settings_are_a_mean_of_the_candidates_and_decode_as_well_as_the_best_of_them(walk):
    held_out = walk[0]
    choice = choose(walk)
    (component,) = choice.mixture.components
    assert component.kind == "walk"
    assert 1.0 <= component.movement.width_factor <= 16.0
    assert 0.025 <= component.movement.power <= 1.6
    posterior = choice.mixture.posterior(held_out.readout, True)
    score = mean_by_block([mean_crps([posterior[held_out.scored]], GRID, held_out)], [held_out])
    np.testing.assert_allclose(choice.score, score)  # the score is that of the settings that are used
    singles = [
        choose(walk, kinds=("walk",), width_factors=(width,), powers=(power,), jumps=(1e-4,)).score.sum()
        for width in (1.0, 4.0)
        for power in (0.05, 0.2)
    ]
    assert choice.score.sum() < 1.02 * min(singles)


def test_a_candidate_that_is_the_best_in_all_blocks_is_used_without_change(walk):
    found = choose_walk(walk, width_factors=(4.0,), powers=(0.2, 1e-6), jumps=(1e-4,))
    assert (found.width_factor, found.power) == (4.0, 0.2)


def test_a_setting_with_one_candidate_keeps_it(walk):
    movement = choose_walk(walk, width_factors=(3.0,), jumps=(1e-3,))
    assert (movement.width_factor, movement.jump) == (3.0, 1e-3)


def test_candidates_that_are_about_equally_good_are_averaged(walk):
    """Two widths are each better in some blocks, so the mean is between them; one power is better in all."""
    movement = choose_walk(walk, width_factors=(4.0, 6.0), powers=(0.05, 0.8), jumps=(1e-4,))
    assert 4.01 < movement.width_factor < 5.99
    assert movement.power == 0.05


def test_the_same_bins_give_the_same_choice(walk):
    first, second = choose(walk), choose(walk)
    for one, other in zip(first.mixture.components, second.mixture.components, strict=True):
        assert one.weight == other.weight
        assert one.familiarity == other.familiarity
    assert np.array_equal(first.score, second.score)
