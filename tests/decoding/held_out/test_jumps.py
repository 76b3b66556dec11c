"""Jumps of the movement prior, chosen on held-out bins."""

from __future__ import annotations

import numpy as np
import pytest

from kalmanssl.decoding.grids import Axis, Grid
from kalmanssl.decoding.held_out import HeldOutMass, MovementSettings, choose_movement
from kalmanssl.decoding.movement import Familiarity, MovementStatistics, ReadoutMass

N, BLOCKS = 4000, 20
GRID = Grid((Axis(0.0, 1 / 48, 48),))
CENTERS = GRID.axes[0].centers


def _walk() -> tuple[np.ndarray, MovementStatistics]:
    """A slow walk between the ends, and its statistics."""
    rng = np.random.default_rng(0)
    place = np.cumsum(rng.normal(0, 0.01, N))
    truth = np.abs((place + 1) % 2 - 1)[:, None]
    step = np.diff(truth, axis=0, prepend=truth[:1])
    state, follows = np.zeros(N, dtype=int), np.arange(N) > 0
    return truth, MovementStatistics.from_behavior(GRID, truth, step, state, follows, np.ones(N))


def _held_out(truth: np.ndarray, read: np.ndarray) -> HeldOutMass:
    """Distributions around the places (time,) that a readout finds."""
    mass = np.exp(-0.5 * ((CENTERS - read[:, None]) / 0.1) ** 2) + 1e-3
    mass = (mass / mass.sum(axis=1, keepdims=True)).astype(np.float32)
    block = np.arange(N) * BLOCKS // N
    start, missing = np.arange(N) == 0, np.zeros(N, dtype=bool)
    return HeldOutMass(ReadoutMass(mass, start, missing), ~missing, truth, np.ones(N), block)


@pytest.mark.parametrize("smooth", [False, True])
def test_without_evidence_for_jumps_a_burst_of_another_place_does_not_move_the_posterior(smooth: bool) -> None:
    truth, statistics = _walk()
    read = truth[:, 0] + np.random.default_rng(1).normal(0, 0.1, N)
    settings = MovementSettings(kinds=("walk",))
    choice = choose_movement(GRID, {"walk": [statistics]}, [_held_out(truth, read)], smooth, settings, Familiarity())
    (component,) = choice.mixture.components
    assert component.movement is not None
    assert component.movement.jump < 1e-5

    resting = np.full((N, 1), 0.05)
    burst = np.full(N, 0.05)
    burst[500:506] = 0.95
    held_out = _held_out(resting, burst)
    held_out.readout.mass[506:] = 1 / 48  # then the activity says nothing
    posterior = choice.mixture.posterior(held_out.readout, smooth)
    assert posterior[499:512, CENTERS > 0.5].sum(axis=1).max() < 0.5


@pytest.mark.parametrize("smooth", [False, True])
def test_jumps_are_more_probable_where_the_behavior_jumps(smooth: bool) -> None:
    _, statistics = _walk()
    rng = np.random.default_rng(2)
    truth = np.repeat(rng.uniform(0, 1, N // 20), 20)[:, None]  # a new place every 20 bins
    read = truth[:, 0] + rng.normal(0, 0.1, N)
    settings = MovementSettings(kinds=("walk",))
    choice = choose_movement(GRID, {"walk": [statistics]}, [_held_out(truth, read)], smooth, settings, Familiarity())
    (component,) = choice.mixture.components
    assert component.movement is not None
    assert component.movement.jump > 1e-3
