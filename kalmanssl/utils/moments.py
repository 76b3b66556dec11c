"""Long data: subsets of rows, and properties that are computed without copies of all rows in double precision."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

__all__ = ["MAD_TO_SD", "are_whole_numbers", "column_moments", "evenly_spaced", "row_slices", "standardized"]

MAD_TO_SD = 1.4826  # standard deviation of a Gaussian in units of its median absolute deviation
_PIECE = 1 << 14  # rows


def row_slices(n_rows: int) -> Iterator[slice]:
    """Iterate over slices of consecutive rows that cover all of them."""
    for start in range(0, n_rows, _PIECE):
        yield slice(start, min(start + _PIECE, n_rows))


def evenly_spaced(n_rows: int, most: int) -> np.ndarray:
    """Return the indices of at most `most` of the rows, evenly spaced; the first one and, of several, the last one."""
    return np.arange(n_rows) if n_rows <= most else np.linspace(0, n_rows - 1, most).astype(int)


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
