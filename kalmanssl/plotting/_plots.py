"""Pictures of a recording, its latents and what was decoded from them.

Every function draws one picture into an `Axes`, its own if none is given, and returns it. Nothing touches the global
state of pyplot, so that they can be called from a server or a thread; `axes.figure.savefig(...)` writes a file. The
colors are those of Okabe and Ito, which people with any color vision can tell apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BLUE",
    "GREEN",
    "INK",
    "MUTED",
    "ORANGE",
    "calibration",
    "confusion",
    "decoded_band",
    "eigenvalues",
    "figure_of",
    "latent_path",
    "new_axes",
    "noise",
    "raster",
    "training",
]

BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
# Odd values on purpose: the report finds them in the SVG and lets them follow a light or dark page.
INK, MUTED = "#1b1c1e", "#85888c"


def new_axes(width: float = 4.4, height: float = 3.6, rows: Sequence[float] = (1,), **layout: Any) -> list[Axes]:
    """Make a figure outside pyplot with axes below one another, of the given relative heights, that share time.

    Parameters
    ----------
    width, height : float
        Inches.
    rows : sequence of float
        Relative height of each axes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), 1, sharex=True, squeeze=False, height_ratios=list(rows), **layout)[:, 0]
    for one in axes:
        _quiet(one)
    return list(axes)


def _quiet(axes: Axes) -> None:
    """Leave only the lines that a reader needs."""
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)
    axes.tick_params(colors=INK, which="both", color=MUTED)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.title.set_color(INK)


def figure_of(axes: Axes) -> Figure:
    """Return the whole figure that axes are in."""
    figure = axes.get_figure(root=True)
    if figure is None:
        raise InputError("the axes are in no figure: make them with new_axes()")
    return figure


def _own(axes: Axes | None) -> Axes:
    return new_axes()[0] if axes is None else axes


def _legend(axes: Axes, **where: Any) -> None:
    axes.legend(frameon=False, labelcolor=INK, **where)


