"""Summaries of a recording for `repr` and notebooks."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, cast

import numpy as np

from kalmanssl.utils.sparkline import sparkline
from kalmanssl.utils.summaries import HtmlSummary

if TYPE_CHECKING:
    from kalmanssl.data._recording import Recording

__all__ = ["RecordingSummary"]

_BLOCKS = 140  # of time in the small picture


class RecordingSummary(HtmlSummary):
    """The methods of `Recording` that describe it in few words."""

    def _summary(self) -> list[tuple[str, str]]:
        one = cast("Recording", self)
        size, bins, span = self._extent()
        epochs = [f"{name} ({len(spans)})" if len(spans) > 1 else name for name, spans in one.epochs.items()]
        mean = one.activity.mean(dtype=float)
        rate = [("mean rate", f"{mean / one.bin_size:.3g} per second")] if one.kind == "counts" else []
        return [
            ("source", one.source),
            ("activity", f"{size} x {bins}"),
            ("time", span),
            *rate,
            ("behavior", ", ".join(self._behaviors()) or "none"),
            ("epochs", ", ".join(epochs) or "none"),
            *([("session", one.session)] if one.session else []),
            *([("notes", "; ".join(one.notes))] if one.notes else []),
        ]

    def _picture(self) -> tuple[str, str, str] | None:
        one = cast("Recording", self)
        if not len(one):
            return None
        edges = np.unique(np.linspace(0, len(one), _BLOCKS + 1).round().astype(int))
        blocks = np.array([one.activity[a:b].mean(dtype=float) for a, b in pairwise(edges)])
        if one.kind == "counts":
            blocks = blocks / one.bin_size
        low, high = blocks.min(), blocks.max()
        unit = " per second" if one.kind == "counts" else ""
        text = f"mean over units, {low:.3g} to {high:.3g}{unit}; gaps are left out"
        return "activity over time", sparkline(blocks), text

    def _extent(self) -> tuple[str, str, str]:
        """Return the numbers of units and of bins, and the time that they cover."""
        one = cast("Recording", self)
        n_segments = len(one.segments())
        return (
            f"{one.n_units} {'units' if one.kind == 'counts' else 'channels'}",
            f"{len(one)} bins of {1e3 * one.bin_size:.6g} ms",
            one._span() + (f" in {n_segments} segments" if n_segments > 1 else ""),
        )

    def _behaviors(self) -> list[str]:
        """Return the names of the behaviors with their units."""
        one = cast("Recording", self)
        return [f"{name} ({one.behavior_unit[name]})" if one.behavior_unit.get(name) else name for name in one.behavior]

    def __repr__(self) -> str:
        one, names = cast("Recording", self), self._behaviors()
        size, bins, span = self._extent()
        parts = [
            f"{one.source}: {size} x {bins}",
            span,
            f"behavior {', '.join(names)}" if names else "no behavior",
        ]
        if one.session:
            parts.append(f"session {one.session}")
        if one.notes:
            parts.append(f"{len(one.notes)} note{'s' if len(one.notes) > 1 else ''}")
        return f"Recording({'; '.join(parts)})"
