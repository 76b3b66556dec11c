"""Checked access to the values that a saved object has in JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.utils.storage import repair_advice
from kalmanssl.utils.validation import short_repr

_LARGEST = 1e18  # of arrays: squares of larger numbers are infinite in single precision

__all__ = ["StoredValues", "check_finite", "is_number", "is_texts"]


class StoredValues:
    """Values of a JSON object in a file. Access checks their type and raises `InputError` with the name of the file.

    Parameters
    ----------
    values : Any
        What the file contains; it must be a mapping.
    path : path
        The file, for messages.
    kind : str
        Type of the saved object ("model", "run"), for messages.
    name : str
        Name of these values in the file, for messages; empty for all of the file.
    """

    def __init__(self, values: Any, path: Any, kind: str, name: str = "") -> None:
        self._path, self._kind, self._name = path, kind, name
        if not isinstance(values, Mapping):
            raise self.error(name or "its content", "an object", values)
        self.values: Mapping[str, Any] = values

    def error(self, name: str, requirement: str, value: Any) -> InputError:
        """Return the error for a value that is not what it must be."""
        reason = f"{name} must be {requirement}; got {short_repr(value)}"
        return InputError(f"{self._path} is damaged ({reason}): {repair_advice(self._kind)}")

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def get(self, name: str, valid: Callable[[Any], bool], requirement: str) -> Any:
        """Return a value that meets a requirement."""
        full = f"{self._name}.{name}" if self._name else name
        if name not in self.values:
            raise InputError(f"{self._path} is damaged ({full} is missing): {repair_advice(self._kind)}")
        value = self.values[name]
        if not valid(value):
            raise self.error(full, requirement, value)
        return value

    def group(self, name: str) -> StoredValues:
        """Return the values of an object inside this one."""
        values = self.get(name, lambda value: isinstance(value, Mapping), "an object")
        return StoredValues(values, self._path, self._kind, f"{self._name}.{name}" if self._name else name)

    def entries(self, name: str, count: int | None = None) -> StoredValues:
        """Return the entries of a list, with "0", "1", ... as names; None allows any number of them."""
        requirement = "a list" if count is None else f"a list of {count} entries"
        items = self.get(name, lambda v: isinstance(v, list | tuple) and count in (None, len(v)), requirement)
        values = {str(number): one for number, one in enumerate(items)}
        return StoredValues(values, self._path, self._kind, f"{self._name}.{name}" if self._name else name)

    def groups(self, name: str, count: int | None = None) -> list[StoredValues]:
        """Return the objects in a list; None allows any number of them."""
        entries = self.entries(name, count)
        return [entries.group(number) for number in entries.values]

    def integer(self, name: str, minimum: int = 0, maximum: int = 2**63 - 1) -> int:
        """Return a whole number from `minimum` to `maximum`."""
        requirement = f"a whole number, at least {minimum}"
        if maximum < 2**63 - 1:
            requirement += f" and at most {maximum}"
        return int(self.get(name, lambda value: _is_integer(value) and minimum <= value <= maximum, requirement))

    def number(self, name: str) -> float:
        """Return a number, which may be NaN or infinite."""
        return float(self.get(name, is_number, "a number"))

    def number_in(self, name: str, low: float, high: float, requirement: str) -> float:
        """Return a number from `low` to `high`, both included; not NaN."""
        return float(self.get(name, lambda value: is_number(value) and low <= value <= high, requirement))

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """Return one of several texts."""
        valid = lambda value: isinstance(value, str) and value in choices  # noqa: E731
        return str(self.get(name, valid, f"one of {', '.join(choices)}"))

    def array(
        self, name: str, shape: Sequence[int | None], kind: str = "f", minimum: float = -math.inf, missing: bool = False
    ) -> np.ndarray:
        """Return an array of finite numbers of a shape, where None stands for any size.

        Lists become arrays. `kind` is "f" for real numbers or "i" for whole numbers. No number is below `minimum`.
        With `missing`, numbers may be NaN or infinite.
        """
        word = "real" if kind == "f" else "whole"
        sizes = ", ".join("any" if size is None else str(size) for size in shape)
        requirement = f"an array ({sizes}) of {word} numbers that are finite and below {_LARGEST:g}"
        requirement += f", at least {minimum:g}" if minimum > -math.inf else ""
        value = self.get(name, lambda value: isinstance(value, np.ndarray | list | tuple), requirement)
        full = f"{self._name}.{name}" if self._name else name
        try:
            array = np.asarray(value)
        except ValueError:  # lists of different lengths
            raise self.error(full, requirement, value) from None
        if array.size == 0 and array.dtype == float:
            array = array.astype(kind)
        if kind == "f" and isinstance(value, np.ndarray):
            numbers = array.dtype in (np.float32, np.float64)  # others would have been rounded
        else:
            numbers = array.dtype.kind in ("iuf" if kind == "f" else "iu")
        fits = array.ndim == len(shape) and all(
            want in (None, size) for want, size in zip(shape, array.shape, strict=True)
        )
        finite = missing or bool(numbers and (np.abs(array) < _LARGEST).all())  # false for NaN, too
        if not (numbers and fits and finite):
            shown = f"{array.dtype} of shape {array.shape}"
            raise self.error(full, requirement, value if array.dtype == object else _Shown(shown))
        if array.size and array.min() < minimum:
            raise self.error(full, requirement, array.min())
        return array

    def flag(self, name: str) -> bool:
        """Return True or False."""
        return bool(self.get(name, lambda value: isinstance(value, bool | np.bool_), "true or false"))

    def text(self, name: str) -> str:
        """Return a text."""
        return str(self.get(name, lambda value: isinstance(value, str), "text"))

    def texts(self, name: str) -> list[str]:
        """Return a list of texts."""
        return list(self.get(name, is_texts, "a list of texts"))

    def numbers_by_name(self, name: str) -> dict[str, list[float]]:
        """Return an object with lists of numbers, such as the history of a training."""
        return dict(self.get(name, _is_history, "an object with lists of numbers"))


class _Shown:
    """A text without quotation marks in messages."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def is_number(value: Any) -> bool:
    """Return whether a value from JSON is a number that numpy can represent; larger ones are never written."""
    return isinstance(value, float | np.floating) or (_is_integer(value) and abs(value) < 2**63)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_texts(value: Any) -> bool:
    """Return whether a value from JSON is a list of texts."""
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_history(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(one, list) and all(map(is_number, one)) for one in value.values()
    )


def check_finite(arrays: Mapping[str, np.ndarray], path: Any, kind: str) -> None:
    """Raise `InputError` if an array of a saved object has NaN or infinity."""
    for name, array in arrays.items():
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            raise InputError(f"{path} is damaged ({name} has NaN or infinite values): {repair_advice(kind)}")
