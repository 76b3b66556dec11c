"""Preparation of behavior for a fit that uses it: one column per dimension, standardized, in contiguous segments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kalmanssl.data import Recording, as_labels, behavior_at, is_pynapple
from kalmanssl.errors import InputError
from kalmanssl.estimator._segments import Prepared
from kalmanssl.utils.arrays import as_floats
from kalmanssl.utils.circular import periods_of
from kalmanssl.utils.labels import distinct_labels, label_column
from kalmanssl.utils.validation import check_condition

if TYPE_CHECKING:
    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = ["Behavior", "behavior_columns", "behavior_of_piece", "prepare_behavior", "uses_behavior"]

_LARGEST = 1e100  # its square does not overflow


class Behavior(NamedTuple):
    """Behavior in the contiguous segments of a fit.

    Attributes
    ----------
    segments : list of (time, columns) float32
        Standardized real numbers, angles in radians, or numbers of labels; NaN where they are unknown.
    kinds : tuple of "real", "angle" or the number of labels
        One for each column, as for `kalmanssl.models.BehaviorReadout`.
    """

    segments: list[np.ndarray]
    kinds: tuple[str | int, ...]

    def embed(self, columns: np.ndarray) -> np.ndarray:
        """Return columns (time, columns) with angles as cosine and sine and labels as indicators, NaN if unknown."""
        embedded = []
        for column, kind in zip(columns.T, self.kinds, strict=True):
            if kind == "real":
                embedded.append(column[:, None])
            elif kind == "angle":
                embedded.append(np.stack([np.cos(column), np.sin(column)], axis=1))
            else:
                indicators = (column[:, None] == np.arange(int(kind))).astype(column.dtype)
                embedded.append(np.where(np.isnan(column)[:, None], np.nan, indicators))
        return np.concatenate(embedded, axis=1)


def uses_behavior(estimator: KalmanSSL) -> bool:
    """Return whether the behavior has a weight in the objective of an estimator."""
    return bool(estimator.behavior_weight > 0)


def prepare_behavior(estimator: KalmanSSL, X: Any, y: Any, prepared: Prepared) -> Behavior:
    """Check the behavior `y` of the data `X` and return it in the segments of the prepared data.

    Raises
    ------
    InputError
        If there is no behavior, its length differs from that of the data, or it is constant or nowhere known.
    """
    if y is None:
        message = f"y is missing: behavior_weight={estimator.behavior_weight:g} needs behavior, as in fit(X, y)"
        raise InputError(message, parameter="y")
    lengths = [len(segment) for segment in prepared.segments]
    if is_pynapple(y):
        known_time = None if np.isnan(estimator.bin_size_) else prepared.time
        values = behavior_at("y", y, known_time, estimator.behavior_period is not None)
    elif prepared.n_segments is None:
        values = behavior_of_piece("y", X, y, sum(lengths))
    else:
        values = _of_trials(X, y, lengths, prepared.n_segments)
    columns, kinds = behavior_columns(values, estimator.behavior_period)
    columns = columns.astype(np.float32)
    return Behavior(np.split(columns, np.cumsum(lengths)[:-1]), kinds)


def behavior_columns(values: Any, period: Any) -> tuple[np.ndarray, tuple[str | int, ...]]:
    """Return behavior or labels (time,) or (time, dims) as columns and their kinds, as in `Behavior`."""
    labels = as_labels("y", values)
    if labels is None:
        return _real_columns(values, period)
    check_condition("behavior_period", period, period is None, "None for labels")
    return _label_column(labels)


def _of_trials(X: Any, y: Any, lengths: list[int], n_segments: list[int]) -> Any:
    """Return the behavior of all trials, one after another."""
    first = np.cumsum([0, *n_segments])
    bins = [sum(lengths[a : a + n]) for a, n in zip(first, n_segments, strict=False)]
    parts = [y] * len(bins) if isinstance(y, str) else list(y)
    if len(parts) != len(bins):
        raise InputError(
            f"y has {len(parts)} entries and X {len(bins)} trials: give one behavior for each trial", parameter="y"
        )
    pieces = [
        behavior_of_piece(f"y[{i}]", one, part, n) for i, (one, part, n) in enumerate(zip(X, parts, bins, strict=True))
    ]
    if len({piece.shape[1:] for piece in pieces}) > 1:
        raise InputError("y has trials with different numbers of dimensions: give the same in each", parameter="y")
    return np.concatenate(pieces)


def behavior_of_piece(name: str, X: Any, y: Any, n_bins: int) -> np.ndarray:
    """Return the behavior of one recording or array, (time,) or (time, dims)."""
    if isinstance(y, str):
        if not isinstance(X, Recording) or y not in X.behavior:
            known = ", ".join(X.behavior) if isinstance(X, Recording) else "X is not a Recording"
            raise InputError(f"y={y!r} is not a behavior of the recording ({known or 'it has none'})", parameter="y")
        y = X.behavior[y]
    labels = as_labels(name, y)
    values = np.asarray(y) if labels is None else labels
    if values.ndim not in (1, 2) or len(values) != n_bins:
        raise InputError(
            f"{name} has shape {values.shape} and X {n_bins} bins: give (time,) or (time, dims) over the same bins",
            parameter="y",
        )
    return values


def _label_column(labels: np.ndarray) -> tuple[np.ndarray, tuple[int]]:
    """Return the number of the label of each bin (time, 1), NaN where it is unknown, and the number of labels."""
    labels = label_column("y", labels)
    number = {label: index for index, label in enumerate(distinct_labels("y", labels))}
    codes = np.array([np.nan if label is None else number[label] for label in labels])
    return codes[:, None], (len(number),)


def _real_columns(values: Any, period: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return standardized columns, or angles in radians for circular ones, and their kinds."""
    columns = as_floats("y", values)
    if columns.size == 0:
        raise InputError(f"y has shape {columns.shape}: give (time,) or (time, dims)", parameter="y")
    columns = columns.reshape(len(columns), -1).copy()
    if (np.abs(columns) > _LARGEST).any():  # infinite ones too
        message = f"y has infinite values, or above {_LARGEST:g}: use NaN where the behavior is unknown"
        raise InputError(message, parameter="y")
    periods = periods_of("behavior_period", period, "y", columns.shape[1])
    for number, one in enumerate(periods):
        column = columns[:, number]
        known = column[np.isfinite(column)]
        if len(known) == 0 or np.ptp(known) == 0:
            why = "has no known value" if len(known) == 0 else f"is constant ({known[0]:g})"
            raise InputError(f"y {why} in dimension {number}: leave this dimension out", parameter="y")
        columns[:, number] = (column - known.mean()) / known.std() if one is None else 2 * np.pi * column / one
    return columns, tuple("real" if one is None else "angle" for one in periods)
