"""Data of a figure of latents in three dimensions, which a script of the report draws and rotates."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from kalmanssl.plotting import cyclic_colors, sequential_colors

__all__ = ["latents_3d"]

_COLORS = 64  # of the palette; a finer one cannot be told apart


def latents_3d(
    latents: np.ndarray, color: np.ndarray, labels: list[str], period: float | None
) -> dict[str, Any] | None:
    """Return the data of the script `latents_3d.js`; None with fewer than three dimensions or without known colors.

    Parameters
    ----------
    latents : (points, dims)
        Centered. The first three dimensions are drawn at the same scale.
    color : (points,)
        Behavior; points where it is NaN are left out.
    labels : list of str
        Labels of the first three axes.
    period : float or None
        Period of circular behavior, which gets the cyclic color map.
    """
    from matplotlib.colors import to_hex

    known = np.isfinite(color)
    if latents.shape[1] < 3 or not known.any():
        return None
    points, value = latents[known, :3], np.asarray(color, dtype=float)[known]
    low, width = (float(value.min()), float(np.ptp(value))) if period is None else (0.0, float(period))
    share = (value - low) / (width or 1.0)
    share = share % 1.0 if period is not None else share
    palette = (sequential_colors() if period is None else cyclic_colors())(np.linspace(0.0, 1.0, _COLORS))
    index = np.minimum((share * _COLORS).astype(int), _COLORS - 1).astype(np.uint8)
    # A few points far away would leave no room for the others.
    size = float(np.quantile(np.linalg.norm(points, axis=1), 0.995)) or 1.0
    scaled = np.round(np.clip(points / size, -1.0, 1.0) * 32767).astype("<i2")
    return {
        "points": base64.b64encode(scaled.tobytes()).decode(),
        "colors": base64.b64encode(index.tobytes()).decode(),
        "palette": [to_hex(one) for one in palette],
        "labels": labels,
    }
