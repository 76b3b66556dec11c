"""Verdicts on the assumptions of the identifiability theorem: thresholds, one row per assumption, and the table."""

from __future__ import annotations

import math
import textwrap
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from kalmanssl.identifiability._residual_statistics import Deviation

__all__ = ["Assumption", "AssumptionReport", "Threshold", "Verdict", "judge"]

Verdict = Literal["holds", "doubtful", "fails"]
_TEXT_WIDTH = 110
# If chance alone exceeds the threshold of failure by this factor, a failure could not be detected.
_MAX_CHANCE_RATIO = 1.5


@dataclass(frozen=True)
class Threshold:
    """Effect sizes beyond which an assumption is doubtful or fails.

    Attributes
    ----------
    doubtful, fails : float
    lower_is_worse : bool
        If true, values below the thresholds are violations, otherwise values above.
    """

    doubtful: float
    fails: float
    lower_is_worse: bool = False


@dataclass(frozen=True)
class Assumption:
    """Test result for one assumption.

    Attributes
    ----------
    name : str
        Short name, the key in the report.
    statement : str
        The assumption as a sentence.
    statistic : str
        Description of `value`.
    value : float
        Effect size. It does not grow with the number of frames.
    chance : float
        Size that chance exceeds with probability 0.001 if the assumption holds; 0 where this does not apply.
    threshold : Threshold
    verdict : {"holds", "doubtful", "fails"}
    sentence : str
        Explanation of the verdict with the numbers behind it.
    numbers : dict
        Further statistics, including p-values.
    """

    name: str
    statement: str
    statistic: str
    value: float
    chance: float
    threshold: Threshold
    verdict: Verdict
    sentence: str
    numbers: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class AssumptionReport:
    """Table of the assumptions of Theorem 1 with a verdict for each.

    Attributes
    ----------
    assumptions : tuple of Assumption
        Rows of the table; ``report["gaussian"]`` returns the row of that name.
    frames, dims : int
        Number of frames and dimension of the latents.
    skipped : dict
        Names of assumptions that could not be tested on these data, with the reason.
    """

    assumptions: tuple[Assumption, ...]
    frames: int
    dims: int
    skipped: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Assumption:
        for row in self.assumptions:
            if row.name == name:
                return row
        raise KeyError(f"{name!r} was not tested; tested were {', '.join(row.name for row in self.assumptions)}")

    @property
    def verdict(self) -> Verdict:
        """Worst of all verdicts."""
        found = {row.verdict for row in self.assumptions}
        return "fails" if "fails" in found else "doubtful" if "doubtful" in found else "holds"

    def rows(self) -> list[list[str]]:
        """Return the table as text: a header and one row per assumption."""
        head = ["assumption", "statistic", "value", "doubtful", "fails", "verdict"]
        return [head] + [
            [row.statement, row.statistic, _number(row.value), *_bounds(row.threshold), row.verdict]
            for row in self.assumptions
        ]

    def summary(self) -> str:
        """Return the table and an explanation of each verdict as text."""
        rows = self.rows()
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        words = [
            textwrap.fill(f"{row.statement}: {row.verdict}. {row.sentence}", _TEXT_WIDTH, subsequent_indent="    ")
            for row in self.assumptions
        ]
        words += [
            textwrap.fill(f"{name}: not tested. {reason}", _TEXT_WIDTH, subsequent_indent="    ")
            for name, reason in self.skipped.items()
        ]
        head = f"Assumptions of identifiability on {self.frames} frames of {self.dims} latents"
        return "\n".join([head, "", *lines, "", *words])

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON types."""
        return {
            "frames": self.frames,
            "dims": self.dims,
            "verdict": self.verdict,
            "assumptions": [row.to_dict() for row in self.assumptions],
            "skipped": dict(self.skipped),
        }


def judge(deviation: Deviation, threshold: Threshold) -> tuple[Verdict, str]:
    """Return the verdict and, if there are too few frames for a clear one, the reason.

    The deviation minus the level of chance is compared with the thresholds. The verdict is also "doubtful" if the level
    of chance is so high that a failure could not be detected.
    """
    if not math.isfinite(deviation.size):
        return "doubtful", " It could not be computed."
    if threshold.lower_is_worse:
        size = deviation.size
        return ("fails" if size < threshold.fails else "doubtful" if size < threshold.doubtful else "holds"), ""
    certain = deviation.size - deviation.chance
    if certain > threshold.fails:
        return "fails", ""
    if certain > threshold.doubtful:
        return "doubtful", ""
    if deviation.chance > _MAX_CHANCE_RATIO * threshold.fails:
        return "doubtful", f" Chance alone reaches {deviation.chance:.2g}: there are too few frames for a verdict."
    return "holds", ""


def _number(value: float) -> str:
    return f"{value:.3g}"


def _bounds(threshold: Threshold) -> tuple[str, str]:
    sign = "<" if threshold.lower_is_worse else ">"
    return f"{sign} {threshold.doubtful:.3g}", f"{sign} {threshold.fails:.3g}"
