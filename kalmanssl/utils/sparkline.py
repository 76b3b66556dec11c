"""Small pictures of numbers over time, for notebooks."""

from __future__ import annotations

import numpy as np

__all__ = ["sparkline"]

_WIDTH, _HEIGHT = 280, 40  # pixels
_POINTS = 140
_COLOR = "#3b8fc4"  # legible on white and on black


def sparkline(
    values: np.ndarray, low: np.ndarray | None = None, high: np.ndarray | None = None, period: float | None = None
) -> str:
    """Draw numbers over time as a line, with a band if there is one, as SVG.

    Evenly distributed values of long recordings are drawn. The line is interrupted where values are not finite, and
    where circular ones jump by more than half the period.

    Parameters
    ----------
    values, low, high : (time,)
    period : float, optional
        Range of the picture for circular values.

    Returns
    -------
    str
        Empty if no value is finite.
    """
    ends = [np.asarray(values if end is None else end, dtype=float) for end in (values, low, high)]
    shown = np.unique(np.linspace(0, max(len(ends[0]) - 1, 0), _POINTS).round().astype(int))
    middle, lower, upper = (end[shown] if len(end) else end for end in ends)
    known = np.isfinite(middle) & np.isfinite(lower) & np.isfinite(upper)
    if not known.any():
        return ""
    bottom, top = (0.0, period) if period is not None else (float(lower[known].min()), float(upper[known].max()))
    x = np.linspace(1, _WIDTH - 1, len(middle))

    def height(value: float) -> float:
        share = (value - bottom) / (top - bottom) if top > bottom else 0.5
        return _HEIGHT - 2 - (_HEIGHT - 4) * min(max(share, 0.0), 1.0)

    jumps = np.zeros(len(middle), dtype=bool)
    if period is not None:
        jumps[1:] = np.abs(np.diff(middle)) > period / 2
    line, bands = "", ""
    starts = np.flatnonzero(known & (~np.roll(known, 1) | jumps | (np.arange(len(known)) == 0)))
    for start in starts:
        stop = start + 1
        while stop < len(known) and known[stop] and not jumps[stop]:
            stop += 1
        points = [f"{x[i]:.1f},{height(middle[i]):.1f}" for i in range(start, stop)]
        line += f"M{'L'.join(points)}" + ("h.1" if len(points) == 1 else "")
        if low is not None or high is not None:
            above = [f"{x[i]:.1f},{height(upper[i]):.1f}" for i in range(start, stop)]
            below = [f"{x[i]:.1f},{height(lower[i]):.1f}" for i in reversed(range(start, stop))]
            bands += f"M{'L'.join(above + below)}Z"
    band = f'<path d="{bands}" fill="{_COLOR}" fill-opacity="0.3"/>' if bands else ""
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{band}'
        f'<path d="{line}" fill="none" stroke="{_COLOR}" stroke-width="1.2"/></svg>'
    )
