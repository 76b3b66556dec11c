"""Labels: values of one of a few categories, such as the arm of a maze, a choice or a stimulus."""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.utils.arrays import as_array

__all__ = ["distinct_labels", "is_missing_label", "label_column", "label_text", "label_type"]

_TYPES = {bool: "bool", np.bool_: "bool", str: "text", np.str_: "text"}


def is_missing_label(value: Any) -> bool:
    """Return whether a label is unknown: None, NaN, an empty text or a missing value of pandas."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return bool(value == "") if isinstance(value, str) else bool(isinstance(value, float) and value != value)


def label_type(value: Any) -> str:
    """Return the type of a label, "bool", "text", "number" or the name of another one; all numbers are of one type."""
    if type(value) in _TYPES:
        return _TYPES[type(value)]
    return "number" if isinstance(value, (int, float, np.number)) else type(value).__name__


def label_text(label: Any) -> str:
    """Return a label as text; whole numbers have no decimals."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def label_column(name: str, values: Any) -> np.ndarray:
    """Return labels (time,) or (time, 1) as an array of objects (time,), with None where they are unknown.

    Raises
    ------
    InputError
        If they have another shape.
    """
    array = as_array(name, values).astype(object)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise InputError(
            f"{name} has shape {array.shape}: labels must be (time,); give one column at a time",
            parameter=name,
        )
    labels = np.empty(len(array), dtype=object)
    for index, value in enumerate(array):
        plain = value.item() if isinstance(value, np.generic) else value
        labels[index] = None if is_missing_label(plain) else plain
    return labels


def distinct_labels(name: str, values: Any, at_least: int = 2) -> list[Any]:
    """Return the distinct known labels, sorted, or in the order of the categories of pandas.

    Parameters
    ----------
    name : str
        Name of the argument, for messages.
    values : (time,)
        Labels; None, NaN and "" where they are unknown.
    at_least : int
        Number of labels that there must be.

    Raises
    ------
    InputError
        If labels are of several types, or of a type other than text, bools and numbers, or there are too few.
    """
    known = [value for value in label_column(name, values) if value is not None]
    types = sorted({label_type(value) for value in known})
    if len(types) > 1:
        raise InputError(
            f"{name} mixes labels of the types {' and '.join(types)}: convert them to one type, such as text",
            parameter=name,
        )
    if not set(types) <= {"bool", "text", "number"}:
        raise InputError(
            f"{name} has labels of the type {types[0]:.40}: convert them to text or to numbers", parameter=name
        )
    distinct = set(known)
    categories = getattr(getattr(values, "dtype", values), "categories", None)
    ordered = sorted(distinct) if categories is None else [value for value in categories if value in distinct]
    if len(ordered) < at_least:
        only = f"the label {ordered[0]!r} only" if ordered else "no known label"
        raise InputError(f"{name} has {only}: at least two labels are needed", parameter=name)
    return ordered
