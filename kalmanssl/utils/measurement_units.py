"""Units of measurement of behavior: their names and abbreviations, and which of them are angles."""

from __future__ import annotations

import math

__all__ = ["LARGEST_ANGLE", "SPATIAL_UNITS", "UNKNOWN_UNIT", "in_degrees", "is_angle", "long_unit", "short_unit"]

UNKNOWN_UNIT = "n.a."  # as recommended for NWB files

_SPELLINGS = {
    "meters": ("m", "meter", "metre", "metres"),
    "centimeters": ("cm", "centimeter", "centimetre", "centimetres"),
    "millimeters": ("mm", "millimeter", "millimetre", "millimetres"),
    "micrometers": ("µm", "um", "micrometer", "micrometre", "micrometres"),
    "degrees": ("deg", "degree", "°"),
    "radians": ("rad", "radian"),
    "pixels": ("px", "pixel"),
    UNKNOWN_UNIT: ("", "n/a", "na", "unknown"),
}  # abbreviation first
_LONG = {spelling: name for name, others in _SPELLINGS.items() for spelling in (name, *others)}
_SHORT = {name: others[0] for name, others in _SPELLINGS.items() if name != "pixels"}
SPATIAL_UNITS = frozenset(_SPELLINGS)  # names of units of length and angle, and that of an unknown one
LARGEST_ANGLE = {"degrees": 360.0, "radians": 2 * math.pi}  # by the name of the unit


def long_unit(unit: str) -> str:
    """Return the name of a unit of length or angle, such as "centimeters" for "cm"; any other unit unchanged.

    A unit that is not known is `UNKNOWN_UNIT`.
    """
    return _LONG.get(unit.strip().lower(), unit)


def short_unit(unit: str) -> str:
    """Return the abbreviation of a unit of length or angle; "" for an unknown unit, and any other unit unchanged."""
    name = long_unit(unit)
    return _SHORT.get(name, name)


def is_angle(unit: str) -> bool:
    """Return whether a unit is one of angles; "rad/s" is not."""
    return long_unit(unit) in LARGEST_ANGLE


def in_degrees(unit: str) -> tuple[float, str] | None:
    """Return the factor and the unit in which an angle or its speed is shown; None for other units.

    These are (180 / pi, "°") for "radians", (1.0, "°") for "deg" and (180 / pi, "°/s") for "rad/s".
    """
    name, slash, per = unit.partition("/")
    circle = LARGEST_ANGLE.get(long_unit(name))
    return None if circle is None else (LARGEST_ANGLE["degrees"] / circle, f"°{slash}{per}")
