"""Text output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["format_parts"]


def format_parts(title: str, parts: Mapping[str, Any]) -> str:
    """Return a title and one line with name and value for each part, without those that are None or False."""
    shown = {name: part for name, part in parts.items() if part not in (None, False)}
    width = max(map(len, shown))
    return "\n".join([title, *(f"  {name:{width}}  {part}" for name, part in shown.items())])
