"""Numbers as text in the tables of the report."""

from __future__ import annotations

import math

__all__ = ["number", "percent"]


def number(value: float | None) -> str:
    """Return a number with three digits, or a dash if it is not finite."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.3g}"


def percent(share: float, error: float) -> str:
    """Return a share and its standard error in percent."""
    return f"{100 * share:.1f} ± {100 * error:.1f}"
