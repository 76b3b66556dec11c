"""The sizes of the simulated recordings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kalmanssl.errors import InputError

__all__ = ["GOALS", "PRESETS", "Preset", "Size"]


class Size(NamedTuple):
    """Hours of each session, number of units of each session, and number of sessions."""

    hours: float
    units: int
    sessions: int = 1

    @classmethod
    def read(cls, text: str) -> Size:
        """Read "hours,units" or "hours,units,sessions"."""
        try:
            hours, *counts = text.split(",")
            size = cls(float(hours), *(int(count) for count in counts))
        except (TypeError, ValueError):
            raise InputError(f"expected hours,units[,sessions], such as 0.5,200; got {text!r}") from None
        if not (0 < size.hours < 1000 and size.units >= 2 and size.sessions >= 1):
            raise InputError(f"{text!r} is out of range: at least 2 units and 1 session, and less than 1000 hours")
        return size


@dataclass(frozen=True)
class Preset:
    """Sizes to measure, those whose run from the command line is also measured, and settings of the model."""

    sizes: tuple[Size, ...]
    commands: tuple[Size, ...]
    model: dict[str, Any] = field(default_factory=dict)


LONG, WIDE = Size(10.0, 200), Size(1.0, 1000)
GOALS = {LONG: (900.0, 6000.0), WIDE: (900.0, 6000.0)}  # wall seconds and MB

_TINY = {"epochs": 1, "steps_per_epoch": 3, "batch_size": 32, "latent_dim": 3, "state_dim": 4, "hidden": (8,)}

PRESETS = {
    "quick": Preset((Size(0.03, 10), Size(0.06, 10), Size(0.03, 10, 2)), (Size(0.03, 10),), _TINY),
    "full": Preset(
        (
            *(Size(hours, 200) for hours in (0.25, 0.5, 1.0, 2.0, 5.0)), LONG,
            *(Size(1.0, units) for units in (50, 100, 500)), WIDE,
            *(Size(0.5, 100, sessions) for sessions in (1, 2, 4)),
        ),
        (LONG, WIDE),
    ),
}  # fmt: skip
