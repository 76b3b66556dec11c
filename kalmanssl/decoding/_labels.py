"""Labels: behavior that is one of a few categories, such as the arm of a maze, a choice or a stimulus."""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmanssl.errors import InputError
from kalmanssl.utils.arrays import as_array
from kalmanssl.utils.validation import short_repr

__all__ = ["as_labels", "encode_labels", "find_labels", "is_discrete", "present_labels"]

_KINDS = {bool: "bool", np.bool_: "bool", str: "text", np.str_: "text"}


def is_discrete(position: Any, discrete: bool | None) -> bool:
    """Return whether a behavior consists of labels: text, bools, categories or other objects that are not numbers.

    `discrete` is what the user chose, or None. Numbers are labels only if it is True.
    """
    if hasattr(getattr(position, "dtype", position), "categories"):  # of pandas
        found = True
    else:
        values = as_array("position", position)
        found = values.dtype.kind in "USb"
        if values.dtype == object:
            known = [value for value in values.ravel() if not _is_missing(value)]
            found = not all(_kind(value) == "number" for value in known)
    if discrete is False and found:
        raise InputError(
            "position consists of labels, which cannot be decoded with discrete=False: leave discrete out",
            parameter="discrete",
        )
    return found if discrete is None else bool(discrete)


def find_labels(position: Any, n_bins: int, at_least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct labels of a behavior, and the number of the label of each bin.

    Parameters
    ----------
    position : (time,)
        Labels; None, NaN and "" where they are unknown.
    n_bins : int
    at_least : int
        Number of labels that there must be.

    Returns
    -------
    labels : (labels,)
        In increasing order, or in the order of the categories of pandas.
    codes : (time, 1)
        Indices into `labels`; NaN where the label is unknown.
    """
    values = as_labels("position", position)
    if len(values) != n_bins:
        raise InputError(
            f"position has {len(values)} bins and latents {n_bins}: cut both to the same bins", parameter="position"
        )
    known = [value for value in values if not _is_missing(value)]
    kinds = {_kind(value) for value in known}
    if len(kinds) > 1:
        raise InputError(
            f"position mixes labels of the types {' and '.join(sorted(kinds))}: convert them to one type, such as text",
            parameter="position",
        )
    if not kinds <= {"bool", "text", "number"}:
        raise InputError(
            f"position has labels of the type {sorted(kinds)[0]:.40}: convert them to text or to numbers",
            parameter="position",
        )
    distinct = set(known)
    categories = getattr(getattr(position, "dtype", position), "categories", None)
    ordered = sorted(distinct) if categories is None else [value for value in categories if value in distinct]
    if len(ordered) < at_least:
        only = f"the label {ordered[0]!r} only" if ordered else "no known label"
        raise InputError(f"position has {only}: at least two labels are needed", parameter="position")
    labels = np.array(ordered)
    if len(labels) == 0:
        return labels, np.full((n_bins, 1), np.nan)
    return labels, encode_labels("position", values, labels)[:, None]


def present_labels(labels: np.ndarray, codes: np.ndarray, usable: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave out the labels that no usable bin has; return the labels, and the codes with NaN for those left out."""
    present = np.unique(codes[usable, 0]).astype(int)
    number = np.full(len(labels), np.nan)
    number[present] = np.arange(len(present))
    known = np.isfinite(codes)
    renumbered = codes.copy()
    renumbered[known] = number[codes[known].astype(int)]
    return labels[present], renumbered


def encode_labels(name: str, values: Any, labels: np.ndarray) -> np.ndarray:
    """Return the number of the label of each bin, (time,) float; NaN where it is unknown.

    Raises `InputError` for the argument `name` if a label is not among `labels`.
    """
    number: dict[Any, int] = {label: index for index, label in enumerate(labels.tolist())}
    given = as_labels(name, values)
    codes = np.full(len(given), np.nan)
    kind = _kind(labels.tolist()[0])
    for index, value in enumerate(given):
        if _is_missing(value):
            continue
        if value not in number or _kind(value) != kind:
            raise InputError(
                f"{name} has the label {short_repr(value)}, but the decoder was fitted on {_listed(labels)}: "
                "leave out the bins with other labels",
                parameter=name,
            )
        codes[index] = number[value]
    return codes


def as_labels(name: str, values: Any) -> np.ndarray:
    """Return labels as an array of objects, (time,)."""
    array = as_array(name, values).astype(object)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise InputError(
            f"{name} has shape {array.shape}: labels must be (time,); fit one decoder for each column", parameter=name
        )
    return np.array([value.item() if isinstance(value, np.generic) else value for value in array], dtype=object)


def _is_missing(value: Any) -> bool:
    """Return whether a label is unknown: None, NaN, an empty text or a missing value of pandas."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return bool(value == "") if isinstance(value, str) else bool(isinstance(value, float) and value != value)


def _kind(value: Any) -> str:
    """Return the name of the type of a label; all numbers are of one type."""
    if type(value) in _KINDS:
        return _KINDS[type(value)]
    return "number" if isinstance(value, (int, float, np.number)) else type(value).__name__


def _listed(labels: np.ndarray) -> str:
    """Return the labels, or the first of many, as text."""
    shown = ", ".join(repr(label) for label in labels[:6].tolist())
    return shown if len(labels) <= 6 else f"{shown} and {len(labels) - 6} more"