def _named(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name


def raster(counts: np.ndarray, time: np.ndarray, order: np.ndarray | None = None, axes: Axes | None = None) -> Axes:
    """Draw a mark in every bin in which a unit fired, one row per unit.

    Parameters
    ----------
    counts : (time, units)
    time : (time,)
        Seconds.
    order : (units,) int, optional
        Which unit stands in which row, from the bottom (see `kalmanssl.runs.order_by_peak`).
    axes : Axes, optional
    """
    axes = _own(axes)
    counts = np.asarray(counts)
    if counts.ndim != 2 or len(counts) != len(time):
        raise InputError(f"counts has shape {counts.shape} and time {np.shape(time)}: give (time, units) and (time,)")
    ordered = counts if order is None else counts[:, order]
    rows, bins = np.nonzero(ordered.T > 0)
    mark = np.full((len(bins), 3, 2), np.nan)  # from, to, and the pen up: one path is a small picture
    mark[:, :2, 0] = np.asarray(time)[bins, None]
    mark[:, :2, 1] = rows[:, None] + np.array([0.6, 1.4])
    axes.plot(*mark.reshape(-1, 2).T, color=INK, lw=0.9, solid_capstyle="butt")
    axes.set(ylim=(0, counts.shape[1] + 1), ylabel="unit")
    return axes


def decoded_band(
    time: np.ndarray,
    mean: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    truth: np.ndarray | None = None,
    *,
    where: np.ndarray | None = None,
    level: float = 0.95,
    name: str = "position",
    unit: str = "",
    period: float | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw one dimension of decoded behavior with its interval, and what happened.

    Parameters
    ----------
    time, mean, lower, upper : (time,)
    truth : (time,), optional
        NaN where it was not tracked.
    where : (time,) bool, optional
        Bins that the decoder is meant for (running); what is decoded elsewhere is drawn faint.
    level : float
        Of the interval, for the legend.
    name, unit : str
        Of the behavior, for the axis.
    period : float, optional
        Of circular behavior: lines are broken where they jump across the seam.
    axes : Axes, optional
    """
    axes = _own(axes)
    time = np.asarray(time, dtype=float)
    meant = np.ones(len(time), dtype=bool) if where is None else np.asarray(where, dtype=bool)
    steps = np.diff(time)
    gaps = np.flatnonzero(steps > 1.5 * np.median(steps)) + 1 if len(steps) else np.zeros(0, dtype=int)

    def at_gaps(values: np.ndarray) -> np.ndarray:
        return np.insert(np.asarray(values, dtype=float), gaps, np.nan)

    clock, low, high = np.insert(time, gaps, time[gaps]), at_gaps(lower), at_gaps(upper)
    line = at_gaps(_broken(mean, period))
    inside = np.insert(meant, gaps, False)
    # A faint part goes on to the first bin of the strong one, so that no hole is left between them.
    outside = ~inside | np.roll(~inside, 1) | np.roll(~inside, -1)
    for chosen, fill, stroke, label in ((outside, 0.1, 0.35, ""), (inside, 0.3, 1.0, f"{100 * level:g} % interval")):
        if not chosen.any() or (not label and where is None):
            continue
        for turn in (0.0,) if period is None else (0.0, -period, period):
            band: dict[str, Any] = {"label": label} if label and turn == 0 else {}
            axes.fill_between(clock, low + turn, high + turn, where=chosen, color=BLUE, alpha=fill, lw=0, **band)
        shown = np.where(chosen, line, np.nan)
        drawn: dict[str, Any] = {"label": "decoded"} if label else {}
        axes.plot(clock, shown, color=BLUE, lw=1.3 if label else 0.8, alpha=stroke, **drawn)
    if truth is not None and np.isfinite(truth).any():
        axes.plot(clock, at_gaps(_broken(truth, period)), color=ORANGE, lw=1.3, label="tracked")
    if period is not None:
        axes.set_ylim(0, period)
    axes.set(xlabel="time (s)", ylabel=_named(name, unit))
    if len(time):
        axes.set_xlim(time[0], time[-1])
    _legend(axes, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.1)
    return axes


def _broken(values: np.ndarray, period: float | None) -> np.ndarray:
    values = np.array(values, dtype=float)
    if period is not None:
        values[1:][np.abs(np.diff(values)) > period / 2] = np.nan
    return values


def latent_path(
    latents: np.ndarray,
    color: np.ndarray,
    *,
    dims: tuple[int, int] = (0, 1),
    name: str = "position",
    unit: str = "",
    period: float | None = None,
    color_bar: bool = True,
    axes: Axes | None = None,
) -> Axes:
    """Draw latents as points in a plane, colored by behavior.

    Parameters
    ----------
    latents : (time, dims)
        Such as ``path.mean @ principal_axes(path.mean)``.
    color : (time,)
        Behavior at the same bins; bins where it is NaN are left out.
    dims : (int, int)
        Columns of `latents` to draw.
    name, unit : str
        Of the behavior, for the color bar.
    period : float, optional
        Of circular behavior, for a color scale without an end.
    color_bar : bool
    axes : Axes, optional
    """
    axes = _own(axes)
    known = np.isfinite(color)
    points = axes.scatter(
        latents[known, dims[0]],
        latents[known, dims[1]],
        c=np.asarray(color)[known],
        s=5,
        cmap="viridis" if period is None else "twilight",
        linewidths=0,
        alpha=0.8,
        rasterized=True,
    )
    axes.set(xlabel=f"latent axis {dims[0] + 1}", ylabel=f"latent axis {dims[1] + 1}")
    axes.set_aspect("equal", adjustable="datalim")
    if color_bar:
        bar = axes.figure.colorbar(points, ax=axes, label=_named(name, unit), shrink=0.8)
        bar.ax.tick_params(colors=INK, color=MUTED)
        bar.ax.yaxis.label.set_color(INK)
        bar.outline.set_visible(False)
        bar.ax.collections[-1].set_alpha(1)
    return axes


def noise(time: np.ndarray, variance: np.ndarray, axes: Axes | None = None) -> Axes:
    """Draw the standard deviation of the observation noise that the model assigned, and its spread over channels.

    Parameters
    ----------
    time : (time,)
    variance : (time, channels)
    axes : Axes, optional
    """
    axes = _own(axes)
    low, middle, high = np.quantile(np.sqrt(variance), [0.1, 0.5, 0.9], axis=1)
    axes.fill_between(time, low, high, color=GREEN, alpha=0.25, linewidth=0, label="10 to 90 % of channels")
    axes.plot(time, middle, color=GREEN, lw=1.2, label="median channel")
    axes.set(xlabel="time (s)", ylabel="noise sd")
    axes.set_ylim(bottom=0)
    _legend(axes, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.1)
    return axes


def eigenvalues(A: np.ndarray, axes: Axes | None = None) -> Axes:
    """Draw the eigenvalues of a transition matrix in the complex plane with the unit circle.

    Parameters
    ----------
    A : (state, state)
    axes : Axes, optional
    """
    axes = _own(axes)
    values = np.linalg.eigvals(np.asarray(A, dtype=float))
    turn = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(turn), np.sin(turn), color=MUTED, lw=1)
    axes.axhline(0, color=MUTED, lw=0.5)
    axes.axvline(0, color=MUTED, lw=0.5)
    axes.scatter(values.real, values.imag, s=26, color=BLUE, alpha=0.75, linewidths=0)
    axes.set_aspect("equal")
    axes.set(xlabel="real part", ylabel="imaginary part", xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))
    return axes


def calibration(
    curves: Mapping[str, Mapping[str, Sequence[float]]], level: float = 0.95, axes: Axes | None = None
) -> Axes:
    """Draw how often truth fell inside intervals of every level, with a band of one standard error.

    Parameters
    ----------
    curves : dict of dict
        By name: `nominal`, `empirical` and `error`, as from `kalmanssl.decoding.calibration_curve`.
    level : float
        Level to mark.
    axes : Axes, optional
    """
    axes = _own(axes)
    axes.plot([0, 100], [0, 100], color=MUTED, lw=1, ls="--", label="as promised")
    for (name, curve), color in zip(curves.items(), itertools.cycle((BLUE, ORANGE, GREEN)), strict=False):
        nominal, share, error = (
            100 * np.concatenate([[0], np.asarray(curve[key], dtype=float)])
            for key in ("nominal", "empirical", "error")
        )
        axes.fill_between(nominal, share - error, share + error, color=color, alpha=0.25, linewidth=0)
        axes.plot(nominal, share, color=color, lw=1.6, label=name)
    axes.axvline(100 * level, color=MUTED, lw=0.7, ls=":")
    axes.set(xlabel="promised (% of bins)", ylabel="inside the interval (% of bins)", xlim=(0, 100), ylim=(0, 100))
    axes.set_aspect("equal")
    _legend(axes, loc="upper left")
    return axes


def confusion(
    mean: np.ndarray,
    truth: np.ndarray,
    *,
    name: str = "position",
    unit: str = "",
    cells: int = 40,
    axes: Axes | None = None,
) -> Axes:
    """Draw where decoded behavior lies for every tracked one: each column sums to one.

    Parameters
    ----------
    mean, truth : (time,)
        Bins where the truth is NaN are left out.
    name, unit : str
        Of the behavior, for the axes.
    cells : int
        Cells along each axis.
    axes : Axes, optional
    """
    from matplotlib.colors import to_rgb

    axes = _own(axes)
    known = np.isfinite(truth)
    mean, truth = np.asarray(mean)[known], np.asarray(truth)[known]
    edges = np.linspace(min(mean.min(), truth.min()), max(mean.max(), truth.max()), cells + 1)
    table, _, _ = np.histogram2d(truth, mean, bins=(edges, edges))
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    # One color that fades away, so that it reads on a light and on a dark page.
    color = np.zeros((cells, cells, 4))
    color[..., :3] = to_rgb(BLUE)
    color[..., 3] = np.sqrt(share.T / max(share.max(), 1e-12))
    ends = (edges[0], edges[-1])
    axes.imshow(color, origin="lower", extent=(*ends, *ends), interpolation="nearest")
    axes.plot(ends, ends, color=MUTED, lw=0.8, ls="--")
    axes.set_aspect("equal")
    axes.set(xlabel=_named(f"tracked {name}", unit), ylabel=_named(f"decoded {name}", unit))
    return axes


def training(history: Mapping[str, Sequence[float]], axes: Axes | None = None) -> Axes:
    """Draw the objective after every epoch, on the training part and on the held-out blocks.

    Parameters
    ----------
    history : dict of sequences
        As `KalmanSSL.history_`.
    axes : Axes, optional
    """
    from matplotlib.ticker import MaxNLocator

    axes = _own(axes)
    for key, color, label in (("loss", BLUE, "training part"), ("held_out_loss", ORANGE, "held-out blocks")):
        values = history.get(key, ())
        if len(values):
            axes.plot(1 + np.arange(len(values)), values, color=color, lw=1.4, marker=".", ms=5, label=label)
    axes.set(xlabel="epoch", ylabel="loss (nats per bin)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes, loc="upper right")
    return axes
