"""Checks of single settings; what is wrong raises `InputError` with what it must be."""

from __future__ import annotations

import math
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import numpy as np

from kalmanssl.errors import InputError

__all__ = [
    "check_known", "check_number", "check_positive", "check_seed", "check_setting", "check_whole", "unknown_name",
]  # fmt: skip


def check_setting(name: str, value: object, fine: bool, wanted: str) -> None:
    """Raise `InputError`, which names the setting and what it must be, unless it is fine."""
    if not fine:
        raise InputError(f"{name} must be {wanted}; got {value!r}", parameter=name)


def check_known(name: str, value: object, known: tuple[str, ...]) -> None:
    """Raise `InputError`, which lists the known names, unless the value is one of them."""
    check_setting(name, value, isinstance(value, str) and value in known, f"one of {', '.join(known)}")


def check_number(name: str, value: object) -> None:
    """Raise `InputError` unless the value is a number."""
    fine = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    check_setting(name, value, fine, "a number")


def check_positive(name: str, value: Any) -> None:
    """Raise `InputError` unless the value is a number above 0, and finite."""
    check_number(name, value)
    check_setting(name, value, 0 < value < math.inf, "positive and finite")


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise `InputError` unless the value is a whole number, and not too small."""
    fine = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    check_setting(name, value, fine and int(value) >= least, f"a whole number, at least {least}")


def check_seed(value: Any, name: str = "random_state") -> None:
    """Raise `InputError` unless the value is a seed, a whole number from 0 on, or None."""
    if value is not None:
        check_whole(name, value, 0)


def unknown_name(kind: str, name: object, known: Iterable[str]) -> InputError:
    """Return the error to raise about a name that is not known: the one that was meant, if any is close, and all."""
    names = list(known)
    close = get_close_matches(str(name).lower(), names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return InputError(f"there is no {kind} {name!r}: {hint}use one of {', '.join(map(repr, names))}")
