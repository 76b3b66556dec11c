"""Figures of values that are aligned to events, by condition."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.plotting._style import BLUE, GREEN, INK, MUTED, ORANGE, add_legend, axes_or_new, label_axis
from kalmanssl.utils.arrays import as_array, as_floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_by_condition"]


def plot_by_condition(
    lag: np.ndarray,
    values: Any,
    condition: Any,
    *,
    name: str = "latent",
    unit: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw the mean over the events of each condition, with a band of one standard error.

    Parameters
    ----------
    lag : (lags,)
        Time since the event, seconds.
    values : (events, lags)
        One dimension of aligned latents or of decoded behavior, NaN where there is no bin:
        ``aligned = latents.align_to(events, before=0.5, after=1.0)`` and ``aligned["mean"].sel(state="state_0")``.
    condition : (events,)
        Condition of each event; events with None, NaN or "" are not drawn.
    name, unit : str
        Name and unit of the values, for the axis.
    ax : Axes, optional

    Raises
    ------
    InputError
        If the shapes do not match, or no event has a condition.
    """
    lag, values, condition = as_floats("lag", lag), as_floats("values", values), as_array("condition", condition)
    if values.ndim != 2 or values.shape[1:] != lag.shape:
        raise InputError(
            f"values must be (events, lags) with {lag.size} lags, got shape {values.shape}: select one dimension",
            parameter="values",
        )
    if condition.shape != (len(values),):
        raise InputError(
            f"condition has shape {condition.shape}: give one for each of {len(values)} events", parameter="condition"
        )
    kinds = list(dict.fromkeys(one for one in condition.tolist() if one is not None and one == one and one != ""))
    if not kinds:
        raise InputError("condition is unknown for all events", parameter="condition")
    ax = axes_or_new(ax)
    for kind, color in zip(sorted(kinds, key=str), itertools.cycle((BLUE, ORANGE, GREEN, INK)), strict=False):
        chosen = values[np.array([one == kind for one in condition.tolist()], dtype=bool)]
        count = np.isfinite(chosen).sum(axis=0)
        total = np.nansum(chosen, axis=0)
        mean = np.divide(total, count, out=np.full(lag.shape, np.nan), where=count > 0)
        squares = np.nansum((chosen - mean) ** 2, axis=0)
        error = np.sqrt(np.divide(squares, (count - 1) * count, out=np.full(lag.shape, np.nan), where=count > 1))
        ax.fill_between(lag, mean - error, mean + error, color=color, alpha=0.25, lw=0)
        ax.plot(lag, mean, color=color, lw=1.6, label=f"{kind} ({len(chosen)})")
    ax.axvline(0, color=MUTED, lw=0.7, ls=":")
    ax.set(xlabel="time since the event (s)")
    label_axis(ax.yaxis, name, unit)
    add_legend(ax, loc="best")
    return ax
