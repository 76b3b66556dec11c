"""Text output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["format_parts", "shorten", "time_span", "time_text"]

_LONGEST = 160  # characters of a part of a message


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


def time_text(seconds: float) -> str:
    """Return a time in seconds to the microsecond, so that the edge of a first bin is 0 and not 6.9e-17."""
    return f"{round(seconds, 6) + 0.0:.6f}".rstrip("0").rstrip(".")


def time_span(start: float, stop: float) -> str:
    """Return a span of time such as "0 to 1398.15 s"."""
    return f"{time_text(start)} to {time_text(stop)} s"
