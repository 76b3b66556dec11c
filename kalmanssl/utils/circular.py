"""Circular quantities: differences, and embedding by cosine and sine."""

from __future__ import annotations

import numpy as np

__all__ = ["Periods", "embed_circular", "wrap"]

Periods = tuple[float | None, ...]
"""Period of each dimension of the behavior; None for a dimension that is not circular."""


def wrap(difference: np.ndarray, period: float | None) -> np.ndarray:
    """Bring differences of a circular quantity to [-period/2, period/2); return others (period None) unchanged."""
    if period is None:
        return difference
    return (difference + period / 2) % period - period / 2


def embed_circular(behavior: np.ndarray, periods: Periods) -> np.ndarray:
    """Replace circular columns by their cosine and sine, (time, dims) to (time, columns)."""
    columns = []
    for values, period in zip(behavior.T, periods, strict=True):
        if period is None:
            columns.append(values)
        else:
            columns += [np.cos(2 * np.pi * values / period), np.sin(2 * np.pi * values / period)]
    return np.stack(columns, axis=1)
