"""Figure of the importance of units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.plotting._style import BLUE, INK, MUTED, add_legend, axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_unit_importance"]

_MAX_NAMES = 40


def plot_unit_importance(
    score: np.ndarray, null_quantile: np.ndarray, unit_ids: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the importance of each unit and a quantile of its null distribution, with the largest score on the left.

    Parameters
    ----------
    score, null_quantile : (units,)
        As in `kalmanssl.units.UnitImportance`.
    unit_ids : sequence of str, optional
        Names; they are written if there are at most 40 units.
    ax : Axes, optional

    Raises
    ------
    InputError
        If the numbers of units differ.
    """
    score, quantile = np.asarray(score, dtype=float), np.asarray(null_quantile, dtype=float)
    if score.shape != quantile.shape or score.ndim != 1 or (unit_ids is not None and len(unit_ids) != len(score)):
        raise InputError("score, null_quantile and unit_ids must have one entry per unit", parameter="score")
    ax = axes_or_new(ax)
    order = np.argsort(-score, kind="stable")
    above, x = score[order] > quantile[order], np.arange(len(score))
    ax.axhline(0, color=MUTED, lw=0.5)
    ax.plot(x, quantile[order], "_", color=INK, ms=6, label="null quantile")
    ax.plot(x[above], score[order][above], "o", color=BLUE, ms=4, label="above it")
    ax.plot(x[~above], score[order][~above], "o", mfc="none", mec=MUTED, ms=4, label="not above it")
    if unit_ids is not None and len(unit_ids) <= _MAX_NAMES:
        ax.set_xticks(x, [str(unit_ids[i]) for i in order], rotation=90, fontsize=7)
    ax.set(xlabel="unit", ylabel="importance")
    add_legend(ax)
    return ax
