"""The probability of all cells or labels that are likelier than one, on which regions and prediction sets are based.

A highest-density region or prediction set of probability m contains the cells or labels for which it is at most m.
It is never empty, since for the likeliest one it is 0. Equal ones are ordered by their number.
"""

from __future__ import annotations

import numpy as np

from kalmanssl.utils.moments import row_slices

__all__ = ["likelier_mass", "likelier_mass_at"]


def likelier_mass(mass: np.ndarray) -> np.ndarray:
    """Return for each cell or label the probability of all that are likelier, (time, cells) as `mass`."""
    order = np.argsort(-mass, axis=1, kind="stable")
    ordered = np.take_along_axis(mass, order, axis=1).astype(float)
    likelier = np.zeros(mass.shape)
    np.put_along_axis(likelier, order[:, 1:], np.cumsum(ordered[:, :-1], axis=1), axis=1)
    return np.minimum(likelier, 1.0)  # in single precision, sums of probabilities can exceed one


def likelier_mass_at(mass: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return the probability of all cells or labels that are likelier than a given one of each bin, (time,).

    Parameters
    ----------
    mass : (time, cells)
    cell : (time,) int
        Number of the cell or label.
    """
    result = np.empty(len(mass))
    number = np.arange(mass.shape[1])
    for rows in row_slices(len(mass)):
        piece, at = mass[rows], cell[rows, None]
        own = np.take_along_axis(piece, at, axis=1)
        likelier = (piece > own) | ((piece == own) & (number < at))
        result[rows] = np.where(likelier, piece, 0).sum(axis=1, dtype=float)
    return np.minimum(result, 1.0)
