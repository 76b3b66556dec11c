"""The continuous ranked probability score of distributions that are given by quantiles."""

from __future__ import annotations

import numpy as np

from kalmanssl.errors import InputError

__all__ = ["quantile_crps"]


def quantile_crps(quantiles: np.ndarray, levels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Compute the continuous ranked probability score of distributions given by their quantiles.

    The score is twice the integral of the pinball loss over the level, with the quantile function linear between
    `levels` and constant outside them (Gneiting & Raftery 2007, JASA 102:359, Eqs. 20 and 35 ff.).

    Parameters
    ----------
    quantiles : (time, levels)
        Not decreasing along the last axis.
    levels : (levels,)
        Increasing, inside [0, 1].
    truth : (time,)

    Returns
    -------
    (time,)
        In the unit of `truth`.

    Raises
    ------
    InputError
        If the shape of `quantiles` is not (time, levels).
    """
    if quantiles.shape != (len(truth), len(levels)):
        raise InputError(
            f"quantiles {quantiles.shape} must have a row for each of {len(truth)} bins "
            f"and a column for each of {len(levels)} levels",
            parameter="quantiles",
        )
    levels = np.concatenate([[0.0], levels, [1.0]])
    quantiles = np.concatenate([quantiles[:, :1], quantiles, quantiles[:, -1:]], axis=1)
    # The pinball loss at level p is (q - y) * (1[y < q] - p). Both factors are linear in p within a piece, except in
    # the piece that contains the truth, where the indicator changes inside.
    width = np.diff(levels)
    left, right = quantiles[:, :-1] - truth[:, None], quantiles[:, 1:] - truth[:, None]
    p, r = levels[:-1], levels[1:]
    weighted = width * (left * (2 * p + r) + right * (p + 2 * r)) / 6  # integral of (q - y) p
    rise = right - left
    inside = (left < 0) & (right > 0)
    above = np.where(left >= 0, (left + right) / 2, 0.0)
    above = np.where(inside, right**2 / (2 * np.where(inside, rise, 1.0)), above)
    return 2 * np.sum(width * above - weighted, axis=1)
