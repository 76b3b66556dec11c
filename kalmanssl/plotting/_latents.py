"""Figures of latents and of the observation noise that the model estimates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.data import Latents
from kalmanssl.errors import InputError
from kalmanssl.plotting._color_maps import cyclic_colors, sequential_colors
from kalmanssl.plotting._style import (
    BLUE,
    GREEN,
    MUTED,
    add_color_bar,
    add_legend,
    axes_or_new,
)
from kalmanssl.plotting._time_labels import label_time
from kalmanssl.utils.arrays import as_floats
from kalmanssl.utils.labels import label_text
from kalmanssl.utils.segments import break_at_gaps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "explained_variance", "latent_axis_label", "plot_latents", "plot_log_likelihood", "plot_noise", "principal_axes",
]  # fmt: skip


def plot_latents(
    latents: np.ndarray | Latents,
    color: np.ndarray,
    *,
    dims: tuple[int, int] = (0, 1),
    name: str = "position",
    unit: str = "",
    period: float | None = None,
    labels: Sequence[Any] | None = None,
    explained: Sequence[float] | np.ndarray | None = None,
    color_bar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw two dimensions of the latents as points, colored by behavior.

    Parameters
    ----------
    latents : (time, dims), or Latents
        Of `Latents` the posterior means along their principal axes.
    color : (time,)
        Behavior in the same bins; bins where it is NaN are not drawn.
    dims : (int, int)
        Columns of `latents` to draw.
    name, unit : str
        Name and unit of the behavior, for the color bar.
    period : float, optional
        Period of circular behavior, which gets a cyclic color map.
    labels : sequence, optional
        Names of the labels if `color` has numbers of labels, from 0 on; each label has one color.
    explained : (dims,), optional
        Share of the variance along each column of `latents`, for the axes; found from `Latents`.
    color_bar : bool
    ax : Axes, optional

    Raises
    ------
    InputError
        If `color` is not one number for each bin.
    """
    ax = axes_or_new(ax)
    color = as_floats("color", color)
    if color.shape != (len(latents),):
        raise InputError(f"color must have the shape ({len(latents)},), not {color.shape}", parameter="color")
    if isinstance(latents, Latents):
        mean = latents.mean - latents.mean.mean(axis=0)
        directions = principal_axes(mean, dims=max(dims) + 1)
        values, explained = mean @ directions, explained_variance(mean, directions)
    else:
        values = np.asarray(latents)
    known = np.isfinite(color)
    colors, low, high = (sequential_colors(), None, None) if period is None else (cyclic_colors(), 0.0, period)
    if labels is not None:
        colors, low, high = sequential_colors().resampled(len(labels)), -0.5, len(labels) - 0.5
    points = ax.scatter(
        values[known, dims[0]],
        values[known, dims[1]],
        c=color[known] if period is None else color[known] % period,
        s=5,
        cmap=colors,
        vmin=low,
        vmax=high,
        linewidths=0,
        rasterized=True,
    )
    ax.set(xlabel=latent_axis_label(dims[0], explained), ylabel=latent_axis_label(dims[1], explained))
    ax.set_aspect("equal", adjustable="datalim")
    if color_bar:
        bar = add_color_bar(points, ax, name, unit)
        if labels is not None and len(labels) <= 20:
            bar.set_ticks(range(len(labels)), labels=[label_text(label) for label in labels])
    return ax


def plot_noise(time: np.ndarray | Latents, variance: np.ndarray | None = None, ax: Axes | None = None) -> Axes:
    """Draw the standard deviation of the observation noise: the median over channels, and 10 to 90 % of them.

    Lines are interrupted at gaps in time.

    Parameters
    ----------
    time : (time,), or Latents
        Seconds. `Latents` have both.
    variance : (time, channels)
    ax : Axes, optional

    Raises
    ------
    InputError
        If `variance` is missing.
    """
    ax = axes_or_new(ax)
    if isinstance(time, Latents):
        latents = time
        time, variance = latents.time, latents.noise
    if variance is None:
        raise InputError("variance is missing: give (time, channels), or Latents", parameter="variance")
    quantiles = np.quantile(np.sqrt(variance), [0.1, 0.5, 0.9], axis=1)
    time, low, middle, high = break_at_gaps(time, *quantiles)
    ax.fill_between(time, low, high, color=GREEN, alpha=0.25, linewidth=0, label="10 to 90 % of channels")
    ax.plot(time, middle, color=GREEN, lw=1.2, label="median channel")
    label_time(ax, time)
    ax.set_ylabel("noise sd")
    ax.set_ylim(bottom=0)
    add_legend(ax, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.1)
    return ax


def plot_log_likelihood(
    time: np.ndarray | Latents, log_likelihood: np.ndarray | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the log-likelihood of each bin given the bins before it, and its median as a dashed line.

    The line is interrupted at gaps in time.

    Parameters
    ----------
    time : (time,), or Latents
        Seconds. `Latents` have both.
    log_likelihood : (time,)
        Nats.
    ax : Axes, optional

    Raises
    ------
    InputError
        If `log_likelihood` is missing.
    """
    ax = axes_or_new(ax)
    if isinstance(time, Latents):
        latents = time
        time, log_likelihood = latents.time, latents.log_likelihood
    if log_likelihood is None:
        raise InputError("log_likelihood is missing: give (time,), or Latents", parameter="log_likelihood")
    ax.plot(*break_at_gaps(time, log_likelihood), color=BLUE, lw=0.8)
    ax.axhline(float(np.nanmedian(log_likelihood)), color=MUTED, lw=1, ls="--")
    label_time(ax, time)
    ax.set(ylabel="log-lik. (nats per bin)", xlim=(time[0], time[-1]))
    return ax


def principal_axes(mean: np.ndarray, where: np.ndarray | None = None, dims: int = 3) -> np.ndarray:
    """Compute the directions of the largest variance of latents (PCA), with a reproducible sign.

    Parameters
    ----------
    mean : (time, state)
    where : (time,) bool, optional
        Bins to use.
    dims : int
        Number of directions.

    Returns
    -------
    (state, dims)
        Orthonormal columns; the entry of largest magnitude in each is positive.
    """
    chosen = mean if where is None or not where.any() else mean[where]
    _, _, rows = np.linalg.svd(chosen - chosen.mean(axis=0), full_matrices=False)
    rows = rows[:dims]
    largest = np.abs(rows).argmax(axis=1)
    return (rows * np.sign(rows[np.arange(len(rows)), largest])[:, None]).T


def explained_variance(mean: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Compute the share of the variance of latents along directions.

    Parameters
    ----------
    mean : (time, state)
    directions : (state, dims)
        Orthonormal columns, as from `principal_axes`.

    Returns
    -------
    (dims,)
        Between 0 and 1; 0 for latents that are constant.
    """
    centered = mean - mean.mean(axis=0)
    total = float((centered**2).sum())
    return np.asarray(((centered @ directions) ** 2).sum(axis=0) / (total or 1.0))


def latent_axis_label(dim: int, explained: Sequence[float] | np.ndarray | None = None) -> str:
    """Return the label of the axis of one dimension of the latents, such as "latent axis 1 (34 % of variance)".

    Parameters
    ----------
    dim : int
        From 0 on.
    explained : (dims,), optional
        Share of the variance along each dimension.
    """
    name = f"latent axis {dim + 1}"
    return name if explained is None else f"{name} ({100 * explained[dim]:.2g} % of variance)"
