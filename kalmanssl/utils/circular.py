"""Differences of circular quantities."""

from __future__ import annotations

import numpy as np

__all__ = ["wrap"]


def wrap(difference: np.ndarray, period: float | None) -> np.ndarray:
    """Bring differences of a circular quantity to [-period/2, period/2); return others (period None) unchanged."""
    if period is None:
        return difference
    return (difference + period / 2) % period - period / 2
