"""Arithmetic of behavior that may be circular: differences, and the inverse of the cosine-sine embedding."""

from __future__ import annotations

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


def turns_towards(points: np.ndarray, low: np.ndarray, high: np.ndarray, periods: Periods) -> np.ndarray:
    """Return what to add to intervals so that their middles are within half a period of the points.

    Otherwise an interval around the end of the period would be a whole period away from the point that it contains.

    Parameters
    ----------
    points, low, high : (time, dims)
        Points, and the ends of the intervals.
    periods : tuple of float or None

    Returns
    -------
    (time, dims)
        Whole multiples of the period; zero on dimensions that are not circular.
    """
    away = points - (low + high) / 2
    columns = [
        np.zeros(len(away)) if period is None else period * np.round(away[:, dim] / period)
        for dim, period in enumerate(periods)
    ]
    return np.nan_to_num(np.stack(columns, axis=1))


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
