"""Figures of the errors of decoded behavior by time and by place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.plotting._color_maps import sequential_colors
from kalmanssl.plotting._style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    add_color_bar,
    add_legend,
    axes_or_new,
    label_axis,
)
from kalmanssl.plotting._time_labels import label_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_error_by_place", "plot_error_by_time", "plot_error_map"]

_LEGEND = {"loc": "lower left", "bbox_to_anchor": (-0.1, 1), "ncols": 3, "fontsize": 8, "columnspacing": 1.0}
_LINES = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"))  # color and mark, so that lines differ without colors, too


def plot_error_by_time(
    time: np.ndarray,
    error: np.ndarray,
    names: Sequence[str] = ("",),
    *,
    reference: float | None = None,
    unit: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw the median error of blocks of time.

    If the largest error is more than twice the 95th percentile of the blocks, the axis ends before it, and an arrow and
    a number mark each larger one.

    Parameters
    ----------
    time : (blocks,)
        Seconds.
    error : (blocks,) or (blocks, groups)
        NaN where a block has no bins of a group.
    names : sequence of str
        Names of the groups, such as "running" and "at rest", for the legend.
    reference : float, optional
        Median error of decoding from the occupancy alone, drawn as a dashed line.
    unit : str
        Unit of the error.
    ax : Axes, optional
    """
    ax = axes_or_new(ax)
    columns = np.asarray(error, dtype=float).reshape(len(time), -1).T
    for values, name, (color, mark) in zip(columns, names, _LINES, strict=False):
        if np.isfinite(values).any():
            ax.plot(time, values, color=color, marker=mark, ms=3.5, lw=1.1, label=name or None)
    _add_reference(ax, reference)
    label_time(ax, time)
    label_axis(ax.yaxis, "median error", unit)
    ax.set_ylim(bottom=0)
    limit = _limit_of_usual(columns)
    if limit is not None:
        top = 1.2 * max(limit, reference if reference is not None and np.isfinite(reference) else 0.0)
        ax.set_ylim(top=top)
        for values, (color, _) in zip(columns, _LINES, strict=False):
            _mark_above(ax, time, values, top, color)
    if ax.get_legend_handles_labels()[0]:
        add_legend(ax, **_LEGEND)
    return ax


def plot_error_by_place(
    place: np.ndarray,
    quartiles: np.ndarray,
    *,
    reference: float | None = None,
    name: str = "position",
    unit: str = "",
    error_unit: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the median error, and half of the errors around it, by the tracked behavior.

    Parameters
    ----------
    place : (cells,)
        Centers of cells of the behavior.
    quartiles : (cells, 3)
        25 %, 50 % and 75 % quantile of the error; NaN where a cell has few bins.
    reference : float, optional
        Median error of decoding from the occupancy alone, drawn as a dashed line.
    name, unit : str
        Name and unit of the behavior.
    error_unit : str, optional
        Unit of the errors, if it is not that of the behavior.
    ax : Axes, optional
    """
    ax = axes_or_new(ax)
    low, middle, high = np.asarray(quartiles, dtype=float).T
    ax.fill_between(place, low, high, color=BLUE, alpha=0.25, linewidth=0, label="half of the bins")
    ax.plot(place, middle, color=BLUE, lw=1.4, marker="o", ms=3, label="median")
    _add_reference(ax, reference)
    label_axis(ax.xaxis, f"tracked {name}", unit)
    label_axis(ax.yaxis, "error", unit if error_unit is None else error_unit)
    ax.set_ylim(bottom=0)
    add_legend(ax, **_LEGEND)
    return ax


def plot_error_map(
    edges: np.ndarray, error: np.ndarray, *, unit: str = "", error_unit: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the median error by a tracked position in x and y.

    If the largest error is more than twice the 95th percentile of the cells, the colors end there.

    Parameters
    ----------
    edges : (2, cells + 1)
        Edges of the cells along x and along y.
    error : (cells, cells)
        Along x, then y; NaN where a cell has few bins.
    unit : str
        Unit of the position.
    error_unit : str, optional
        Unit of the errors, if it is not that of the position.
    ax : Axes, optional
    """
    ax = axes_or_new(ax)
    limit = _limit_of_usual(error)
    largest = np.nanmax(error) if np.isfinite(error).any() else 1.0
    image = ax.pcolormesh(
        edges[0], edges[1], np.ma.masked_invalid(error.T), cmap=sequential_colors(), vmin=0,
        vmax=largest if limit is None else limit, rasterized=True,
    )  # fmt: skip
    shown = unit if error_unit is None else error_unit
    add_color_bar(image, ax, "median error", shown, extend="neither" if limit is None else "max")
    ax.set_aspect("equal", adjustable="datalim")  # another box would move labels out of the figure
    label_axis(ax.xaxis, "x", unit)
    label_axis(ax.yaxis, "y", unit)
    return ax


def _limit_of_usual(error: np.ndarray) -> float | None:
    """Return the 95th percentile of errors if the largest one is more than twice as large, and None otherwise.

    A few huge errors, such as of one detour, would leave one color or one height for all others.
    """
    known = error[np.isfinite(error)]
    usual = float(np.quantile(known, 0.95)) if len(known) else 0.0
    return usual if usual > 0 and known.max() > 2 * usual else None


def _mark_above(ax: Axes, time: np.ndarray, error: np.ndarray, top: float, color: str) -> None:
    """Mark the blocks of time whose error is above the end of the axis, with the error as text."""
    for at, value in zip(time, error, strict=True):
        if value > top:
            ax.plot(at, 0.97 * top, "^", color=color, ms=6, mec=INK, mew=0.6)
            ax.annotate(
                f"{value:.3g}", (at, 0.97 * top), xytext=(6, -3), textcoords="offset points", color=INK, fontsize=8
            )


def _add_reference(ax: Axes, reference: float | None) -> None:
    if reference is not None and np.isfinite(reference):
        ax.axhline(reference, color=MUTED, lw=1, ls="--", label="occupancy alone")
