"""Input validation of recordings that are made from arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from kalmanssl.data._binning import BIN_SIZE
from kalmanssl.data._pynapple import as_intervals, behavior_at
from kalmanssl.errors import InputError
from kalmanssl.utils.arrays import as_array, as_floats
from kalmanssl.utils.labels import is_missing_label
from kalmanssl.utils.measurement_units import is_angle
from kalmanssl.utils.validation import check_condition, check_positive, short_repr

__all__ = [
    "as_labels",
    "check_activity",
    "check_behavior",
    "check_epochs",
    "check_names",
    "check_session",
    "check_text",
    "check_time",
    "check_units",
]

_LONGEST_NAME = 200  # characters, so that messages with a name stay readable


def check_activity(activity: Any, kind: str) -> np.ndarray:
    """Return activity as finite float32 (time, units); it must not be negative unless it is a signal."""
    if not isinstance(kind, str) or kind not in ("counts", "signal"):
        raise InputError(f"kind must be 'counts' or 'signal', got {short_repr(kind)}", parameter="kind")
    values = as_array("activity", activity)
    if values.dtype.kind not in "biuf":
        message = f"activity must be numbers, got an array of {values.dtype}; convert it to float first"
        raise InputError(message, parameter="activity")
    if values.ndim != 2:
        raise InputError(
            f"activity must have shape (time, units), got {values.shape}; a single channel is activity.reshape(-1, 1)",
            parameter="activity",
        )
    if 0 in values.shape:
        message = f"activity must have at least one bin and one unit, got shape {values.shape}"
        raise InputError(message, parameter="activity")
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    wrong = ~np.isfinite(values)
    empty = np.flatnonzero(np.isnan(values).all(axis=0))
    if len(empty):
        raise InputError(
            f"activity is NaN in all bins of {len(empty)} of {values.shape[1]} units, the first unit {empty[0]}; "
            "leave these units out",
            parameter="activity",
        )
    if wrong.any():
        t, u = np.argwhere(wrong)[0]
        raise InputError(
            f"activity has {int(wrong.sum())} NaN, infinite or over-large values, the first at bin {t}, "
            f"unit {u}; leave these bins out (gaps in time are allowed) or fill them",
            parameter="activity",
        )
    if kind == "counts" and values.min() < 0:
        t, u = np.argwhere(values < 0)[0]
        raise InputError(
            f"activity has negative values, the first {values[t, u]:g} at bin {t}, unit {u}; "
            "pass kind='signal' if this is a real-valued signal",
            parameter="activity",
        )
    return values


def check_time(time: Any, bin_size: float | None, n_bins: int) -> tuple[np.ndarray, float]:
    """Return bin centers (time,) and the bin width, in seconds; see `Recording.from_arrays` for the defaults."""
    if bin_size is not None:
        check_positive("bin_size", bin_size)
    if time is None:
        width = BIN_SIZE if bin_size is None else float(bin_size)
        with np.errstate(over="ignore"):
            centers = width * (np.arange(n_bins) + 0.5)
        if not (np.isfinite(centers[-1]) and (np.diff(centers) > 0).all()):
            raise InputError(
                f"bin_size={width:g} gives {n_bins} bins no increasing times: give seconds", parameter="bin_size"
            )
        return centers, width
    centers = as_floats("time", time)
    if centers.shape != (n_bins,):
        message = f"time must have shape ({n_bins},), one bin center per row of activity; got {centers.shape}"
        raise InputError(message, parameter="time")
    if not np.isfinite(centers).all():
        count = int((~np.isfinite(centers)).sum())
        raise InputError(f"time has {count} NaN or infinite values; leave these bins out", parameter="time")
    with np.errstate(over="ignore"):
        steps = np.diff(centers)
    if not np.isfinite(steps).all():
        raise InputError("time has steps that are infinite: give seconds", parameter="time")
    if (steps <= 0).any():
        i = int(np.argmax(steps <= 0))
        raise InputError(
            f"time must increase, but bin {i + 1} ({centers[i + 1]:.10g} s) does not come after "
            f"bin {i} ({centers[i]:.10g} s); sort the bins and remove duplicates",
            parameter="time",
        )
    if bin_size is None:
        if n_bins < 2:
            raise InputError("bin_size is needed if there is only one bin", parameter="bin_size")
        return centers, float(np.median(steps))
    if n_bins > 1 and np.median(steps) < 0.5 * bin_size:
        raise InputError(
            f"time has steps of {np.median(steps):.4g} s, less than half of bin_size={bin_size:g} s: leave "
            "bin_size out, or give the time in seconds",
            parameter="bin_size",
        )
    return centers, float(bin_size)


def check_behavior(behavior: Any, time: np.ndarray, unit: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return behavior by name, each (time,) or (time, dims) with NaN where it is unknown.

    Objects of pynapple are evaluated at the bin centers `time`; angles take the nearest sample. Text, bools, categories
    and objects that are not numbers are labels: (time,) objects with None where unknown.
    """
    if behavior is None:
        return {}
    named = behavior if isinstance(behavior, Mapping) else {"position": behavior}
    check_names("behavior", list(named))
    checked, n_bins = {}, len(time)
    for name, given in named.items():
        values = behavior_at(f"behavior[{name!r}]", given, time, is_angle(str(unit.get(str(name), ""))))
        labels = as_labels(f"behavior[{name!r}]", values)
        if labels is not None and labels.shape != (n_bins,):
            raise InputError(
                f"behavior[{name!r}] has labels of shape {labels.shape}; labels must be ({n_bins},), one for each bin",
                parameter="behavior",
            )
        if labels is not None:
            checked[str(name)] = labels
            continue
        array = as_floats(f"behavior[{name!r}]", values)
        if array.ndim not in (1, 2) or len(array) != n_bins or array.size == 0:
            raise InputError(
                f"behavior[{name!r}] must have shape ({n_bins},) or ({n_bins}, dims), one row per bin; "
                f"got {array.shape}",
                parameter="behavior",
            )
        if np.isinf(array).any():
            message = f"behavior[{name!r}] has infinite values; use NaN where it is unknown"
            raise InputError(message, parameter="behavior")
        checked[str(name)] = array
    return checked


