"""Nominal levels of intervals, and the levels of the quantiles that predictions are stored as."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.utils.validation import short_repr

__all__ = ["LEVELS", "QUANTILE_LEVELS", "by_level", "check_level", "quantile_weights"]

_TAIL = np.array([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04])
QUANTILE_LEVELS = np.concatenate([_TAIL, np.linspace(0.05, 0.95, 37), 1 - _TAIL[::-1]])  # that `predict` returns
LEVELS = (0.5, 0.8, 0.95)  # of the intervals in tables and scores


def check_level(level: float, name: str = "level") -> None:
    """Raise `InputError` unless `level` is a number inside (0, 1)."""
    if not (isinstance(level, Real) and 0 < level < 1):
        message = f"{name}={short_repr(level)} must be a number between 0 and 1, such as 0.95"
        raise InputError(message, parameter=name)


def by_level(values: Iterable[float]) -> dict[str, float]:
    """Return values at `LEVELS` by the name of the level, "50", "80" and "95"."""
    return {f"{100 * level:g}": float(value) for level, value in zip(LEVELS, values, strict=True)}


def quantile_weights(levels: np.ndarray, q: float) -> tuple[int, float]:
    """Return the index of the level at or above `q`, and its weight in the interpolation with the level before it."""
    right = int(np.clip(np.searchsorted(levels, q), 1, len(levels) - 1))
    low, high = levels[right - 1], levels[right]
    return right, float(np.clip((q - low) / (high - low), 0, 1))
