"""Posterior over a grid from the distributions of a readout and a movement prior, in one pass over time or two."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from kalmanssl.decoding.movement._readout_mass import ReadoutMass
from kalmanssl.decoding.movement._state_space import Transition, backward, forward
from kalmanssl.kalman.kernels import has_compiler

__all__ = ["MovementPrior", "filtered_mass", "posterior_marginals", "posterior_mass"]

_ROWS = 20_000  # bins that are smoothed at a time, so that memory does not grow with the recording
_FILTERED_ROWS = 512  # bins that are filtered at a time, so that they stay in the cache of the processor


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
    if movement is None:
        return given.mass
    result = np.empty(given.mass.shape, dtype=np.float32)
    for rows, posterior in _posterior_pieces(movement, given, smooth):
        result[rows] = posterior.sum(axis=1).reshape(result[rows].shape)
    return result


def posterior_marginals(
    movement: MovementPrior | None, given: ReadoutMass, smooth: bool, chosen: np.ndarray
) -> list[np.ndarray]:
    """Return the marginals of the posterior along each axis of the grid in some bins, list of (chosen bins, cells).

    Parameters
    ----------
    movement, given, smooth
        As for `posterior_mass`.
    chosen : (time,) bool
        The bins.
    """
    shape, n_chosen = given.mass.shape[1:], np.append(0, np.cumsum(chosen))
    if movement is None:
        return _marginals(given.mass[chosen][:, None], len(shape))
    result = [np.empty((n_chosen[-1], n_cells), dtype=np.float32) for n_cells in shape]
    for rows, posterior in _posterior_pieces(movement, given, smooth):
        own = posterior if chosen[rows].all() else posterior[chosen[rows]]
        into = slice(n_chosen[rows.start], n_chosen[rows.stop])
        for marginal, part in zip(result, _marginals(own, len(shape)), strict=True):
            marginal[into] = part
    return result


def _marginals(posterior: np.ndarray, n_axes: int) -> list[np.ndarray]:
    """Return the marginals of distributions (bins, states, rows, columns) along the axes of the grid."""
    if n_axes == 1:
        return [posterior.sum(axis=1).reshape(len(posterior), math.prod(posterior.shape[2:]))]
    bins, states, n_rows, n_columns = posterior.shape
    if not has_compiler():
        return [posterior.sum(axis=(1, 3)), posterior.sum(axis=(1, 2))]
    from kalmanssl.decoding.movement._plane_kernels import marginal_kernel

    along_rows, along_columns = np.empty((bins, n_rows), np.float32), np.empty((bins, n_columns), np.float32)
    mass = np.ascontiguousarray(posterior, dtype=np.float32).ravel()
    marginal_kernel(mass, states, along_rows, along_columns)
    return [along_rows, along_columns]


def _posterior_pieces(movement: MovementPrior, given: ReadoutMass, smooth: bool) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the posterior of pieces of the bins (bins, states, rows, columns), in any order, and which bins they are.

    A posterior is used up before the next one is computed.
    """
    if not smooth:
        yield from _filtered_pieces(movement, given, given.start, None)
        return
    n_bins, start, transition = len(given.mass), given.start, movement.transition()
    pieces = list(range(0, n_bins, _ROWS))
    beliefs: list[np.ndarray | None] = [None]  # before each piece
    for first in pieces[:-1]:
        rows = slice(first, first + _ROWS)
        filtered = forward(_likelihood(movement, given, rows), start[rows], transition, beliefs[-1])
        beliefs.append(filtered[-1].astype(float))
    message = np.ones(transition.prior.shape, dtype=np.float32)
    for first, belief in zip(reversed(pieces), reversed(beliefs[: len(pieces)]), strict=True):
        rows = slice(first, first + _ROWS + 1)  # with the first bin of the piece after it, to which `message` belongs
        likelihood = _likelihood(movement, given, rows)
        filtered = forward(likelihood, start[rows], transition, belief)
        smoothed = backward(filtered, likelihood, start[rows], transition, message, overwrite=True)
        own = slice(first, min(first + _ROWS, n_bins))
        yield own, smoothed[: own.stop - own.start]


def _filtered_pieces(
    movement: MovementPrior, given: ReadoutMass, start: np.ndarray, belief: np.ndarray | None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield filtered posteriors as `_posterior_pieces`, in order of time, after a bin with a belief."""
    transition = movement.transition()
    for first in range(0, len(given.mass), _FILTERED_ROWS):
        rows = slice(first, min(first + _FILTERED_ROWS, len(given.mass)))
        filtered = forward(_likelihood(movement, given, rows), start[rows], transition, belief)
        belief = filtered[-1].astype(float)
        yield rows, filtered


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
    result = np.empty(given.mass.shape, dtype=np.float32)
    for rows, filtered in _filtered_pieces(movement, given, start, belief):
        result[rows] = filtered.sum(axis=1).reshape(result[rows].shape)
        belief = filtered[-1].astype(float)
    return result, belief
