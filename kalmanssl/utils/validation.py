"""Validation of single arguments. Wrong values raise `InputError` with the name of the argument and what it must be."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from kalmanssl.errors import InputError

__all__ = [
    "as_numbers",
    "check_bool",
    "check_choice",
    "check_condition",
    "check_fraction",
    "check_integer",
    "check_not_negative",
    "check_number",
    "check_numbers",
    "check_positive",
    "check_seed",
    "check_widths",
    "short_repr",
    "unknown_name_error",
]

LARGEST_INTEGER = 2**63 - 1  # that numpy and torch can represent
_LONGEST_VALUE = 80  # characters of a value in a message


def short_repr(value: object) -> str:
    """Return a value as text on one line of at most 80 characters, for a message."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # of the object itself
        text = f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."


def check_condition(name: str, value: object, valid: bool, requirement: str) -> None:
    """Raise `InputError` with the name, the value and the requirement unless `valid` is true."""
    if not valid:
        raise InputError(f"{name} must be {requirement}; got {short_repr(value)}", parameter=name)


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise `InputError` unless the value is one of the choices."""
    check_condition(name, value, isinstance(value, str) and value in choices, f"one of {', '.join(choices)}")


def check_bool(name: str, value: object) -> None:
    """Raise `InputError` unless the value is True or False."""
    check_condition(name, value, isinstance(value, bool | np.bool_), "True or False")


def check_number(name: str, value: object) -> None:
    """Raise `InputError` unless the value is a real number that a float can represent, or NaN or infinity."""
    valid = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if valid and isinstance(value, int):
        valid = abs(value) <= sys.float_info.max
    check_condition(name, value, valid, "a number")


def check_positive(name: str, value: Any) -> None:
    """Raise `InputError` unless the value is a positive finite number."""
    check_number(name, value)
    check_condition(name, value, 0 < value < math.inf, "positive and finite")


def check_not_negative(name: str, value: Any) -> None:
    """Raise `InputError` unless the value is a finite number of at least zero."""
    check_number(name, value)
    check_condition(name, value, 0 <= value < math.inf, "at least 0 and finite")


def check_fraction(name: str, value: Any) -> None:
    """Raise `InputError` unless the value is a number of at least zero and below one."""
    check_number(name, value)
    check_condition(name, value, 0 <= value < 1, "at least 0 and below 1")


def check_integer(name: str, value: Any, minimum: int, maximum: int = LARGEST_INTEGER) -> None:
    """Raise `InputError` unless the value is an integer of at least `minimum` and at most `maximum`."""
    valid = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    check_condition(name, value, valid and int(value) >= minimum, f"a whole number, at least {minimum}")
    check_condition(name, value, int(value) <= maximum, f"a whole number, at most {maximum}")


def check_seed(random_state: Any) -> None:
    """Raise `InputError` unless the value is a seed: a non-negative integer or None."""
    if random_state is not None:
        check_integer("random_state", random_state, 0)


def check_numbers(name: str, values: Any, requirement: str = "a sequence of numbers") -> None:
    """Raise `InputError` unless the values are a sequence of real numbers."""
    is_sequence = isinstance(values, Sequence | np.ndarray) and not isinstance(values, str | bytes)
    check_condition(name, values, is_sequence and np.ndim(values) == 1, requirement)
    for value in values:
        check_number(name, value)


def as_numbers(name: str, values: Any) -> tuple[float, ...]:
    """Return a sequence of at least one real number as a tuple; raise `InputError` if it is anything else."""
    check_numbers(name, values)
    check_condition(name, values, len(values) > 0, "at least one number")
    return tuple(values)


def check_widths(name: str, widths: Any) -> None:
    """Check the widths of hidden layers."""
    is_sequence = isinstance(widths, Sequence | np.ndarray) and not isinstance(widths, str | bytes)
    check_condition(name, widths, is_sequence, "a sequence of whole numbers, such as (256,)")
    for width in widths:
        check_integer(name, width, 1)


def unknown_name_error(kind: str, name: object, known: Iterable[str]) -> InputError:
    """Return the error for an unknown name: it suggests the closest known name and lists all of them."""
    names = list(known)
    close = get_close_matches(str(name)[:_LONGEST_VALUE].lower(), names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return InputError(
        f"there is no {kind} {short_repr(name)}: {hint}use one of {', '.join(map(repr, names))}", parameter=kind
    )
