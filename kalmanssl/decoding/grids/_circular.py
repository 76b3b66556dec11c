"""Arithmetic of behavior that may be circular: differences, and the inverse of the cosine-sine embedding."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from kalmanssl.utils.circular import Periods, embed_circular, wrap

__all__ = [
    "Periods", "difference", "embed_circular", "turns_towards", "unembed_circular", "wrap", "wrap_to_period",
]  # fmt: skip


def wrap_to_period(behavior: np.ndarray, periods: Periods) -> np.ndarray:
    """Return behavior (time, dims) with circular columns brought to [0, period)."""
    columns = [
        column if period is None else column % period for column, period in zip(behavior.T, periods, strict=True)
    ]
    return np.stack(columns, axis=1)


_Number = TypeVar("_Number", float, np.ndarray)


def turns_towards(point: _Number, low: _Number, high: _Number, period: float) -> _Number:
    """Return the multiple of the period by which an interval is moved, so that its middle is near a point.

    Without it, an interval around the end of the period would be a whole period away from the point that it contains.

    Parameters
    ----------
    point, low, high : float or array of one shape
        Point, and the ends of the interval.
    period : float

    Returns
    -------
    float or array
        A multiple of the period; the middle of the moved interval is within half a period of the point. NaN where an
        input is NaN.
    """
    return period * np.rint((point - (low + high) / 2) / period)


def difference(a: np.ndarray, b: np.ndarray, periods: Periods) -> np.ndarray:
    """Return `a - b` of behavior (..., dims), the short way around on circular dimensions."""
    d = a - b
    return np.stack([wrap(d[..., dim], period) for dim, period in enumerate(periods)], axis=-1)


def unembed_circular(columns: np.ndarray, cov: np.ndarray, periods: Periods) -> tuple[np.ndarray, np.ndarray]:
    """Invert `embed_circular` for means (time, columns) and covariances (time, columns, columns), to first order.

    Returns the values and their variances, both (time, dims).
    """
    values, variances, at = [], [], 0
    for period in periods:
        if period is None:
            values.append(columns[:, at])
            variances.append(cov[:, at, at])
            at += 1
            continue
        cosine, sine = columns[:, at], columns[:, at + 1]
        squared = np.maximum(cosine**2 + sine**2, 1e-12)
        gradient = np.stack([-sine, cosine], axis=1) / squared[:, None] * period / (2 * np.pi)
        values.append(np.arctan2(sine, cosine) * period / (2 * np.pi) % period)
        variances.append(np.einsum("ti,tij,tj->t", gradient, cov[:, at : at + 2, at : at + 2], gradient))
        at += 2
    return np.stack(values, axis=1), np.stack(variances, axis=1)
