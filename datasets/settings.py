"""Checks of the settings of a generated data set; what is wrong raises `InputError` with what it must be."""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmanssl.errors import InputError

__all__ = ["check_known", "check_number", "check_setting", "check_whole"]


def check_setting(name: str, value: object, fine: bool, wanted: str) -> None:
    """Raise `InputError`, which names the setting and what it must be, unless it is fine."""
    if not fine:
        raise InputError(f"{name} must be {wanted}; got {value!r}")


def check_known(name: str, value: object, known: tuple[str, ...]) -> None:
    """Raise `InputError`, which lists the known names, unless the value is one of them."""
    check_setting(name, value, isinstance(value, str) and value in known, f"one of {', '.join(known)}")


def check_number(name: str, value: object) -> None:
    """Raise `InputError` unless the value is a number."""
    fine = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    check_setting(name, value, fine, "a number")


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise `InputError` unless the value is a whole number, and not too small."""
    fine = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    check_setting(name, value, fine and int(value) >= least, f"a whole number, at least {least}")
