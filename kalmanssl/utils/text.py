"""Text output."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kalmanssl.utils.measurement_units import in_degrees

__all__ = ["duration_text", "format_parts", "period_text", "shorten", "time_span", "time_text"]

_LONGEST = 160  # characters of a part of a message
# Durations below so many seconds are written in a unit of so many seconds.
_DURATIONS = ((1.0, 1e-3, "ms"), (100.0, 1.0, "s"), (6000.0, 60.0, "min"), (math.inf, 3600.0, "h"))


def format_parts(title: str, parts: Mapping[str, Any]) -> str:
    """Return a title and one line with name and value for each part, without those that are None or False."""
    shown = {name: part for name, part in parts.items() if part not in (None, False)}
    width = max(map(len, shown))
    return "\n".join([title, *(f"  {name:{width}}  {part}" for name, part in shown.items())])


def shorten(text: str) -> str:
    """Return text on one line of at most about 160 characters, without its middle if it is longer; for messages."""
    text = " ".join(text.split())
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}...{text[-half:]}"


def duration_text(seconds: float) -> str:
    """Return a duration with three digits, such as "25 ms", "14.7 min" or "1.2 h"; a dash if it is not finite."""
    if not math.isfinite(seconds):
        return "–"
    if seconds == 0:
        return "0 s"
    factor, unit = next((factor, unit) for limit, factor, unit in _DURATIONS if abs(seconds) < limit)
    return f"{seconds / factor:.3g} {unit}"


def period_text(period: float, unit: str) -> str:
    """Return a period as it is written for an option, such as "6.28319 (360°)" if its unit is radians."""
    factor = (in_degrees(unit) or (1.0, unit))[0]
    return f"{period:.6g}" if factor == 1 else f"{period:.6g} ({factor * period:.4g}°)"


def time_text(seconds: float) -> str:
    """Return a time in seconds to the millisecond, so that the edge of a first bin is 0 and not 6.9e-17."""
    return f"{round(seconds, 3) + 0.0:.3f}".rstrip("0").rstrip(".")


def time_span(start: float, stop: float) -> str:
    """Return a span of time such as "0 to 1398.15 s"."""
    return f"{time_text(start)} to {time_text(stop)} s"
