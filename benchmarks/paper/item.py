"""What an item of the paper is: the runs that it needs, the figures that are compared, and how they are judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from parallel import Logger
from results_store import Row

__all__ = ["MET", "MISSED", "NO_NUMBER", "PRESETS", "Item", "Part", "Rows", "Target", "judge", "values_of"]

PRESETS = {"tiny": 1, "quick": 3, "full": 5}
"""Presets with their numbers of seeds."""

MET, MISSED, NO_NUMBER = "met", "not met", "no published number"

LARGEST_SPREAD = 2  # times the tolerance

Rows = Mapping[str, Sequence[Row]]
"""Rows of the runs that did not fail or collapse, one for each seed, by the name of the part."""


@dataclass(frozen=True)
class Part:
    """One kind of run; several items can use the same one.

    Attributes
    ----------
    name : str
        Name among the parts of all items.
    run : callable
        `run(preset, seed, logger)` returns a flat dictionary of numbers, and optionally `drawn` with what is drawn.
    settings : mapping
        What the run depends on, by preset, as JSON types. A row with other settings is run again.
    seeds : int or None
        Largest number of seeds in the presets `tiny` and `quick`, and of stored rows; None for that of the preset.
    source : str
        Where the numbers come from if they are read from the results of another suite.
    long : bool
        Whether a run takes minutes; such runs come after all others.
    """

    name: str
    run: Callable[[str, int, Logger | None], Row]
    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds: int | None = None
    source: str = ""
    long: bool = False

    def n_seeds(self, preset: str, seeds: int | None = None) -> int:
        """Return the number of seeds in a preset, or with `seeds` as the number of the preset."""
        count = seeds or PRESETS[preset]
        is_stored = bool(self.source) and "full" not in self.settings  # also in `full`, without more seeds
        return min(count, self.seeds) if self.seeds is not None and (preset != "full" or is_stored) else count


@dataclass(frozen=True)
class Target:
    """One number of the paper, or of a theorem, and the figure of a run that it is compared with.

    Attributes
    ----------
    label : str
        What the number is.
    part, figure : str
        Name of the part and of the entry of its rows.
    published : float, (float, float) or None
        Number or range in the paper; None if there is none.
    source : str
        Where the published number comes from.
    kind : {"at least", "at most", "equal"}
        Whether higher, lower or no other numbers than the published one are as good.
    tolerance : float
        Difference that is always accepted, for example that of rounding or of numbers read off a plot.
    goal : float or None
        Number that this package should reach where the paper has none.
    baseline : (str, str) or None
        Name of a part and entry of its rows: random weights, principal components or a linear method.
    why : str
        Why the number is not met or there is none, or what has to be known to compare.
    """

    label: str
    part: str
    figure: str
    published: float | tuple[float, float] | None = None
    source: str = ""
    kind: Literal["at least", "at most", "equal"] = "at least"
    tolerance: float = 0.01
    goal: float | None = None
    baseline: tuple[str, str] | None = None
    why: str = ""


@dataclass(frozen=True)
class Item:
    """A figure or a table of the paper.

    Attributes
    ----------
    name : str
        Name on the command line.
    figure, title : str
        Number in the paper, and heading.
    shown : str
        What the paper shows.
    parts : tuple of Part
    targets : tuple of Target
    draw : callable
        Returns the figures of the page from the rows by the name of the part; parts without rows are missing.
    found : callable or str
        What was found, in a few sentences, or a function of the rows that returns these sentences.
    """

    name: str
    figure: str
    title: str
    shown: str
    parts: tuple[Part, ...]
    targets: tuple[Target, ...]
    draw: Callable[[Rows], list[Figure]]
    found: Callable[[Rows], str] | str = ""

    def summary(self, rows: Rows) -> str:
        """Return what was found."""
        return self.found if isinstance(self.found, str) else self.found(rows)


def values_of(rows: Rows, part: str, figure: str) -> list[float]:
    """Return a figure of all runs of a part that have it."""
    return [float(row[figure]) for row in rows.get(part, ()) if row.get(figure) is not None]


def judge(values: Sequence[float], target: Target) -> str:
    """Return whether the mean over seeds reaches the published number, or the goal if there is no number.

    The mean may miss it by the tolerance, or by twice the standard deviation over seeds if that is larger, but by no
    more than twice the tolerance: otherwise one fit that fails would excuse the others.

    Parameters
    ----------
    values : sequence of float
        One for each seed, at least one.
    target : Target

    Returns
    -------
    str
        `MET`, `MISSED` or `NO_NUMBER`; without a published number also whether the goal is reached.
    """
    if target.published is None:
        if target.goal is None:
            return NO_NUMBER
        reached = _within(values, target.goal, target.goal, target)
        return f"{NO_NUMBER}; goal {target.goal:g} {MET if reached else MISSED}"
    low, high = target.published if isinstance(target.published, tuple) else (target.published,) * 2
    return MET if _within(values, low, high, target) else MISSED


def _within(values: Sequence[float], low: float, high: float, target: Target) -> bool:
    spread = 2 * float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    slack = max(target.tolerance, min(spread, LARGEST_SPREAD * target.tolerance))
    mean = float(np.mean(values))
    too_low, too_high = mean < low - slack, mean > high + slack
    return not ((too_low and target.kind != "at most") or (too_high and target.kind != "at least"))
