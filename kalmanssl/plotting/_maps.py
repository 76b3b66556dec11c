"""Figures of tracked and decoded behavior in two dimensions and on a circle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.decoding import DecodedPosition
from kalmanssl.errors import InputError
from kalmanssl.plotting._decoding import decoded_arrays
from kalmanssl.plotting._style import BLUE, INK, MUTED, ORANGE, add_legend, axes_or_new, label_axis
from kalmanssl.utils.measurement_units import in_degrees
from kalmanssl.utils.segments import gap_starts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_map", "plot_turns"]

_INNER = 0.25  # radius at which time begins
_JUMP = np.pi / 4  # radians between two bins, beyond which lines and intervals are interrupted


def plot_map(
    mean: np.ndarray | DecodedPosition,
    truth: np.ndarray | None = None,
    *,
    regions: np.ndarray | None = None,
    cells: tuple[np.ndarray, np.ndarray] | None = None,
    moments: np.ndarray | None = None,
    level: float = 0.95,
    unit: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw tracked and decoded behavior in x and y, with the regions of some bins.

    Parameters
    ----------
    mean : (time, 2), or DecodedPosition
        Decoded behavior. A `DecodedPosition` also has the regions of the bins in `moments`, by default three.
    truth : (time, 2), optional
        Tracked behavior.
    regions : (moments, x, y) bool, optional
        Cells inside the region of each moment, as from `DecodedPosition.region`.
    cells : two arrays (x,) and (y,), optional
        Centers of the cells.
    moments : (moments,) int, optional
        Bins of the regions. They are marked on both lines.
    level : float
        Nominal level of the regions, for the legend.
    unit : str
    ax : Axes, optional

    Raises
    ------
    InputError
        If `mean` is not (time, 2).
    """
    if np.ndim(mean) != 2 or np.shape(mean)[1] != 2:
        raise InputError(f"mean must be (time, 2), x and y; got shape {np.shape(mean)}", parameter="mean")
    ax = axes_or_new(ax)
    if isinstance(mean, DecodedPosition):
        decoded = mean
        mean, level = decoded.points, decoded.level
        if len(decoded.grids) == 1:
            spread = np.linspace(0, len(decoded) - 1, 5).astype(int)[1:-1]
            moments = spread if moments is None else np.asarray(moments)
            inside = decoded[moments].region().inside  # type: ignore[union-attr]
            regions, cells = inside.values, (inside.x.values, inside.y.values)
    if truth is not None:
        ax.plot(*np.asarray(truth).T, color=ORANGE, lw=1.3, label="tracked")
    ax.plot(*np.asarray(mean).T, color=BLUE, lw=1.0, label="decoded")
    if regions is not None and cells is not None and moments is not None:
        for number, (inside, moment) in enumerate(zip(regions, moments, strict=True)):
            ax.contourf(*cells, inside.T.astype(float), levels=[0.5, 1.5], colors=[BLUE], alpha=0.18)
            ax.contour(*cells, inside.T.astype(float), levels=[0.5], colors=[BLUE], linewidths=0.7)
            label = f"{100 * level:g} % region" if number == 0 else None
            ax.plot(*mean[moment], "o", color=BLUE, ms=6, mec=INK, mew=0.8, label=label)
            if truth is not None:
                ax.plot(*truth[moment], "s", color=ORANGE, ms=6, mec=INK, mew=0.8)
                ax.plot(*np.stack([mean[moment], truth[moment]]).T, color=MUTED, lw=0.8)
    ax.set_aspect("equal", adjustable="datalim")
    label_axis(ax.xaxis, "x", unit)
    label_axis(ax.yaxis, "y", unit)
    add_legend(ax, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8)
    return ax


