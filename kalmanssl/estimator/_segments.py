"""Preparation of recordings, arrays and lists of trials: units, bins and normalization of the fit, in segments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.utils.validation import validate_data

from kalmanssl.data import Recording, as_recording, is_pynapple
from kalmanssl.errors import InputError, first_line
from kalmanssl.estimator._inputs import activity_in_order, choose_bins_per_step, choose_normalization
from kalmanssl.training import choose_window
from kalmanssl.utils.moments import are_whole_numbers, column_moments, row_slices, standardized

if TYPE_CHECKING:
    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = ["Prepared", "is_list_of_trials", "prepare"]

# Squares of the largest values, summed over the bins of a recording, must not overflow.
_LARGEST_RAW = 1e100  # in double precision, before the normalization
_LARGEST = 1e15  # in single precision, after it


class Prepared(NamedTuple):
    """Data of an estimator in contiguous segments.

    Attributes
    ----------
    segments : list of (time, features) float32
        Normalized.
    time : (time,)
        Time of every bin of all segments, seconds.
    n_segments : list of int, or None
        Number of segments of each trial; None if the data are not a list of trials.
    """

    segments: list[np.ndarray]
    time: np.ndarray
    n_segments: list[int] | None


class _Piece(NamedTuple):
    """A recording or an array: values (time, features), its segments, the time of every bin, and whether it is counts.

    `is_counts` is None for data that are not fitted.
    """

    values: np.ndarray
    slices: list[slice]
    time: np.ndarray
    is_counts: bool | None


def prepare(estimator: KalmanSSL, X: Any, fitting: bool) -> Prepared:
    """Check the data of an estimator and return their contiguous segments, normalized.

    Parameters
    ----------
    estimator : KalmanSSL
        In the fit its attributes of the data are set: units, bin size, normalization, bins per step and the window.
    X : Recording, object of pynapple, (time, features), or a list of these
        The pieces of a list are trials. They can have different lengths, and no segment continues in the next trial.
    fitting : bool
    """
    pieces = _trials(estimator, X, fitting) if is_list_of_trials(X) else [_piece(estimator, X, fitting)]
    if fitting:
        values = pieces[0].values if len(pieces) == 1 else np.concatenate([piece.values for piece in pieces])
        is_counts = all(piece.is_counts for piece in pieces)
        estimator.normalize_ = choose_normalization(estimator.normalize, values, is_counts)
        estimator.bins_per_step_ = choose_bins_per_step(estimator.bins_per_step, values, is_counts, estimator.bin_size_)
        lengths = [one.stop - one.start for piece in pieces for one in piece.slices]
        hold_out = estimator.validation_fraction != 0
        estimator.window_ = choose_window(lengths, estimator.window, estimator.bins_per_step_, hold_out)
        _check_varies(values)
        _check_not_too_large(values, _LARGEST_RAW)
        estimator.feature_mean_, sd = column_moments(values)
        estimator.feature_scale_ = np.where(sd > 0, sd, 1.0)
    segments = []
    for piece in pieces:
        for one in piece.slices:
            normalized = piece.values[one]
            if estimator.normalize_ == "standardize":
                normalized = standardized(normalized, estimator.feature_mean_, estimator.feature_scale_)
            _check_not_too_large(normalized, _LARGEST)
            segments.append(np.asarray(normalized, dtype=np.float32))
    n_segments = [len(piece.slices) for piece in pieces] if is_list_of_trials(X) else None
    time = pieces[0].time if len(pieces) == 1 else np.concatenate([piece.time for piece in pieces])
    return Prepared(segments, time, n_segments)


def _check_varies(values: np.ndarray) -> None:
    """Check that some feature of the values (time, features) varies."""
    if len(values) > 1 and all((values[rows] == values[0]).all() for rows in row_slices(len(values))):
        shown = f"{values.min():g}" if values.min() == values.max() else "the same in all bins"
        raise InputError(f"X is constant ({shown}) in all features: there is nothing to fit", parameter="X")


def _check_not_too_large(values: np.ndarray, limit: float) -> None:
    """Check that moments of the values can be computed."""
    largest = max(float(values.max(initial=0.0)), -float(values.min(initial=0.0)))
    if largest > limit:
        raise InputError(
            f"X has values up to {largest:.3g} where at most {limit:g} can be used: divide X by a constant, or use "
            "normalize='standardize' for a signal",
            parameter="X",
        )


def is_list_of_trials(X: Any) -> bool:
    """Return whether the data are a sequence of recordings, objects of pynapple or two-dimensional arrays."""
    if hasattr(X, "shape") or isinstance(X, Recording) or is_pynapple(X) or not hasattr(X, "__getitem__"):
        return False
    if isinstance(X, str | dict) or len(X) == 0:
        return False
    return all(isinstance(one, Recording) or is_pynapple(one) or getattr(one, "ndim", 0) == 2 for one in X)


def _trials(estimator: KalmanSSL, X: Any, fitting: bool) -> list[_Piece]:
    """Return the pieces of a list of trials; the first one sets the units and the bin size in the fit."""
    if len({isinstance(one, Recording) or is_pynapple(one) for one in X}) > 1:
        raise InputError("X mixes recordings and arrays: give trials of one kind", parameter="X")
    pieces = []
    for number, one in enumerate(X):
        try:
            piece = _piece(estimator, one, fitting and number == 0, min_samples=1)
        except InputError as error:
            raise InputError(f"trial {number}: {error}", parameter=error.parameter) from error
        if fitting and number > 0:
            is_counts = one.kind == "counts" if isinstance(one, Recording) else _are_counts(piece.values)
            piece = piece._replace(is_counts=is_counts)
        pieces.append(piece)
    return pieces


def _piece(estimator: KalmanSSL, X: Any, fitting: bool, min_samples: int = 2) -> _Piece:
    """Return one recording or array; in the fit, set the units and the bin size of the estimator."""
    if is_pynapple(X):
        X = as_recording("X", X, None if fitting else estimator.bin_size_)
    if isinstance(X, Recording):
        if fitting:
            estimator.unit_ids_, estimator.bin_size_ = X.unit_ids, X.bin_size
            estimator.n_features_in_ = X.n_units
        values = activity_in_order(X, estimator.unit_ids_, estimator.bin_size_, estimator.n_features_in_)
        return _Piece(values, X.segments(), X.time, X.kind == "counts" if fitting else None)
    values = _check_array(estimator, X, fitting, min_samples)
    if fitting:
        estimator.unit_ids_, estimator.bin_size_ = (), float("nan")
    step = 1.0 if np.isnan(estimator.bin_size_) else estimator.bin_size_
    is_counts = _are_counts(values) if fitting else None
    return _Piece(values, [slice(0, len(values))], step * np.arange(len(values)), is_counts)


class _NotNumbersError(InputError, TypeError):
    """Values that are not numbers; a TypeError too, as scikit-learn requires it."""


def _check_array(estimator: KalmanSSL, X: Any, fitting: bool, min_samples: int) -> np.ndarray:
    """Return an array as floats (time, features); raise `InputError` if it cannot be used."""
    if np.ma.isMaskedArray(X) and np.ma.getmaskarray(X).any():
        message = "X is a masked array with masked values: leave these bins out, with Recording.from_arrays"
        raise InputError(message, parameter="X")
    try:
        values = validate_data(estimator, X, reset=fitting, dtype="numeric", ensure_min_samples=min_samples)
    except ValueError as error:
        raise InputError(_one_line(error, X), parameter="X") from error
    except TypeError as error:
        raise _NotNumbersError(f"X must be numbers: {first_line(error)}", parameter="X") from error
    if values.dtype.kind not in "fiub":
        raise InputError(f"X must be numbers, got an array of {values.dtype}", parameter="X")
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)


def _one_line(error: ValueError, X: Any) -> str:
    """Return the message of scikit-learn on one line, with the columns that are NaN everywhere."""
    first, *rest = str(error).splitlines()
    if "NaN" not in first and "infinity" not in first:
        return " ".join([first, *(line for line in rest if line.startswith("Reshape"))])
    try:
        empty = np.flatnonzero(np.isnan(np.asarray(X, dtype=float)).all(axis=0))
    except (TypeError, ValueError):  # a table with missing values of pandas
        empty = np.zeros(0, dtype=int)
    if len(empty):
        return f"{first} Features {', '.join(map(str, empty[:5]))} are NaN in all bins: leave them out"
    return f"{first} Leave these bins out, with Recording.from_arrays and their times, or fill them"


def _are_counts(values: np.ndarray) -> bool:
    """Return whether all values are whole numbers of at least zero."""
    return bool(values.min(initial=0.0) >= 0 and are_whole_numbers(values))
