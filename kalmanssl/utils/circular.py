"""Circular quantities: differences, means, and embedding by cosine and sine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.utils.validation import check_condition, check_number

__all__ = ["Periods", "check_periods", "circular_mean", "deviations", "embed_circular", "periods_of", "wrap"]

_LARGEST = 1e30

Periods = tuple[float | None, ...]
"""Period of each dimension of the behavior; None for a dimension that is not circular."""


def check_periods(name: str, period: Any) -> None:
    """Check the periods of a behavior: a number, None, or a sequence of these, one for each dimension."""
    for one in period if _is_sequence(period) else (period,):
        if one is not None:
            check_number(name, one)
            check_condition(name, one, 0 < one <= _LARGEST, "positive, or None for a dimension that is not circular")


def periods_of(name: str, period: Any, behavior: str, dims: int) -> Periods:
    """Return the period of each dimension of a behavior, after `check_periods`.

    Parameters
    ----------
    name : str
        Argument with the periods, for messages.
    period : number, None or sequence of these
        One for all dimensions, or one for each.
    behavior : str
        Argument with the behavior, for messages.
    dims : int
    """
    check_periods(name, period)
    periods: Periods = tuple(period) if _is_sequence(period) else (period,) * dims
    if len(periods) != dims:
        message = f"{name} has {len(periods)} entries and {behavior} {dims} dimensions: give one for each"
        raise InputError(message, parameter=name)
    return periods


def _is_sequence(period: Any) -> bool:
    is_sequence = isinstance(period, Sequence | np.ndarray) and not isinstance(period, str | bytes)
    return is_sequence and np.ndim(period) > 0


def wrap(difference: np.ndarray, period: float | None) -> np.ndarray:
    """Bring differences of a circular quantity to [-period/2, period/2); return others (period None) unchanged."""
    if period is None:
        return difference
    return (difference + period / 2) % period - period / 2


def circular_mean(values: np.ndarray, period: float) -> np.ndarray:
    """Return the mean direction of each column of circular values (time, ...), from -period/2 to period/2."""
    angle = 2 * np.pi * values / period
    return np.arctan2(np.sin(angle).mean(axis=0), np.cos(angle).mean(axis=0)) * period / (2 * np.pi)


def deviations(values: np.ndarray, period: float | None) -> np.ndarray:
    """Return the deviations of values (time,) from their mean, or circular mean; 0 for constant values."""
    if np.ptp(values) == 0:  # otherwise the rounding of the mean would be the deviation
        return np.zeros_like(values)
    return wrap(values - (values.mean() if period is None else circular_mean(values, period)), period)


def embed_circular(behavior: np.ndarray, periods: Periods) -> np.ndarray:
    """Replace circular columns by their cosine and sine, (time, dims) to (time, columns)."""
    columns = []
    for values, period in zip(behavior.T, periods, strict=True):
        if period is None:
            columns.append(values)
        else:
            columns += [np.cos(2 * np.pi * values / period), np.sin(2 * np.pi * values / period)]
    return np.stack(columns, axis=1)