def as_labels(name: str, values: Any) -> np.ndarray | None:
    """Return text, bools or categories as objects with None where they are unknown; None if `values` are numbers."""
    array = as_array(name, values)
    if array.dtype.kind not in "USbO":
        return None
    # in an array made from a list of text, NaN has become text
    labels = np.array(values if isinstance(values, list | tuple) else array, dtype=object)
    for index, value in np.ndenumerate(labels):
        if isinstance(value, np.generic):
            labels[index] = value = value.item()
        if isinstance(value, bytes):
            labels[index] = value = value.decode(errors="replace")
        if isinstance(value, np.ndarray | Mapping | list | tuple | set | frozenset):
            message = f"{name} has a {type(value).__name__} as a value: give one number or label for each bin"
            raise InputError(message, parameter=name)
        if is_missing_label(value):
            labels[index] = None
    known = [value for value in labels.ravel() if value is not None]
    is_label = array.dtype.kind != "O" or any(isinstance(value, str | bool) for value in known)
    return labels if is_label else None


def check_session(name: Any) -> str:
    """Return the name of a session, which must be a string; "" is no name."""
    check_condition("session", name, isinstance(name, str), "a string")
    check_text("session", name)
    return str(name)


def check_text(parameter: str, text: str) -> None:
    """Raise `InputError` if text cannot be written to a file: it has NUL or half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        is_valid = False
    else:
        is_valid = "\0" not in text
    if not is_valid:
        raise InputError(
            f"{parameter} has text that cannot be written as UTF-8: {ascii(text)[:80]}; rename it", parameter=parameter
        )


def check_names(parameter: str, names: Any, count: int | None = None) -> tuple[str, ...]:
    """Return names as strings, which must be text or numbers.

    Parameters
    ----------
    parameter : str
        Name of the argument, for messages.
    names : sequence of str or numbers
        Names of units, behavior or epochs, or cell types.
    count : int, optional
        Number of columns of the activity, which must have one of the names each.

    Raises
    ------
    InputError
        If it is not a sequence of text or numbers, has another length, or, without a count, has repeated names.
    """
    no_order = isinstance(names, str | bytes | Mapping | set | frozenset)
    is_sequence = isinstance(names, Iterable) and not no_order and getattr(names, "ndim", 1) == 1
    check_condition(parameter, names, is_sequence, "a sequence of names")
    listed = list(names)
    if count is not None and len(listed) != count:
        message = f"{parameter} must have {count} entries, one per column of activity; got {len(listed)}"
        raise InputError(message, parameter=parameter)
    for name in listed:
        is_other = name is None or isinstance(name, bytes | Mapping | set | frozenset | list | np.ndarray)
        if is_other or name != name:
            raise InputError(
                f"{parameter} must have text or numbers as names, got {short_repr(name)}", parameter=parameter
            )
        check_text(parameter, str(name))
        if len(str(name)) > _LONGEST_NAME:
            raise InputError(
                f"{parameter} has a name of {len(str(name))} characters: give names of at most {_LONGEST_NAME}",
                parameter=parameter,
            )
    found = tuple(str(name) for name in listed)
    if count is None and len(set(found)) < len(found):
        raise InputError(f"{parameter} has names that are equal as text: {short_repr(listed)}", parameter=parameter)
    return found


def check_units(behavior_unit: Any) -> dict[str, str]:
    """Return the units of measurement of behavior by its name; raise `InputError` if they are not text."""
    if behavior_unit is None:
        return {}
    check_condition("behavior_unit", behavior_unit, isinstance(behavior_unit, Mapping), "a dict of name to unit")
    check_names("behavior_unit", list(behavior_unit))
    for unit in behavior_unit.values():
        check_condition("behavior_unit", unit, isinstance(unit, str), "a dict of name to unit, both text")
        check_text("behavior_unit", unit)
    return {str(name): unit for name, unit in behavior_unit.items()}


def check_epochs(epochs: Any) -> dict[str, np.ndarray]:
    """Return the start and stop times (n, 2) of epochs by label."""
    if epochs is None:
        return {}
    check_condition("epochs", epochs, isinstance(epochs, Mapping), "a dict of label to start and stop times")
    labels = check_names("epochs", list(epochs))
    return {
        label: as_intervals(f"epochs[{label!r}]", spans, "epochs")
        for label, spans in zip(labels, epochs.values(), strict=True)
    }
