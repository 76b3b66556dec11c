"""Figures of decoded behavior."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.decoding import DecodedPosition
from kalmanssl.errors import InputError
from kalmanssl.plotting._style import (
    BLUE,
    GREEN,
    MUTED,
    ORANGE,
    add_legend,
    axes_or_new,
    draw_over_time,
    label_axis,
    transparent_image,
)
from kalmanssl.plotting._time_labels import label_time
from kalmanssl.utils.labels import label_text
from kalmanssl.utils.segments import break_at_gaps, gap_starts
from kalmanssl.utils.validation import check_condition

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "decoded_arrays",
    "plot_calibration",
    "plot_decoded",
    "plot_decoded_against_tracked",
    "plot_label_probabilities",
]


def plot_decoded(
    time: np.ndarray | DecodedPosition,
    mean: np.ndarray | None = None,
    lower: np.ndarray | None = None,
    upper: np.ndarray | None = None,
    truth: np.ndarray | None = None,
    *,
    dim: int = 0,
    where: np.ndarray | None = None,
    level: float = 0.95,
    name: str = "position",
    unit: str = "",
    period: float | None = None,
    hatched: bool = False,
    usual: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one dimension of decoded behavior with its interval, and the tracked behavior.

    Lines and intervals are interrupted at gaps in time.

    Parameters
    ----------
    time, mean, lower, upper : (time,)
        Seconds, and the decoded behavior in its unit. Or a `DecodedPosition` as the only one of these, which also has
        the level and the period: ``plot_decoded(decoded, truth=position)``.
    truth : (time,), or (time, dims) with a `DecodedPosition`, optional
        Tracked behavior; NaN where it is unknown.
    dim : int
        Dimension of a `DecodedPosition` to draw.
    where : (time,) bool, optional
        Bins that the decoder was fitted for (running); other bins are drawn faintly.
    level : float
        Nominal level of the interval, for the legend.
    name, unit : str
        Name and unit of the behavior, for the axis.
    period : float, optional
        Period of circular behavior: all values are drawn between 0 and the period, and lines are interrupted where they
        jump by more than half of it.
    hatched : bool
        Hatch the interval of the bins outside `where`, for intervals that are not calibrated there.
    usual : (float, float), optional
        Range that has the share `level` of the behavior, drawn as dotted lines: the interval without any activity.
    ax : Axes, optional

    Raises
    ------
    InputError
        If `mean`, `lower` or `upper` is missing, or a `DecodedPosition` has no dimension `dim`.
    """
    ax = axes_or_new(ax)
    if isinstance(time, DecodedPosition):
        decoded = time
        time, mean, lower, upper = decoded_arrays(decoded, dim)
        level, period = decoded.level, decoded.periods[dim]
        truth = None if truth is None else np.asarray(truth, dtype=float).reshape(len(time), -1)[:, dim]
    if mean is None or lower is None or upper is None:
        raise InputError("mean, lower and upper are missing: give all, or a DecodedPosition", parameter="mean")
    band, gaps = _Band.of(np.asarray(time, dtype=float), mean, lower, upper, period)
    emphasized = np.ones(len(time), dtype=bool) if where is None else np.asarray(where, dtype=bool)
    inside = np.insert(emphasized, gaps, False)
    if where is not None:
        # The faint part includes one bin of the emphasized part on either side, so that there is no gap between them.
        outside = ~inside | np.roll(~inside, 1) | np.roll(~inside, -1)
        band.draw(ax, outside, opacity=(0.1, 0.35), line_width=0.8, hatched=hatched)
    band.draw(ax, inside, opacity=(0.3, 1.0), line_width=1.3, label=f"{100 * level:g} % interval")
    if truth is not None and np.isfinite(truth).any():
        drawn = np.insert(_within_period(truth, period), gaps, np.nan)
        ax.plot(band.time, drawn, color=ORANGE, lw=1.3, label="tracked")
    for end, label in zip(usual or (), ("occupancy alone", None), strict=False):
        ax.axhline(end, color=MUTED, lw=0.9, ls=":", label=label)
    if period is not None:
        ax.set_ylim(0, period)
    label_time(ax, time)
    label_axis(ax.yaxis, name, unit)
    if len(time):
        ax.set_xlim(time[0], time[-1])
    add_legend(ax, loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.1)
    return ax


