"""Checked access to the values that a saved object has in JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.utils.storage import again
from kalmanssl.utils.validation import short_repr

__all__ = ["StoredValues", "check_finite"]


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
        Of these values in the file, for messages; empty for all of the file.
    """

    def __init__(self, values: Any, path: Any, kind: str, name: str = "") -> None:
        self._path, self._kind, self._name = path, kind, name
        if not isinstance(values, Mapping):
            raise self.error(name or "its content", "an object", values)
        self.values: Mapping[str, Any] = values

    def error(self, name: str, requirement: str, value: Any) -> InputError:
        """Return the error for a value that is not what it must be."""
        return InputError(
            f"{self._path} is damaged ({name} must be {requirement}; got {short_repr(value)}): {again(self._kind)}"
        )

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def get(self, name: str, valid: Callable[[Any], bool], requirement: str) -> Any:
        """Return a value that meets a requirement."""
        full = f"{self._name}.{name}" if self._name else name
        if name not in self.values:
            raise InputError(f"{self._path} is damaged ({full} is missing): {again(self._kind)}")
        value = self.values[name]
        if not valid(value):
            raise self.error(full, requirement, value)
        return value

    def group(self, name: str) -> StoredValues:
        """Return the values of an object inside this one."""
        values = self.get(name, lambda value: isinstance(value, Mapping), "an object")
        return StoredValues(values, self._path, self._kind, f"{self._name}.{name}" if self._name else name)

    def integer(self, name: str, minimum: int = 0) -> int:
        """Return a whole number."""
        return int(self.get(name, lambda value: _is_integer(value) and value >= minimum, f"at least {minimum}"))

    def number(self, name: str) -> float:
        """Return a number, which may be NaN."""
        return float(self.get(name, is_number, "a number"))

    def flag(self, name: str) -> bool:
        """Return True or False."""
        return bool(self.get(name, lambda value: isinstance(value, bool), "true or false"))

    def text(self, name: str) -> str:
        """Return a text."""
        return str(self.get(name, lambda value: isinstance(value, str), "text"))

    def texts(self, name: str) -> list[str]:
        """Return a list of texts."""
        return list(self.get(name, _is_texts, "a list of texts"))

    def numbers_by_name(self, name: str) -> dict[str, list[float]]:
        """Return an object with lists of numbers, such as the history of a training."""
        return dict(self.get(name, _is_history, "an object with lists of numbers"))


def is_number(value: Any) -> bool:
    """Return whether a value from JSON is a number that a float can represent."""
    return isinstance(value, float) or (_is_integer(value) and abs(value) < 1e300)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_history(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(one, list) and all(map(is_number, one)) for one in value.values()
    )


def check_finite(arrays: Mapping[str, np.ndarray], path: Any, kind: str) -> None:
    """Raise `InputError` if an array of a saved object has NaN or infinity."""
    for name, array in arrays.items():
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            raise InputError(f"{path} is damaged ({name} has NaN or infinite values): {again(kind)}")
