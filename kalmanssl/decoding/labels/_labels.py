"""Behavior that consists of labels, and the number of the label of each bin, an index into the labels of the fit."""

from __future__ import annotations

from typing import Any

import numpy as np

from kalmanssl.decoding.inputs import check_same_bins
from kalmanssl.errors import InputError
from kalmanssl.utils.arrays import as_array
from kalmanssl.utils.labels import distinct_labels, is_missing_label, label_column, label_type
from kalmanssl.utils.validation import short_repr

__all__ = ["encode_labels", "find_labels", "is_discrete", "present_labels"]


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
            known = [value for value in values.ravel() if not is_missing_label(value)]
            found = not all(label_type(value) == "number" for value in known)
    if discrete is False and found:
        raise InputError(
            "position consists of labels, which cannot be decoded with discrete=False: leave discrete out",
            parameter="discrete",
        )
    return found if discrete is None else bool(discrete)


def find_labels(position: Any, n_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct labels of a behavior, and the number of the label of each bin.

    Parameters
    ----------
    position : (time,)
        Labels; None, NaN and "" where they are unknown.
    n_bins : int
        Number of bins that there must be.

    Returns
    -------
    labels : (labels,)
        At least two, in increasing order, or in the order of the categories of pandas.
    codes : (time, 1)
        Indices into `labels`; NaN where the label is unknown.
    """
    check_same_bins(label_column("position", position), n_bins)
    labels = np.array(distinct_labels("position", position))
    return labels, encode_labels("position", position, labels)[:, None]


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
    given = label_column(name, values)
    codes = np.full(len(given), np.nan)
    known_type = label_type(labels.tolist()[0])
    for index, value in enumerate(given):
        if value is None:
            continue
        if value not in number or label_type(value) != known_type:
            raise InputError(
                f"{name} has the label {short_repr(value)}, but the decoder was fitted on {_listed(labels)}: "
                "leave out the bins with other labels",
                parameter=name,
            )
        codes[index] = number[value]
    return codes


def _listed(labels: np.ndarray) -> str:
    """Return the labels, or the first of many, as text."""
    shown = ", ".join(repr(label) for label in labels[:6].tolist())
    return shown if len(labels) <= 6 else f"{shown} and {len(labels) - 6} more"