def decoded_arrays(decoded: DecodedPosition, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return time, point estimate, and both ends of the interval of one dimension, (time,) each.

    Raises
    ------
    InputError
        If there is no such dimension.
    """
    n_dims = decoded.points.shape[1]
    check_condition("dim", dim, isinstance(dim, int) and 0 <= dim < n_dims, f"a dimension, 0 to {n_dims - 1}")
    lower, upper = (end.reshape(-1, n_dims)[:, dim] for end in decoded.interval(decoded.level))
    return decoded.time, decoded.points[:, dim], lower, upper


@dataclass(frozen=True)
class _Band:
    """Decoded behavior and its interval as they are drawn, (time and gaps,) each, with NaN at gaps.

    Attributes
    ----------
    time, line, low, high : (time and gaps,)
    period : float or None
        Period of circular behavior, whose line is between 0 and the period; the interval can leave this range.
    """

    time: np.ndarray
    line: np.ndarray
    low: np.ndarray
    high: np.ndarray
    period: float | None

    @classmethod
    def of(
        cls, time: np.ndarray, mean: np.ndarray, lower: np.ndarray, upper: np.ndarray, period: float | None
    ) -> tuple[_Band, np.ndarray]:
        """Return the band, and the bins before which it has a gap."""
        gaps = gap_starts(time)
        values = [np.asarray(one, dtype=float) for one in (mean, lower, upper)]
        if period is not None:
            turns = period * np.floor(values[0] / period)
            values = [one - turns for one in values]
            # Where the mean passes zero, the band ends at one edge and begins at the other.
            gaps = np.union1d(gaps, 1 + np.flatnonzero(np.abs(np.diff(values[0])) > period / 2))
        line, low, high = (np.insert(one, gaps, np.nan) for one in values)
        return cls(np.insert(time, gaps, time[gaps]), line, low, high, period), gaps

    def draw(
        self,
        ax: Axes,
        where: np.ndarray,
        opacity: tuple[float, float],
        line_width: float,
        label: str = "",
        hatched: bool = False,
    ) -> None:
        """Draw the chosen bins, with the opacity of the interval and of the line.

        Intervals of circular behavior continue at the other end.
        """
        if not where.any():
            return
        for shift in (0.0,) if self.period is None else (0.0, -self.period, self.period):
            low, high = self.low + shift, self.high + shift
            named: dict[str, Any] = {"label": label} if label and shift == 0 else {}
            ax.fill_between(self.time, low, high, where=where, color=BLUE, alpha=opacity[0], lw=0, **named)
            if hatched:
                style: dict[str, Any] = {"facecolor": "none", "edgecolor": MUTED, "hatch": "////", "lw": 0}
                ax.fill_between(self.time, low, high, where=where, **style)
        named = {"label": "decoded"} if label else {}
        line = np.where(where, self.line, np.nan)
        ax.plot(self.time, line, color=BLUE, lw=line_width, alpha=opacity[1], **named)


def _within_period(values: np.ndarray, period: float | None) -> np.ndarray:
    """Return circular values between 0 and the period, with NaN after jumps of more than half of it."""
    if period is None:
        return np.array(values, dtype=float)
    found = np.asarray(values, dtype=float) % period
    found[1:][np.abs(np.diff(found)) > period / 2] = np.nan
    return found


def plot_calibration(
    curves: Mapping[str, Mapping[str, Sequence[float]]], level: float = 0.95, ax: Axes | None = None
) -> Axes:
    """Draw the share of bins inside the interval against its nominal level, with a band of one standard error.

    Parameters
    ----------
    curves : dict of dict
        By name: `nominal`, `empirical` and `error`, as from `kalmanssl.decoding.calibration_curve`.
    level : float
        Level to mark.
    ax : Axes, optional
    """
    ax = axes_or_new(ax)
    ax.plot([0, 100], [0, 100], color=MUTED, lw=1, ls="--", label="calibrated")
    for (name, curve), color in zip(curves.items(), itertools.cycle((BLUE, ORANGE, GREEN)), strict=False):
        nominal, share, error = (
            100 * np.concatenate([[0], np.asarray(curve[key], dtype=float)])
            for key in ("nominal", "empirical", "error")
        )
        ax.fill_between(nominal, share - error, share + error, color=color, alpha=0.25, linewidth=0)
        ax.plot(nominal, share, color=color, lw=1.6, label=name)
    ax.axvline(100 * level, color=MUTED, lw=0.7, ls=":")
    ax.set(xlabel="nominal level (%)", ylabel="inside the interval (% of bins)", xlim=(0, 100), ylim=(0, 100))
    ax.set_aspect("equal")
    add_legend(ax, loc="upper left")
    return ax


def plot_decoded_against_tracked(
    mean: np.ndarray,
    truth: np.ndarray,
    *,
    name: str = "position",
    unit: str = "",
    period: float | None = None,
    cells: int = 40,
    ax: Axes | None = None,
) -> Axes:
    """Draw the distribution of decoded behavior for every tracked value; each column sums to one.

    Parameters
    ----------
    mean, truth : (time,)
        Decoded behavior, also as a `DecodedPosition`, and tracked behavior; bins where `truth` is NaN are left out.
    name, unit : str
        Name and unit of the behavior, for the axes.
    period : float, optional
        Period of circular behavior: all values are drawn between 0 and the period.
    cells : int
        Number of cells along each axis.
    ax : Axes, optional
    """
    ax = axes_or_new(ax)
    known = np.isfinite(truth)
    mean, truth = np.asarray(mean)[known], np.asarray(truth)[known]
    if period is None:
        edges = np.linspace(min(mean.min(), truth.min()), max(mean.max(), truth.max()), cells + 1)
    else:
        mean, truth, edges = mean % period, truth % period, np.linspace(0, period, cells + 1)
    table, _, _ = np.histogram2d(truth, mean, bins=(edges, edges))
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    ends = (edges[0], edges[-1])
    image = transparent_image(np.sqrt(share.T / max(share.max(), 1e-12)))
    ax.imshow(image, origin="lower", extent=(*ends, *ends), interpolation="nearest")
    ax.plot(ends, ends, color=MUTED, lw=0.8, ls="--")
    ax.set_aspect("equal")
    ax.locator_params(nbins=6, min_n_ticks=3)  # of small figures, more labels would overlap
    label_axis(ax.xaxis, f"tracked {name}", unit)
    label_axis(ax.yaxis, f"decoded {name}", unit)
    return ax


def plot_label_probabilities(
    time: np.ndarray,
    probability: np.ndarray,
    labels: Sequence[Any],
    truth: np.ndarray | None = None,
    *,
    name: str = "label",
    ax: Axes | None = None,
) -> Axes:
    """Draw the probability of each label over time as opacity, and the true label as a line.

    Parameters
    ----------
    time : (time,)
        Seconds; gaps are left blank.
    probability : (time, labels)
    labels : sequence
        Names of the labels.
    truth : (time,), optional
        Number of the true label; NaN where it is unknown.
    name : str
        Name of the behavior, for the axis.
    ax : Axes, optional
    """
    ax = axes_or_new(ax)
    time = np.asarray(time, dtype=float)
    draw_over_time(ax, time, np.asarray(probability, dtype=float), first=0)
    ax.set(ylim=(-0.5, len(labels) - 0.5))
    if truth is not None:
        drawn_time, drawn = break_at_gaps(time, truth)
        ax.plot(drawn_time, drawn, color=ORANGE, linewidth=1.2, label=f"true {name}")
        add_legend(ax, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1)  # the image has any color
    label_time(ax, time)
    ax.set_ylabel(name)
    if len(labels) <= 20:
        ax.set_yticks(range(len(labels)), [label_text(label) for label in labels])
    return ax
