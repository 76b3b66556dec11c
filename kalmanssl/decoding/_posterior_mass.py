"""Posterior over a grid from the distributions of a readout and a movement prior, in one pass over time or two."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from kalmanssl.decoding._state_space import Transition, backward, forward

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


def posterior_mass(
    movement: MovementPrior | None, mass: np.ndarray, start: np.ndarray, missing: np.ndarray, smooth: bool
) -> np.ndarray:
    """Return the posterior over the grid (time, *shape) from the distributions of a readout.

    Parameters
    ----------
    movement : MovementPrior or None
        Without a movement prior every bin is decoded by itself.
    mass : (time, *shape)
    start, missing : (time,) bool
        First bins of segments, and bins without latents.
    smooth : bool
        Whether to use later bins, too.
    """
    if movement is None or not smooth:
        return filtered_mass(movement, mass, start, missing, None)[0]
    likelihood = movement.likelihood(mass)
    likelihood[missing] = 1.0
    transition = movement.transition()
    result = np.empty(mass.shape, dtype=np.float32)
    borders = [*np.flatnonzero(start).tolist(), len(mass)]
    first = 0
    for stop in borders[1:]:
        if stop - first < _ROWS and stop != len(mass):
            continue  # several short segments at a time
        rows = slice(first, stop)
        filtered = forward(likelihood[rows], start[rows], transition)
        smoothed = backward(filtered, likelihood[rows], start[rows], transition)
        result[rows] = smoothed.sum(axis=1).reshape(result[rows].shape)
        first = stop
    return result


def filtered_mass(
    movement: MovementPrior | None,
    mass: np.ndarray,
    start: np.ndarray,
    missing: np.ndarray,
    belief: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the filtered posterior over the grid (time, *shape), and the belief of the last bin.

    Parameters
    ----------
    movement, mass, start, missing
        As for `posterior_mass`.
    belief : (states, rows, columns) or None
        Filtered distribution of the bin before the first one, which then continues its segment.
    """
    if movement is None:
        return mass, None
    start = start.copy()
    start[:1] = belief is None
    transition = movement.transition()
    result = np.empty(mass.shape, dtype=np.float32)
    for first in range(0, len(mass), _ROWS):
        rows = slice(first, first + _ROWS)
        likelihood = movement.likelihood(mass[rows])
        likelihood[missing[rows]] = 1.0
        filtered = forward(likelihood, start[rows], transition, belief)
        belief = filtered[-1].astype(float)
        result[rows] = filtered.sum(axis=1).reshape(result[rows].shape)
    return result, belief
