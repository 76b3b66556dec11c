"""Verdicts on the assumptions of identifiability: thresholds, one row for each assumption, and the table."""

from __future__ import annotations

import math
import textwrap
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from kalmanssl.identifiability._residual_statistics import Deviation

__all__ = ["Assumption", "AssumptionReport", "Threshold", "Verdict", "judge"]

Verdict = Literal["holds", "doubtful", "fails"]
_TEXT_WIDTH = 110
# A failure hides below its bound plus chance; where chance is this many times the bound, that is hardly a verdict.
_HIDES = 1.5


@dataclass(frozen=True)
class Threshold:
    """Sizes from which on an assumption is doubtful, and fails; the larger is worse, or with `least` the smaller."""

    doubtful: float
    fails: float
    least: bool = False


@dataclass(frozen=True)
class Assumption:
    """What was found about one assumption.

    Attributes
    ----------
    name : str
        Short, for look-up.
    says : str
        The assumption, in words.
    statistic : str
        What `value` is.
    value : float
        Effect size: it does not grow with the number of frames.
    chance : float
        How large chance alone makes `value`, at most, if the assumption holds; 0 where nothing is estimated.
    threshold : Threshold
    verdict : {"holds", "doubtful", "fails"}
    sentence : str
        The verdict with the number behind it.
    numbers : dict
        Further numbers, p-values among them.
    """

    name: str
    says: str
    statistic: str
    value: float
    chance: float
    threshold: Threshold
    verdict: Verdict
    sentence: str
    numbers: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class AssumptionReport:
    """Table of the assumptions of Theorem 1 with a verdict on each.

    Attributes
    ----------
    assumptions : tuple of Assumption
        In the order of the table; ``report["gaussian"]`` finds one by its name.
    frames, dims : int
        How many frames were looked at, and the dimension of the latents.
    skipped : dict
        Names of what could not be checked on these data, with the reason.
    """

    assumptions: tuple[Assumption, ...]
    frames: int
    dims: int
    skipped: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Assumption:
        for row in self.assumptions:
            if row.name == name:
                return row
        raise KeyError(f"{name!r} was not checked; there are {', '.join(row.name for row in self.assumptions)}")

    @property
    def verdict(self) -> Verdict:
        """The worst of all verdicts."""
        found = {row.verdict for row in self.assumptions}
        return "fails" if "fails" in found else "doubtful" if "doubtful" in found else "holds"

    def rows(self) -> list[list[str]]:
        """Return the table as text: a heading, then one row for each assumption."""
        head = ["assumption", "statistic", "value", "doubtful", "fails", "verdict"]
        return [head] + [
            [row.says, row.statistic, _number(row.value), *_bounds(row.threshold), row.verdict]
            for row in self.assumptions
        ]

    def summary(self) -> str:
        """Return the table and a sentence for each verdict."""
        rows = self.rows()
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        words = [
            textwrap.fill(f"{row.says}: {row.verdict}. {row.sentence}", _TEXT_WIDTH, subsequent_indent="    ")
            for row in self.assumptions
        ]
        words += [
            textwrap.fill(f"{name}: not checked. {reason}", _TEXT_WIDTH, subsequent_indent="    ")
            for name, reason in self.skipped.items()
        ]
        head = f"Assumptions of identifiability on {self.frames} frames of {self.dims} latents"
        return "\n".join([head, "", *lines, "", *words])

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return {
            "frames": self.frames,
            "dims": self.dims,
            "verdict": self.verdict,
            "assumptions": [row.to_dict() for row in self.assumptions],
            "skipped": dict(self.skipped),
        }


def judge(deviation: Deviation, threshold: Threshold) -> tuple[Verdict, str]:
    """Return a verdict and, where there are too few frames for a clear one, the reason.

    An assumption fails if the deviation is beyond its bound even without what chance may have added, holds if the part
    that chance does not explain is small, and is doubtful in between, or if chance alone could hide a failure.
    """
    if not math.isfinite(deviation.size):
        return "doubtful", " It could not be computed."
    if threshold.least:
        size = deviation.size
        return ("fails" if size < threshold.fails else "doubtful" if size < threshold.doubtful else "holds"), ""
    certain = deviation.size - deviation.chance
    if certain > threshold.fails:
        return "fails", ""
    if certain > threshold.doubtful:
        return "doubtful", ""
    if deviation.chance > _HIDES * threshold.fails:
        return "doubtful", f" Chance alone reaches {deviation.chance:.2g} here: too few frames to tell."
    return "holds", ""


def _number(value: float) -> str:
    return f"{value:.3g}"


def _bounds(threshold: Threshold) -> tuple[str, str]:
    sign = "<" if threshold.least else ">"
    return f"{sign} {threshold.doubtful:.3g}", f"{sign} {threshold.fails:.3g}"
