"""Labels of an axis of time: of a clock with many digits, as that of Unix, only the last ones are at the ticks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["label_time", "time_origin"]

_LONG_CLOCK = 1e6  # seconds, from which on a time has too many digits for a tick
_ROUND = 1000.0  # seconds, to which the time that is subtracted is rounded


def time_origin(time: np.ndarray) -> float:
    """Return the time that is subtracted at the ticks of an axis of times (time,), seconds; 0 for most recordings."""
    first = float(time[0]) if len(time) else 0.0
    return math.floor(first / _ROUND) * _ROUND if abs(first) >= _LONG_CLOCK else 0.0


def label_time(ax: Axes, time: np.ndarray) -> None:
    """Label the horizontal axis as time in seconds.

    Parameters
    ----------
    ax : Axes
    time : (time,)
        Times that are drawn, seconds. If they are a million or more, the ticks are the time after a round number, which
        the label names.
    """
    from matplotlib.ticker import FuncFormatter

    origin = time_origin(np.asarray(time, dtype=float))
    if origin:
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value - origin:.6g}"))
        ax.set_xlabel(f"time (s) after {origin:.0f} s")
    else:
        ax.ticklabel_format(axis="x", useOffset=False)
        ax.set_xlabel("time (s)")
