"""Summaries of a recording for `repr` and notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from kalmanssl.utils.summaries import HtmlSummary

if TYPE_CHECKING:
    from kalmanssl.data._recording import Recording

__all__ = ["RecordingSummary"]


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
