"""Figures of a recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.data import Recording
from kalmanssl.errors import InputError
from kalmanssl.plotting._style import INK, axes_or_new, draw_over_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["order_by_peak", "plot_raster"]

_N_INTERVALS = 40  # of position, in which firing rates are computed


def plot_raster(
    counts: np.ndarray | Recording,
    time: np.ndarray | None = None,
    order: np.ndarray | None = None,
    signal: bool | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a mark for every bin in which a unit fired, one row per unit; signals are drawn in shades.

    Parameters
    ----------
    counts : (time, units), or Recording
        Spike counts, or signals such as dF/F. A recording also has the time.
    time : (time,)
        Seconds.
    order : (units,) int, optional
        Index of the unit in each row, from bottom to top; see `order_by_peak`.
    signal : bool, optional
        Draw each unit in shades from its 5 % quantile (white) to its 99 % quantile. By default if there are negative
        values.
    ax : Axes, optional

    Raises
    ------
    InputError
        If `counts` and `time` do not have these shapes.
    """
    from matplotlib.ticker import MaxNLocator

    if isinstance(counts, Recording):
        recording = counts
        counts, time = recording.activity, recording.time
    if time is None:
        raise InputError("time is missing: give (time,), or a Recording", parameter="time")
    counts = np.asarray(counts)
    if counts.ndim != 2 or len(counts) != len(time):
        raise InputError(
            f"counts has shape {counts.shape} and time {np.shape(time)}: give (time, units) and (time,)",
            parameter="counts",
        )
    ax = axes_or_new(ax)
    ordered = counts if order is None else counts[:, order]
    if bool((ordered < 0).any()) if signal is None else signal:
        low, high = np.nanquantile(ordered, [0.05, 0.99], axis=0)
        shades = np.clip((ordered - low) / np.where(high > low, high - low, 1.0), 0.0, 1.0)
        draw_over_time(ax, np.asarray(time, dtype=float), np.nan_to_num(shades), first=1)
    else:
        _draw_marks(ax, ordered, np.asarray(time))
    ax.set(ylim=(0, counts.shape[1] + 1), ylabel="unit")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def _draw_marks(ax: Axes, counts: np.ndarray, time: np.ndarray) -> None:
    """Draw a mark wherever counts (time, units) are positive."""
    rows, bins = np.nonzero(counts.T > 0)
    # Bottom, top and NaN, which ends the mark: a single line for all marks keeps the file small.
    marks = np.full((len(bins), 3, 2), np.nan)
    marks[:, :2, 0] = time[bins, None]
    marks[:, :2, 1] = rows[:, None] + np.array([0.6, 1.4])
    ax.plot(*marks.reshape(-1, 2).T, color=INK, lw=0.9, solid_capstyle="butt")


def order_by_peak(counts: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Order units by the position of their highest firing rate.

    Rates are computed in 40 equal intervals of position, and smoothed over neighboring ones.

    Parameters
    ----------
    counts : (time, units)
        Spike counts.
    position : (time,)
        NaN where it is unknown.

    Returns
    -------
    (units,) int
        Indices of the units; in their original order if the position is unknown or constant.
    """
    known = np.isfinite(position)
    if not known.any() or np.ptp(position[known]) == 0:
        return np.arange(counts.shape[1])
    edges = np.linspace(position[known].min(), position[known].max(), _N_INTERVALS + 1)
    interval = np.clip(np.digitize(position[known], edges) - 1, 0, _N_INTERVALS - 1)
    spikes = np.zeros((_N_INTERVALS, counts.shape[1]))
    np.add.at(spikes, interval, counts[known])
    rate = spikes / np.maximum(np.bincount(interval, minlength=_N_INTERVALS), 1)[:, None]
    kernel = np.exp(-0.5 * (np.arange(-3, 4) / 1.5) ** 2)
    smooth = np.apply_along_axis(np.convolve, 0, rate, kernel, "same")
    return np.argsort(smooth.argmax(axis=0), kind="stable")
