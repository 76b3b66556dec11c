"""Checks of single tensors: type, layout, data type, device, and finite values."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from kalmanssl.errors import InputError, NotFiniteError, first_line

__all__ = [
    "PRECISIONS",
    "ShapeError",
    "all_finite",
    "check_layout",
    "check_memory",
    "check_moments",
    "check_tensor",
    "distinct_entries",
    "has_derivatives",
    "name_shapes",
    "plain_array",
    "read_array",
    "wrong_shape",
    "wrong_value",
]

_DTYPES = frozenset((torch.float32, torch.float64))
_ORDINARY = frozenset((Tensor, torch.nn.Parameter))
# Supported data types in numpy, and their unit roundoffs.
PRECISIONS = {np.dtype(kind): float(np.finfo(kind).eps) for kind in (np.float32, np.float64)}
# Arrays up to this size are checked value by value; for larger ones the sum is faster.
_SMALL = 4096


class ShapeError(InputError):
    """An argument has a shape that does not fit the other arguments."""


def wrong_value(name: str, message: str) -> InputError:
    """Return the error to raise about the value or type of the argument `name`."""
    return InputError(f"{name}: {message}", parameter=name)


def wrong_shape(name: str, message: str) -> ShapeError:
    """Return the error to raise about the shape of the argument `name`; `name_shapes` adds the other shapes."""
    return ShapeError(f"{name}: {message}", parameter=name)


@contextmanager
def name_shapes(**tensors: Tensor | None) -> Iterator[None]:
    """Add the shapes of all given tensors to the message of a `ShapeError`, and raise it as an `InputError`."""
    try:
        yield
    except ShapeError as error:
        given = ", ".join(f"{name} {tuple(t.shape)}" for name, t in tensors.items() if isinstance(t, Tensor))
        raise InputError(f"{error}; given: {given}", parameter=error.parameter) from None


def check_tensor(name: str, value: Tensor, like: Tensor | None) -> Tensor:
    """Check the type of a tensor; with `like`, also its data type, its device and that its values are finite.

    Returns the tensor, with its values negated in memory if it is a lazy negation.
    """
    if not isinstance(value, Tensor):
        raise wrong_value(name, f"expected a torch.Tensor, got {type(value).__name__}; wrap it in torch.as_tensor")
    check_layout(name, value)
    if value.dtype not in _DTYPES:
        raise wrong_value(name, f"expected float32 or float64, got {value.dtype}; convert it with .to(torch.float32)")
    if value.is_neg():
        value = value.resolve_neg()
    array = read_array(name, value)
    if like is None:
        return value
    if value.dtype is not like.dtype or value.device != like.device:
        raise wrong_value(
            name,
            f"expected {like.dtype} on {like.device} as the data, got {value.dtype} on {value.device}; "
            f"convert it with .to(dtype={like.dtype}, device={str(like.device)!r})",
        )
    if not (_array_is_finite(array) if array is not None else all_finite(value)):
        raise wrong_value(name, "contains NaN or infinity; check how it was computed")
    return value


def check_layout(name: str, value: Tensor) -> None:
    """Check that a tensor is dense and has values."""
    if value.is_nested:
        raise wrong_value(
            name,
            "expected a dense tensor, got a nested one; pad its parts to one length with .to_padded_tensor(0.0), "
            "and set the mask to False there",
        )
    if value.layout is not torch.strided:
        raise wrong_value(name, f"expected a dense tensor, got {value.layout}; convert it with .to_dense()")
    if value.is_meta:
        raise wrong_value(name, "expected a tensor with values, got one on the device meta; make it on cpu or cuda")


def read_array(name: str, value: Tensor) -> np.ndarray | None:
    """Return the values of a tensor on the CPU, None on other devices; raise if they cannot be read."""
    if not value.is_cpu:
        return None
    try:
        return value.detach().numpy()
    except RuntimeError as error:
        raise wrong_value(
            name,
            f"its values cannot be read ({first_line(error)[:120]}); pass an ordinary tensor, outside of torch.vmap "
            "and torch.compile",
        ) from None


def plain_array(value: Tensor) -> np.ndarray | None:
    """Return the values of an ordinary tensor on the CPU; None for anything else."""
    if type(value) not in _ORDINARY:
        return None
    try:
        return (value.detach() if value.requires_grad else value).numpy()
    except (RuntimeError, TypeError):  # of layouts that numpy cannot read, other devices, and transforms of torch.func
        return None


def has_derivatives(tensors: Iterable[Tensor]) -> bool:
    """Whether torch records derivatives with respect to one of the tensors, or carries derivatives forward."""
    if forward_ad._current_level >= 0:
        return True
    return torch.is_grad_enabled() and any(value.requires_grad for value in tensors)


def all_finite(value: Tensor) -> bool:
    """Whether all values of a tensor are finite."""
    value = value.detach()
    if value.is_cpu:
        return _array_is_finite(value.numpy())
    value = distinct_entries(value)
    # The sum of finite values is finite unless it overflows, and it takes far less time than a check of each value.
    return math.isfinite(value.sum().item()) or bool(torch.isfinite(value).all())


def _array_is_finite(array: np.ndarray) -> bool:
    if 0 in array.strides:
        array = array[tuple(slice(1) if stride == 0 else slice(None) for stride in array.strides)]
    if array.size > _SMALL:
        with np.errstate(all="ignore"):
            if math.isfinite(array.sum()):
                return True
    return bool(np.isfinite(array).all())


def check_moments(*tensors: Tensor) -> None:
    """Raise if moments computed by a filter from finite arguments are not finite; of covariances pass the variances."""
    if not all(all_finite(value) for value in tensors):
        dtype = str(tensors[0].dtype).removeprefix("torch.")
        raise NotFiniteError(
            f"the moments overflow {dtype}; check for huge values in y and the parameters, and that A does not let a "
            f"state without observations grow without bound{'; or use float64' if dtype == 'float32' else ''}"
        )


def distinct_entries(value: Tensor) -> Tensor:
    """The tensor with one entry along each axis along which it was expanded."""
    strides = value.stride()
    return value[tuple(slice(1) if stride == 0 else slice(None) for stride in strides)] if 0 in strides else value


def check_memory(name: str, size: int) -> None:
    """Raise if results of so many bytes, for which the argument `name` is the cause, are larger than the memory."""
    if size > _memory():
        raise wrong_value(
            name,
            f"the results would take {size / 1e9:.3g} GB, and this machine has {_memory() / 1e9:.3g} GB of memory; "
            "process fewer at a time",
        )


@cache
def _memory() -> float:
    """Bytes of memory of this machine; infinite where it is unknown."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return math.inf
