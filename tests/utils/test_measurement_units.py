"""Names of units of measurement."""

from __future__ import annotations

import math

import pytest

from kalmanssl.utils.measurement_units import LARGEST_ANGLE, degrees_unit, is_angle, long_unit, short_unit


@pytest.mark.parametrize(
    ("unit", "long", "short"),
    [
        ("cm", "centimeters", "cm"),
        (" Metres", "meters", "m"),
        ("deg", "degrees", "deg"),
        ("pixel", "pixels", "pixels"),
        ("unknown", "n.a.", ""),
        ("", "n.a.", ""),
        ("lick/s", "lick/s", "lick/s"),
    ],
)
def test_spellings_of_a_unit(unit: str, long: str, short: str) -> None:
    assert (long_unit(unit), short_unit(unit)) == (long, short)


def test_angles() -> None:
    assert [is_angle(unit) for unit in ("rad", "Degrees", "rad/s", "m", "")] == [True, True, False, False, False]
    assert [degrees_unit(unit) for unit in ("radians", "rad/s", "deg", "m")] == ["°", "°/s", None, None]
    assert {"degrees": 360.0, "radians": 2 * math.pi} == LARGEST_ANGLE