def plot_turns(
    time: np.ndarray | DecodedPosition,
    mean: np.ndarray | None = None,
    lower: np.ndarray | None = None,
    upper: np.ndarray | None = None,
    truth: np.ndarray | None = None,
    *,
    period: float | None = None,
    level: float = 0.95,
    name: str = "direction",
    unit: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw circular behavior on a circle: the angle is the behavior, and time goes from the center outward.

    Lines never jump at the end of the period. They are interrupted at gaps in time, and where the behavior changes by
    more than an eighth of the period from one bin to the next.

    Parameters
    ----------
    time, mean, lower, upper : (time,)
        Seconds, and the decoded behavior with its interval. The ends of the interval may leave [0, period). Or a
        `DecodedPosition` as the only one of these, which also has the level and the period.
    truth : (time,), optional
        Tracked behavior.
    period : float
        Required without a `DecodedPosition`.
    level : float
        Nominal level of the interval, for the legend.
    name, unit : str
        Name and unit of the behavior.
    ax : Axes, optional

    Raises
    ------
    InputError
        If an array or the period is missing.
    """
    ax = axes_or_new(ax)
    if isinstance(time, DecodedPosition):
        level, period = time.level, time.periods[0]
        time, mean, lower, upper = decoded_arrays(time, 0)
    if mean is None or lower is None or upper is None:
        raise InputError("mean, lower and upper are missing: give all, or a DecodedPosition", parameter="mean")
    if period is None:
        raise InputError("period is missing: the behavior is not circular", parameter="period")
    time = np.asarray(time, dtype=float)
    radius = _INNER + (1 - _INNER) * (time - time[0]) / max(float(time[-1] - time[0]), 1e-9)
    scale = 2 * np.pi / period
    low, high = _without_turns(scale * np.asarray(lower, dtype=float), scale * np.asarray(upper, dtype=float))
    jumps = np.maximum(np.abs(np.diff(low)), np.abs(np.diff(high))) > _JUMP
    breaks = np.union1d(gap_starts(time), np.flatnonzero(jumps) + 1)
    for start, stop in zip([0, *breaks], [*breaks, len(time)], strict=True):
        label = f"{100 * level:g} % interval" if start == 0 else None
        _fill_arcs(ax, radius[start:stop], low[start:stop], high[start:stop], label)
    for values, color, label, width in ((truth, ORANGE, "tracked", 1.4), (mean, BLUE, "decoded", 1.0)):
        if values is not None:
            angle = scale * np.asarray(values, dtype=float)
            change = np.abs((np.diff(angle) + np.pi) % (2 * np.pi) - np.pi)
            pauses = np.union1d(gap_starts(time), np.flatnonzero(change > _JUMP) + 1)
            x, y = (np.insert(radius * way(angle), pauses, np.nan) for way in (np.cos, np.sin))
            ax.plot(x, y, color=color, lw=width, label=label)
    _draw_dial(ax, period, unit)
    span = f"{time[-1] - time[0]:.3g} s from the center outward"
    ax.set(xlabel=f"{name}; {span}", xlim=(-1.25, 1.25), ylim=(-1.2, 1.2))
    add_legend(ax, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8)
    return ax


def _without_turns(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of intervals, in radians, so that those of neighboring bins differ by less than a turn."""
    middle, half = np.unwrap((low + high) / 2), np.minimum((high - low) / 2, np.pi)
    return middle - half, middle + half


def _fill_arcs(ax: Axes, radius: np.ndarray, low: np.ndarray, high: np.ndarray, label: str | None) -> None:
    """Fill the area between the ends of intervals, in radians, along circles."""
    share = np.linspace(0.0, 1.0, 9)[:, None]  # points along each arc
    angle = low + share * (high - low)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    for row in range(len(angle) - 1):
        outline = np.concatenate([np.stack([x[row], y[row]]), np.stack([x[row + 1], y[row + 1]])[:, ::-1]], axis=1)
        ax.fill(*outline, color=BLUE, alpha=0.25, lw=0, label=label if row == 0 else None)


def _draw_dial(ax: Axes, period: float, unit: str) -> None:
    """Draw circles and the names of four directions, without axes."""
    angle = np.linspace(0, 2 * np.pi, 200)
    for radius in (_INNER, 1.0):
        ax.plot(radius * np.cos(angle), radius * np.sin(angle), color=MUTED, lw=0.8)
    sign = f" {unit}" if unit else ""
    if (shown := in_degrees(unit)) is not None:
        factor, sign = shown
        period *= factor
    for quarter in range(4):
        x, y = np.cos(quarter * np.pi / 2), np.sin(quarter * np.pi / 2)
        text = f"{quarter * period / 4:.3g}{sign}"
        ax.text(1.12 * x, 1.08 * y, text, color=INK, ha="center", va="center", fontsize=8)
    ax.set_aspect("equal")
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)
