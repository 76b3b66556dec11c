"""Figures of latents on a ring: the two dimensions of a rotation, and its phase over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.plotting._color_maps import sequential_colors
from kalmanssl.plotting._latents import plot_latents
from kalmanssl.plotting._style import BLUE, MUTED, axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_phase", "plot_ring"]


def plot_ring(
    coordinates: np.ndarray,
    color: np.ndarray,
    *,
    name: str = "position",
    unit: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw states in the two dimensions of a rotation, colored by behavior, with the circle of mean radius.

    Parameters
    ----------
    coordinates : (time, 2)
        `RingScores.coordinates` of `kalmanssl.probes`, or the bins of it to draw.
    color : (time,)
        Behavior in the same bins; bins where it is NaN are not drawn.
    name, unit : str
        Name and unit of the behavior, for the color bar.
    ax : Axes, optional
    """
    ax = plot_latents(coordinates, color, name=name, unit=unit, ax=ax)
    angle = np.linspace(0, 2 * np.pi, 200)
    radius = np.linalg.norm(coordinates[np.isfinite(color)], axis=1).mean()
    ax.plot(radius * np.cos(angle), radius * np.sin(angle), color=MUTED, lw=1)
    ax.plot([0], [0], marker="+", color=MUTED)
    ax.set(xlabel="rotation, real part", ylabel="rotation, imaginary part")
    return ax


def plot_phase(time: np.ndarray, phase: np.ndarray, color: np.ndarray | None = None, ax: Axes | None = None) -> Axes:
    """Draw the phase of a rotation over time, as points.

    Parameters
    ----------
    time : (time,)
        Seconds.
    phase : (time,)
        Radians, from -pi to pi.
    color : (time,), optional
        Behavior in the same bins, with the colors of `plot_ring`; bins where it is NaN are not drawn.
    ax : Axes, optional
    """
    ax = axes_or_new(ax)
    known = np.isfinite(color) if color is not None else slice(None)
    points = {"color": BLUE} if color is None else {"c": np.asarray(color)[known], "cmap": sequential_colors()}
    ax.scatter(np.asarray(time)[known], np.asarray(phase)[known], s=5, linewidths=0, rasterized=True, **points)
    ax.set(xlabel="time (s)", ylabel="phase", ylim=(-np.pi, np.pi))
    ax.set_yticks([-np.pi, 0, np.pi], ["−π", "0", "π"])
    return ax
