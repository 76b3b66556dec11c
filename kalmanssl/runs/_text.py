"""Numbers with their units, and names, as text for the report and the command line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kalmanssl.utils.measurement_units import in_degrees
from kalmanssl.utils.text import duration_text

__all__ = [
    "ERROR_NAMES", "PART_NAMES", "append_unit", "axis_name", "cell", "duration", "figure_unit", "is_velocity",
    "median_error", "number", "percent", "r_squared", "scaled_unit", "score_sentence", "unit_sentence", "with_unit",
    "words",
]  # fmt: skip

# What the parts of the scores of an evaluation are called.
PART_NAMES = {"running": "moving bins", "rest": "bins at rest", "all": "all bins"}
ERROR_NAMES = {"median_error": "median error", "mean_error": "mean error"}
# Units of length with their size in meters, and from which value in meters on they are used.
_LENGTHS = {"mm": 1e-3, "cm": 1e-2, "m": 1.0, "km": 1e3}
# Errors of 5 mm are 0.5 cm, so that they have the unit of the widths beside them.
_LENGTHS_FROM = (("mm", 0.0), ("cm", 0.001), ("m", 1.0), ("km", 1e3))


def words(name: str | None) -> str:
    """Return the name of a behavior as words: "hand position" for "hand_position"; "" for None."""
    return (name or "").replace("_", " ")


def axis_name(dim: int) -> str:
    """Return the name of a dimension of a behavior: x, y, z, or its number from 4 on."""
    return "xyz"[dim : dim + 1] or str(dim + 1)


def number(value: float | None) -> str:
    """Return a number with three digits, or the digits before its point if these are more; a dash if not finite."""
    if value is None or not math.isfinite(value):
        return "–"
    if 1e3 <= abs(value) < 1e7:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-9 else "0"


def cell(value: float | None) -> str:
    """Return a number for a column of a table: as `number`, but also with zeros as last digits, such as "2.00"."""
    text = number(value)
    if value is None or not 1e-4 <= abs(value) < 1e3:
        return text
    return f"{value:#.3g}".rstrip(".")


def r_squared(value: float | None) -> str:
    """Return R² with three decimals, or a dash if it is not finite."""
    return "–" if value is None or not math.isfinite(value) else f"{round(value, 3) + 0.0:.3f}"


def percent(share: float, error: float) -> str:
    """Return a share and its standard error in percent; without it if it is zero, as that of a single block is."""
    return f"{100 * share:.1f} ± {100 * error:.1f}" if error > 0 else f"{100 * share:.1f}"


def scaled_unit(value: float | None, unit: str) -> tuple[float, str]:
    """Return the factor and the unit in which a length is easy to read, such as (100, "cm") for 0.031 m.

    Other units, also those of speeds, keep the factor one; angles are in degrees, with their sign.
    """
    if (angle := in_degrees(unit)) is not None:
        return angle
    base, slash, per = unit.partition("/")
    if base not in _LENGTHS or value is None or not math.isfinite(value) or value == 0:
        return 1.0, unit
    meters = abs(value) * _LENGTHS[base]
    chosen = [name for name, least in _LENGTHS_FROM if meters >= least * (1 - 1e-9)][-1]
    return _LENGTHS[base] / _LENGTHS[chosen], chosen + slash + per


def median_error(scores: Mapping[str, Any] | None) -> float | None:
    """Return the median error of a part; None without scores, or for labels.

    A report has everything about a behavior in the unit in which the median error of the main part is easy to read.
    """
    return (scores or {}).get("median_error")


def figure_unit(scores: Mapping[str, Any] | None, unit: str) -> tuple[float, str]:
    """Return the factor and the unit of a behavior in figures; radians stay, since axes show them in degrees."""
    factor, shown = scaled_unit(median_error(scores), unit)
    return (1.0, unit) if shown.startswith("°") and factor != 1 else (factor, shown)


def with_unit(value: float | None, unit: str, like: float | None = None) -> str:
    """Return a number in a readable unit, such as "3.1 cm" for 0.031 m; in the unit of the value `like` if given."""
    factor, scaled = scaled_unit(value if like is None else like, unit)
    return append_unit(number(None if value is None else value * factor), scaled)


def append_unit(text: str, unit: str) -> str:
    """Return the text of a number with its unit, such as "3.1 cm" or "12°"; without a unit the text alone."""
    return f"{text}{unit}" if unit.startswith("°") else f"{text} {unit}".rstrip()


def is_velocity(unit: str) -> bool:
    """Return whether a unit is one of a velocity or a speed, such as "cm/s"."""
    return unit.lower().endswith(("/s", "/sec", "/second", " per second", "s^-1", "s-1"))


def score_sentence(scores: Mapping[str, Any] | None, unit: str, divided_by_itself: bool = False) -> str:
    """Say what the scores of several dimensions are, and whether they are in another unit than the files; can be "".

    `divided_by_itself` says that movement and rest are told apart by the behavior that is decoded, a velocity.
    """
    if scores is None or "median_error" not in scores:  # of labels
        return ""
    parts, count = [], len(scores.get("dimensions", ()))
    if count:
        names = " and ".join([", ".join(map(axis_name, range(count - 1))), axis_name(count - 1)])
        parts.append(f"errors are distances; CRPS, coverage and widths are means over {names}")
    if divided_by_itself:
        parts.append(
            "the scores of all bins count: moving bins are those where the decoded velocity itself is large, and even "
            "a good decoder has a low R² and coverage among them, and a negative R² at rest"
        )
    return "; ".join(filter(None, [*parts, unit_sentence(scores, "errors and widths", unit)]))


def unit_sentence(scores: Mapping[str, Any] | None, what: str, unit: str) -> str:
    """Say that `what` is shown in another unit than that of the files; "" if it is not."""
    factor, scaled = scaled_unit(median_error(scores), unit)
    if factor == 1.0:
        return ""
    shown = scaled.replace("°", "degrees")
    return f"{what} are in {shown}; the recording and decoded files are in {unit}"


def duration(seconds: float | None) -> str:
    """Return a duration such as "25 ms", "14.7 min" or "1.2 h"; a dash if there is none or it is not finite."""
    return duration_text(math.nan if seconds is None else seconds)
