"""Arrays from what a caller passes, and checks of those that a recording is made from.

Everything wrong raises `InputError` with the way out.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from kalmanssl.errors import InputError, first_line

__all__ = [
    "as_array",
    "as_floats",
    "center_and_scale",
    "check_activity",
    "check_behavior",
    "check_bin_size",
    "check_epoch",
    "check_features",
    "check_labels",
    "check_time",
    "without_tensors",
]


def without_tensors(values: Any) -> Any:
    """Return a tensor, or each of a list of them, as an array, and anything else as it is.

    Also if it has a gradient, lies on another device or has a type that numpy does not know, such as bfloat16.
    """
    torch = sys.modules.get("torch")  # where it has not been imported there are no tensors, and it loads slowly
    if torch is None:
        return values
    if isinstance(values, torch.Tensor):
        foreign = values.is_floating_point() and values.dtype not in (torch.float16, torch.float32, torch.float64)
        return (values.float() if foreign else values).numpy(force=True)
    if isinstance(values, list | tuple) and any(isinstance(value, torch.Tensor) for value in values):
        return [without_tensors(value) for value in values]
    return values


def as_array(name: str, values: Any) -> np.ndarray:
    """Return what a caller passed, arrays, tensors, sequences or tables, as an array of any shape and type."""
    try:
        return np.asarray(without_tensors(values))
    except (RuntimeError, TypeError, ValueError) as error:
        try:
            shapes = list(dict.fromkeys(np.shape(without_tensors(value)) for value in values))
        except (RuntimeError, TypeError, ValueError):
            shapes = []
        if len(shapes) > 1:
            reason = f"has parts of different shapes, such as {shapes[0]} and {shapes[1]}: bring them to one"
        else:
            reason = f"cannot be made an array: {first_line(error)}"
        raise InputError(f"{name} {reason}") from error


def as_floats(name: str, values: Any) -> np.ndarray:
    """Return what a caller passed as a new array of floats of any shape; None counts as NaN."""
    array = as_array(name, values)
    if array.dtype.kind in "biufO":
        try:
            return array.astype(float)
        except (TypeError, ValueError):
            pass
    raise InputError(f"{name} must be numbers, got an array of {array.dtype}; convert it to float first")


def check_activity(activity: Any, kind: str) -> np.ndarray:
    """Return activity as finite (time, units) float32, not negative unless they are a signal."""
    if kind not in ("counts", "signal"):
        raise InputError(f"kind must be 'counts' or 'signal', got {kind!r}")
    values = as_array("activity", activity)
    if values.dtype.kind not in "biuf":
        raise InputError(f"activity must be numbers, got an array of {values.dtype}; convert it to float first")
    if values.ndim != 2:
        raise InputError(
            f"activity must have shape (time, units), got {values.shape}; one channel alone is activity.reshape(-1, 1)"
        )
    if 0 in values.shape:
        raise InputError(f"activity must hold at least one bin and one unit, got shape {values.shape}")
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    wrong = ~np.isfinite(values)
    if wrong.any():
        t, u = np.argwhere(wrong)[0]
        raise InputError(
            f"activity has {int(wrong.sum())} NaN, infinite or over-large values, the first at bin {t}, "
            f"unit {u}; leave these bins out (gaps in time are fine) or fill them"
        )
    if kind == "counts" and values.min() < 0:
        t, u = np.argwhere(values < 0)[0]
        raise InputError(
            f"activity has negative values, the first {values[t, u]:g} at bin {t}, unit {u}; "
            "pass kind='signal' if this is a real-valued signal"
        )
    return values


def check_time(time: Any, bin_size: float | None, n_bins: int) -> tuple[np.ndarray, float]:
    """Return bin centers (time,) and the width of a bin, both in seconds."""
    if bin_size is not None:
        check_bin_size(bin_size)
    if time is None:
        width = 0.025 if bin_size is None else float(bin_size)
        return width * (np.arange(n_bins) + 0.5), width
    centers = as_floats("time", time)
    if centers.shape != (n_bins,):
        raise InputError(f"time must have shape ({n_bins},), one bin center per row of activity; got {centers.shape}")
    if not np.isfinite(centers).all():
        raise InputError(f"time has {int((~np.isfinite(centers)).sum())} NaN or infinite values; leave these bins out")
    steps = np.diff(centers)
    if (steps <= 0).any():
        i = int(np.argmax(steps <= 0))
        raise InputError(
            f"time must increase, but bin {i + 1} ({centers[i + 1]:.10g} s) does not come after "
            f"bin {i} ({centers[i]:.10g} s); sort the bins and drop repeats"
        )
    if bin_size is None:
        if n_bins < 2:
            raise InputError("bin_size is needed when there is only one bin")
        return centers, float(np.median(steps))
    if n_bins > 1 and np.median(steps) < 0.5 * bin_size:
        raise InputError(
            f"time steps by {np.median(steps):.4g} s, less than half of bin_size={bin_size:g} s; both are in seconds"
        )
    return centers, float(bin_size)


def check_behavior(behavior: Any, n_bins: int) -> dict[str, np.ndarray]:
    """Return behavior by name, each (time,) or (time, dims) with NaN where unknown."""
    if behavior is None:
        return {}
    named = behavior if isinstance(behavior, Mapping) else {"position": behavior}
    checked = {}
    for name, values in named.items():
        array = as_floats(f"behavior[{name!r}]", values)
        if array.ndim not in (1, 2) or len(array) != n_bins:
            raise InputError(
                f"behavior[{name!r}] must have shape ({n_bins},) or ({n_bins}, dims), one row per bin; "
                f"got {array.shape}"
            )
        if np.isinf(array).any():
            raise InputError(f"behavior[{name!r}] has infinite values; use NaN where it is unknown")
        checked[str(name)] = array
    return checked


def check_epoch(label: str, spans: Any) -> np.ndarray:
    """Return the spans of an epoch as (n, 2), seconds."""
    array = as_floats(f"epochs[{label!r}]", spans)
    array = array.reshape(1, 2) if array.shape == (2,) else array
    if array.ndim != 2 or array.shape[1] != 2 or not (array[:, 0] < array[:, 1]).all():
        raise InputError(
            f"epochs[{label!r}] must be (start, stop) or (n, 2) of these with start < stop, seconds; got {spans!r}"
        )
    return array


def check_bin_size(bin_size: float) -> None:
    """Raise `InputError` unless a width in seconds is a positive finite number."""
    if not isinstance(bin_size, (int, float, np.number)) or not (0 < bin_size < np.inf):
        raise InputError(f"bin_size must be a positive number of seconds, got {bin_size!r}")


def check_features(name: str, values: Any, least: int = 1) -> np.ndarray:
    """Return `values` as an array of finite floats (samples, dims) with at least so many samples."""
    array = as_array(name, values)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name} must be numbers, got an array of {array.dtype}; convert it to float first")
    if array.ndim != 2 or array.shape[1] == 0:
        raise InputError(f"{name} must have shape (samples, dims), got {array.shape}")
    if len(array) < least:
        raise InputError(f"{name} has {len(array)} samples: give at least {least}")
    array = array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)
    bad = int((~np.isfinite(array)).any(axis=1).sum())
    if bad:
        raise InputError(f"{name} has {bad} of {len(array)} rows with NaN or infinity: leave them out")
    return array


def check_labels(name: str, labels: Any, samples: int, least: int = 2) -> np.ndarray:
    """Return `labels` as (samples,) numbers or names without NaN, of at least so many classes."""
    array = as_array(name, labels)
    if array.shape != (samples,):
        raise InputError(f"{name} has shape {array.shape} and there are {samples} samples: give one label for each")
    if array.dtype.kind == "O":
        raise InputError(f"{name} are objects of Python: give numbers or names, np.asarray({name}, dtype=str)")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{name} has {int((~np.isfinite(array)).sum())} NaN or infinite values: leave them out")
    classes = np.unique(array)
    if len(classes) < least:
        raise InputError(f"{name} holds {len(classes)} class, {classes[0]!s}: at least {least} are needed")
    return array


def center_and_scale(name: str, z: np.ndarray) -> tuple[np.ndarray, np.float64]:
    """Return finite rows in float64 with mean zero and entries of about one, and what they were divided by.

    Squares and differences are safe in them however large, small or far from zero the rows were.

    Raises
    ------
    InputError
        If all rows are the same.
    """
    # Halves, since the difference of the largest floats is none. From the first row, not the mean, whose rounding
    # would make equal rows differ from it.
    half = 0.5 * z.astype(float)
    half -= half[0]
    size = np.abs(half).max()
    if not size > 0:
        raise InputError(f"the {len(z)} rows of {name} are all the same: the representations have collapsed to a point")
    scaled = half / size
    with np.errstate(over="ignore"):
        return scaled - scaled.mean(axis=0), 2 * size
