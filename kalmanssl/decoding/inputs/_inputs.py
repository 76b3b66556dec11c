"""Validation of what `PositionDecoder` is given: latents, behavior, periods, times and masks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse

from kalmanssl.data import Covariances, Latents, full_circle, is_pynapple
from kalmanssl.decoding.inputs._sessions import on_one_axis
from kalmanssl.errors import InputError, PeriodWarning
from kalmanssl.utils.arrays import as_array, as_floats
from kalmanssl.utils.circular import Periods

__all__ = [
    "LARGEST_POSITION",
    "MIN_BINS",
    "LatentArrays",
    "check_behavior",
    "check_latents",
    "check_mask",
    "check_same_bins",
    "check_smoothed",
    "is_list_of_latents",
    "join_trials",
    "usable_bins",
    "warn_if_circle",
]

LARGEST_POSITION = 1e30  # quantiles are stored in single precision
MIN_BINS = 10  # that a decoder is fitted on


class LatentArrays(NamedTuple):
    """Latents as arrays.

    Attributes
    ----------
    mean : (time, features)
    cov : Covariances or None
        Posterior covariances, if they are known.
    time : (time,) or None
        Seconds, if they are known.
    """

    mean: np.ndarray
    cov: Covariances | None
    time: np.ndarray | None


def is_list_of_latents(latents: Any) -> bool:
    """Return whether latents are those of several trials, as `KalmanSSL.transform` returns for a list of trials."""
    return isinstance(latents, list | tuple) and len(latents) > 0 and all(isinstance(z, Latents) for z in latents)


def join_trials(latents: Any, **per_trial: Any) -> tuple[Any, ...]:
    """Return latents of trials as one, with other lists of one array for each trial joined; other input is unchanged.

    Sessions, each with a clock of its own, follow one another in the result.

    Parameters
    ----------
    latents : Latents, array, or list of Latents
    **per_trial
        By name: a list of arrays (time, ...), one for each trial, or None, or an object of pynapple for all trials.
    """
    if not is_list_of_latents(latents):
        return (latents, *per_trial.values())
    joined = []
    for name, parts in per_trial.items():
        if parts is None or is_pynapple(parts):
            joined.append(parts)
            continue
        lengths = [len(part) for part in parts]
        if lengths != [len(one) for one in latents]:
            raise InputError(
                f"{name} has {lengths} bins and latents {[len(one) for one in latents]}: give one array for each trial",
                parameter=name,
            )
        is_latents = is_list_of_latents(parts)
        joined.append(_joined(parts) if is_latents else np.concatenate([np.asarray(p) for p in parts]))
    return (_joined(latents), *joined)


def _joined(latents: Sequence[Latents]) -> Latents:
    return Latents.concatenate(on_one_axis(latents))


def check_latents(latents: Latents | np.ndarray, time: np.ndarray | None = None) -> LatentArrays:
    """Return `Latents`, or an array (time, features) with the times of its bins if these are known, as arrays.

    A `TsdFrame`, and a DataFrame whose index is named "time", have times of their own.
    """
    if isinstance(latents, Latents):
        return LatentArrays(np.asarray(latents.mean, dtype=float), latents.covariances, np.asarray(latents.time))
    if time is None:
        time = _own_times(latents)
    mean = _latent_array(latents)
    if time is not None:
        time = as_array("time", time)
        if time.dtype.kind not in "iuf":
            raise InputError(f"time must be numbers, in seconds; got an array of {time.dtype}", parameter="time")
        time = time.astype(float)
        if time.shape != (len(mean),):
            raise InputError(
                f"time has shape {time.shape}, latents {len(mean)} bins: give one time for each bin", parameter="time"
            )
        if not np.isfinite(time).all():
            raise InputError("time has NaN or infinite values: give the time of each bin, in seconds", parameter="time")
        if (np.diff(time) <= 0).any():
            raise InputError("time must increase: sort the bins or drop the repeated ones", parameter="time")
    return LatentArrays(mean, None, time)


def _own_times(latents: Any) -> np.ndarray | None:
    """Return the times of a `TsdFrame` or of a DataFrame whose index is named "time", seconds; otherwise None."""
    if is_pynapple(latents, "TsdFrame"):
        return np.asarray(latents.index.values, dtype=float)
    index = getattr(latents, "index", None)
    return np.asarray(index, dtype=float) if getattr(index, "name", None) == "time" else None


def _latent_array(latents: Any) -> np.ndarray:
    """Return an array of latents (time, features) as floats; messages are worded as in scikit-learn."""
    if issparse(latents):
        raise InputError("latents is sparse, which is not supported: convert it with .toarray()", parameter="latents")
    values = as_array("latents", latents)
    if values.dtype.kind == "c":
        raise InputError("Complex data not supported: latents must be real numbers", parameter="latents")
    if values.ndim != 2:
        raise InputError(
            f"latents has shape {values.shape}: give a Latents or an array (time, features). Reshape your data with "
            ".reshape(-1, 1) if there is one feature",
            parameter="latents",
        )
    if 0 in values.shape:
        axis = "sample" if len(values) == 0 else "feature"
        raise InputError(
            f"latents has 0 {axis}(s) (shape={values.shape}) while a minimum of 1 is required.", parameter="latents"
        )
    return as_floats("latents", values)


def check_behavior(position: Any, n_bins: int) -> tuple[np.ndarray, bool]:
    """Return behavior as (time, dims), a copy, and whether it was given as (time,)."""
    if hasattr(getattr(position, "dtype", None), "na_value"):  # nullable numbers of pandas
        position = position.to_numpy(dtype=object, na_value=None)
    position = as_floats("position", position)
    if position.ndim not in (1, 2):
        raise InputError(f"position has shape {position.shape}: give (time,) or (time, dims)", parameter="position")
    check_same_bins(position, n_bins)
    columns = position.reshape(n_bins, -1)
    if columns.shape[1] == 0:
        raise InputError(f"position has shape {position.shape}, without a dimension to decode", parameter="position")
    beyond = np.abs(columns) > LARGEST_POSITION  # also infinite
    if beyond.any():
        raise InputError(
            f"position has the value {columns[beyond][0]:g}: give NaN where it is unknown, and values up to "
            f"{LARGEST_POSITION:g} elsewhere",
            parameter="position",
        )
    return columns, position.ndim == 1


def check_same_bins(position: np.ndarray, n_bins: int) -> None:
    """Raise `InputError` unless behavior has as many bins as the latents."""
    if len(position) != n_bins:
        raise InputError(
            f"position has {len(position)} bins and latents {n_bins}: cut both to the same bins", parameter="position"
        )


def warn_if_circle(behavior: np.ndarray, periods: Periods) -> None:
    """Warn if a dimension without a period jumps between the ends of a whole circle, as angles do."""
    for column, given in zip(behavior.T, periods, strict=True):
        period = full_circle(column, "") if given is None else None
        if period is not None:
            warnings.warn(
                f"position jumps between the ends of a whole circle: if it is an angle, give period={period:.6g}",
                PeriodWarning,
                stacklevel=4,
            )


def check_mask(name: str, mask: Any, n_bins: int) -> np.ndarray:
    """Return `mask` as a boolean array (time,)."""
    mask = as_array(name, mask)
    if mask.dtype != bool or mask.shape != (n_bins,):
        raise InputError(
            f"{name} is {mask.dtype} of shape {mask.shape}: it must be bool of shape ({n_bins},)", parameter=name
        )
    return mask


def usable_bins(mean: np.ndarray, behavior: np.ndarray, where: Any, labels: np.ndarray | None = None) -> np.ndarray:
    """Return which bins to fit on, (time,) bool: those inside `where` with finite latents and behavior.

    Raises `InputError` if there are too few, or if the behavior is constant on them. With `labels` the behavior is the
    number of a label.
    """
    known = np.isfinite(behavior).all(axis=1) & np.isfinite(mean).all(axis=1)
    usable = known if where is None else known & check_mask("where", where, len(mean))
    if len(mean) < MIN_BINS:
        raise InputError(f"latents has {len(mean)} samples (bins): at least {MIN_BINS} are needed", parameter="latents")
    if usable.sum() < MIN_BINS:
        raise InputError(
            f"only {usable.sum()} of {len(mean)} bins have a known position and latents"
            f"{'' if where is None else ' inside where'}: at least {MIN_BINS} are needed",
            parameter="position" if known.sum() < MIN_BINS else "where",
        )
    constant = np.flatnonzero(np.ptp(behavior[usable], axis=0) == 0)
    if len(constant) and labels is not None:
        raise InputError(
            f"position has the label {labels.tolist()[int(behavior[usable][0, 0])]!r} only in the bins to fit on: "
            "at least two labels are needed",
            parameter="position",
        )
    if len(constant):
        raise InputError(
            f"position is constant ({behavior[usable][0, constant[0]]:g}) in dimension {constant[0]}: "
            "nothing to decode",
            parameter="position",
        )
    return usable


def check_smoothed(latents: Latents | np.ndarray, smoothed: Latents | None) -> None:
    """Check that `smoothed` are smoothed latents over the same bins as filtered `latents`."""
    if smoothed is None:
        return
    already = isinstance(latents, Latents) and latents.smoothed
    if not isinstance(smoothed, Latents) or not smoothed.smoothed or already:
        raise InputError(
            "smoothed must be the smoothed latents that belong to filtered latents: "
            "model.transform(recording, smooth=True)",
            parameter="smoothed",
        )
    if smoothed.shape != latents.shape:
        raise InputError(
            f"smoothed has {smoothed.shape[0]} bins and {smoothed.shape[1]} features, "
            f"latents {latents.shape[0]} and {latents.shape[1]}: give both over the same bins, from the same model",
            parameter="smoothed",
        )
