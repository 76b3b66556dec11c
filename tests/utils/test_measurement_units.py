"""Names of units of measurement."""

from __future__ import annotations

import math

import pytest

from kalmanssl.utils.measurement_units import LARGEST_ANGLE, in_degrees, is_angle, long_unit, short_unit


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
    assert [in_degrees(unit) for unit in ("radians", "rad/s")] == [(180 / math.pi, "°"), (180 / math.pi, "°/s")]
    assert [in_degrees(unit) for unit in ("deg", "degree/s", "°")] == [(1, "°"), (1, "°/s"), (1, "°")]
    assert [in_degrees(unit) for unit in ("m", "degC", "")] == [None, None, None]
    assert {"degrees": 360.0, "radians": 2 * math.pi} == LARGEST_ANGLE
