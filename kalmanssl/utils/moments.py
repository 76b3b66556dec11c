"""Properties of long data that are computed in pieces, without copies of all of the data in double precision."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

__all__ = ["are_whole_numbers", "column_moments", "row_slices", "standardized"]

_PIECE = 1 << 14  # rows


def row_slices(n_rows: int) -> Iterator[slice]:
    """Iterate over slices of consecutive rows that cover all of them."""
    for start in range(0, n_rows, _PIECE):
        yield slice(start, min(start + _PIECE, n_rows))


def column_moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the standard deviation of each column of values (rows, columns), float64."""
    mean = values.mean(0, dtype=np.float64)
    squares = np.zeros(values.shape[1])
    for rows in row_slices(len(values)):
        squares += ((values[rows] - mean) ** 2).sum(0)
    return mean, np.sqrt(squares / len(values))


def standardized(values: np.ndarray, mean: np.ndarray, scale: np.ndarray | float) -> np.ndarray:
    """Return values (rows, columns) minus the mean and divided by the scale of each column or of all, float32."""
    result = np.empty(values.shape, dtype=np.float32)
    for rows in row_slices(len(values)):
        result[rows] = (values[rows] - mean) / scale
    return result


def are_whole_numbers(values: np.ndarray) -> bool:
    """Return whether all values (rows, columns) are whole numbers."""
    return all(bool((values[rows] == np.round(values[rows])).all()) for rows in row_slices(len(values)))
