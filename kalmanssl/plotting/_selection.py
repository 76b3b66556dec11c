"""Figure of a model selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kalmanssl.plotting._color_maps import sequential_colors
from kalmanssl.plotting._style import BLUE, GREEN, INK, MUTED, ORANGE, add_legend, axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_selection"]


def plot_selection(
    candidates: Sequence[Mapping[str, Any]],
    difference: np.ndarray,
    standard_error: np.ndarray,
    chosen: int,
    ax: Axes | None = None,
) -> Axes:
    """Draw the difference of each candidate from the best one with its standard error, and a ring around the choice.

    The horizontal axis is the first parameter whose values are different numbers; the candidates with the same other
    parameters are connected. If there is no such parameter, each candidate has a label.

    Parameters
    ----------
    candidates : sequence of dict
        Parameters of each candidate.
    difference, standard_error : (candidates,)
        Nats per bin; NaN where there is none.
    chosen : int
        Index of the chosen candidate.
    ax : Axes, optional
    """
    ax = axes_or_new(ax)
    difference, error = np.asarray(difference, dtype=float), np.nan_to_num(np.asarray(standard_error, dtype=float))
    varied = [name for name in candidates[0] if len({repr(c.get(name)) for c in candidates}) > 1]
    axis = next((name for name in varied if all(_is_number(c.get(name)) for c in candidates)), None)
    ax.axhline(0, color=MUTED, lw=0.5)
    if axis is None:
        x = np.arange(len(candidates), dtype=float)
        ax.errorbar(x, difference, error, color=BLUE, fmt="o", ms=4, lw=1.2)
        ax.set_xticks(x, ["\n".join(_settings(c, varied)) for c in candidates])
    else:
        x = np.array([float(c[axis]) for c in candidates])
        # A parameter that is a function of the first one, such as state_dim = 2 latent_dim, does not divide the groups.
        other = [name for name in varied if name != axis and not _follows(candidates, name, axis)]
        labels = [", ".join(_settings(c, other)) for c in candidates]
        for label, color in zip(dict.fromkeys(labels), _colors(len(set(labels))), strict=True):
            group = np.array([i for i in np.argsort(x, kind="stable") if labels[i] == label])
            line = {"color": color, "marker": "o", "ms": 4, "lw": 1.2, "label": label or None}
            ax.errorbar(x[group], difference[group], error[group], **line)
        ax.set_xlabel(axis)
        if any(labels):
            add_legend(ax, loc="lower right")
    ax.plot(x[chosen], difference[chosen], "o", ms=11, mfc="none", mec=INK, mew=1.2)
    ax.set_ylabel("predictive gain minus that of the best\n(nats per bin)")
    return ax


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _follows(candidates: Sequence[Mapping[str, Any]], name: str, axis: str) -> bool:
    """Whether the value of one parameter is determined by that of another."""
    pairs = {(repr(c.get(axis)), repr(c.get(name))) for c in candidates}
    return len(pairs) == len({value for value, _ in pairs})


def _settings(candidate: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [f"{name}={candidate[name]}" for name in names if name in candidate]


def _colors(count: int) -> list[Any]:
    """Return the three colors of the figures, or as many as needed from a color map."""
    if count <= 3:
        return [BLUE, ORANGE, GREEN][:count]
    return list(sequential_colors()(np.linspace(0, 1, count)))
