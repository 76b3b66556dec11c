"""Conversion of array-like arguments to numpy arrays, with input validation."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from kalmanssl.errors import InputError, first_line

__all__ = [
    "as_array",
    "as_floats",
    "center_and_scale",
    "check_features",
    "check_labels",
    "without_tensors",
]


def without_tensors(values: Any) -> Any:
    """Convert a tensor, or a list that contains tensors, to numpy; return anything else unchanged.

    Tensors with a gradient, on another device, or of a type that numpy does not have (such as bfloat16) are converted
    too.
    """
    torch = sys.modules.get("torch")  # if torch is not imported, there are no tensors; importing it would be slow
    if torch is None:
        return values
    if isinstance(values, torch.Tensor):
        not_in_numpy = values.is_floating_point() and values.dtype not in (torch.float16, torch.float32, torch.float64)
        return (values.float() if not_in_numpy else values).numpy(force=True)
    if isinstance(values, list | tuple) and any(isinstance(value, torch.Tensor) for value in values):
        return [without_tensors(value) for value in values]
    return values


def as_array(name: str, values: Any) -> np.ndarray:
    """Return an array, tensor, sequence or table as an array of any shape and type; raise InputError if impossible.

    Masked values of a masked array of floats become NaN; other masked values are an error.
    """
    if isinstance(values, np.ma.MaskedArray):
        values = _without_mask(name, values)
    try:
        return np.asarray(without_tensors(values))
    except (RuntimeError, TypeError, ValueError) as error:
        try:
            shapes = list(dict.fromkeys(np.shape(without_tensors(value)) for value in values))
        except (RuntimeError, TypeError, ValueError):
            shapes = []
        if len(shapes) > 1:
            reason = f"has parts of different shapes, such as {shapes[0]} and {shapes[1]}: give them the same shape"
        else:
            reason = f"cannot be converted to an array: {first_line(error)}"
        raise InputError(f"{name} {reason}", parameter=name) from error


def _without_mask(name: str, values: Any) -> np.ndarray:
    """Return a masked array as an array with NaN at its masked values."""
    if not np.ma.getmaskarray(values).any():
        return np.asarray(values.data)
    if values.dtype.kind != "f":
        raise InputError(
            f"{name} has masked values of type {values.dtype}: fill them, or convert it to float", parameter=name
        )
    return np.asarray(values.filled(np.nan))


def as_floats(name: str, values: Any) -> np.ndarray:
    """Return an array-like as a new float array of any shape; None becomes NaN."""
    array = as_array(name, values)
    is_text = array.dtype.kind == "O" and any(isinstance(value, str | bytes) for value in array.flat)
    if array.dtype.kind in "biufO" and not is_text:
        try:
            return array.astype(float)
        except (OverflowError, TypeError, ValueError):
            pass
    raise _not_numbers(name, array)


def _not_numbers(name: str, array: np.ndarray) -> InputError:
    return InputError(
        f"{name} must be numbers, got an array of {array.dtype}; convert it to float first", parameter=name
    )


def check_features(name: str, values: Any, minimum: int = 1) -> np.ndarray:
    """Return `values` as finite floats (samples, dims) with at least `minimum` samples; raise InputError otherwise."""
    array = as_array(name, values)
    if array.dtype.kind not in "fiub":
        raise _not_numbers(name, array)
    if array.ndim != 2 or array.shape[1] == 0:
        raise InputError(f"{name} must have shape (samples, dims), got {array.shape}", parameter=name)
    if len(array) < minimum:
        raise InputError(f"{name} has {len(array)} samples: give at least {minimum}", parameter=name)
    array = array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)
    bad = int((~np.isfinite(array)).any(axis=1).sum())
    if bad:
        raise InputError(f"{name} has {bad} of {len(array)} rows with NaN or infinity: leave them out", parameter=name)
    return array


def check_labels(name: str, labels: Any, samples: int, minimum: int = 2) -> np.ndarray:
    """Return `labels` as (samples,) numbers or names of at least `minimum` classes; raise InputError otherwise."""
    array = as_array(name, labels)
    if array.shape != (samples,):
        message = f"{name} has shape {array.shape} and there are {samples} samples: give one label for each"
        raise InputError(message, parameter=name)
    if array.dtype.kind == "O":
        message = f"{name} has Python objects: give numbers or names, for example np.asarray({name}, dtype=str)"
        raise InputError(message, parameter=name)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise InputError(f"{name} has {count} NaN or infinite values: leave them out", parameter=name)
    classes = np.unique(array)
    if len(classes) < minimum:
        message = f"{name} has only {len(classes)} class, {classes[0]!s}: at least {minimum} are needed"
        raise InputError(message, parameter=name)
    return array


def center_and_scale(name: str, z: np.ndarray) -> tuple[np.ndarray, np.float64]:
    """Center rows and divide them by their largest entry, so that squares neither overflow nor underflow.

    Parameters
    ----------
    name : str
        Name of the argument, for the error message.
    z : (samples, dims)
        Finite values.

    Returns
    -------
    scaled : (samples, dims) float64
        Rows with mean zero and entries of order one.
    scale : float
        The divisor.

    Raises
    ------
    InputError
        If all rows are equal.
    """
    # Values are halved because differences of the largest floats overflow. The first row is subtracted before the mean,
    # because rounding of the mean would make equal rows look different.
    half = 0.5 * z.astype(float)
    half -= half[0]
    size = np.abs(half).max()
    if not size > 0:
        raise InputError(
            f"the {len(z)} rows of {name} are all equal: the representations have collapsed", parameter=name
        )
    scaled = half / size
    with np.errstate(over="ignore"):
        return scaled - scaled.mean(axis=0), 2 * size
