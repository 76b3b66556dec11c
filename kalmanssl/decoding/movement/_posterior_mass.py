"""Posterior over a grid from the distributions of a readout and a movement prior, in one pass over time or two."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from kalmanssl.decoding.movement._readout_mass import ReadoutMass
from kalmanssl.decoding.movement._state_space import Transition, backward, forward

__all__ = ["MovementPrior", "filtered_mass", "posterior_mass"]

_ROWS = 20_000  # bins that are handled at a time, so that memory does not grow with the recording


class MovementPrior(Protocol):
    """What `posterior_mass` requires of a movement prior."""

    def transition(self) -> Transition:
        """Return one step of the prior."""
        ...

    def likelihood(self, mass: np.ndarray) -> np.ndarray:
        """Return the likelihood of each cell (time, rows, columns) from the readout's distribution."""
        ...


def posterior_mass(movement: MovementPrior | None, given: ReadoutMass, smooth: bool) -> np.ndarray:
    """Return the posterior over the grid (time, *shape) from the distributions `mass` of a readout.

    Parameters
    ----------
    movement : MovementPrior or None
        Without a movement prior every bin is decoded by itself.
    given : ReadoutMass
    smooth : bool
        Whether to use later bins, too.
    """
    mass, start = given.mass, given.start
    if movement is None or not smooth or len(mass) == 0:
        return filtered_mass(movement, given, None)[0]
    transition = movement.transition()
    pieces = list(range(0, len(mass), _ROWS))
    beliefs: list[np.ndarray | None] = [None]  # before each piece
    for first in pieces[:-1]:
        rows = slice(first, first + _ROWS)
        filtered = forward(_likelihood(movement, given, rows), start[rows], transition, beliefs[-1])
        beliefs.append(filtered[-1].astype(float))
    result = np.empty(mass.shape, dtype=np.float32)
    message = np.ones(transition.prior.shape, dtype=np.float32)
    for first, belief in zip(reversed(pieces), reversed(beliefs), strict=True):
        rows = slice(first, first + _ROWS + 1)  # with the first bin of the piece after it, to which `message` belongs
        likelihood = _likelihood(movement, given, rows)
        filtered = forward(likelihood, start[rows], transition, belief)
        smoothed = backward(filtered, likelihood, start[rows], transition, message)
        own = result[first : first + _ROWS]
        own[:] = smoothed[: len(own)].sum(axis=1).reshape(own.shape)
    return result


def _likelihood(movement: MovementPrior, given: ReadoutMass, rows: slice) -> np.ndarray:
    """Return the likelihood of some bins; constant where latents are missing."""
    likelihood = movement.likelihood(given.mass[rows])
    likelihood[given.missing[rows]] = 1.0
    return likelihood


def filtered_mass(
    movement: MovementPrior | None, given: ReadoutMass, belief: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the filtered posterior over the grid (time, *shape), and the belief of the last bin.

    Parameters
    ----------
    movement, given
        As for `posterior_mass`.
    belief : (states, rows, columns) or None
        Filtered distribution of the bin before the first one, which then continues its segment.
    """
    if movement is None:
        return given.mass, None
    start = given.start.copy()
    start[:1] = belief is None
    transition = movement.transition()
    result = np.empty(given.mass.shape, dtype=np.float32)
    for first in range(0, len(result), _ROWS):
        rows = slice(first, first + _ROWS)
        filtered = forward(_likelihood(movement, given, rows), start[rows], transition, belief)
        belief = filtered[-1].astype(float)
        result[rows] = filtered.sum(axis=1).reshape(result[rows].shape)
    return result, belief
