"""Checks of the parameters of a small model in one compiled call; everything unusual is left to `_validation.py`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from torch import Tensor

from kalmanssl.kalman._model import Arrays, Model
from kalmanssl.kalman._tensor_checks import PRECISIONS, check_memory, plain_array
from kalmanssl.kalman.kernels import has_compiler

__all__ = ["is_quickly_finite", "quick_model"]

# Larger models gain nothing: reading their numbers takes longer than the calls.
_MOST_NUMBERS = 30_000

Shape = tuple[int, ...]


@cache
def _kernels() -> tuple[Callable[..., bool], Callable[..., bool]]:
    """The compiled checks of one array and of all parameters; to import them imports numba."""
    from kalmanssl.kalman.kernels._check_kernels import all_finite
    from kalmanssl.kalman.kernels._step_kernels import parameters_are_valid

    return all_finite, parameters_are_valid


def is_quickly_finite(value: Tensor) -> bool:
    """Whether all numbers of a small tensor are finite; False also for those that are large or unusual."""
    array = plain_array(value) if value.is_cpu and has_compiler() else None
    if array is None or array.dtype not in PRECISIONS or array.size > _MOST_NUMBERS or 0 in array.strides:
        return False
    return _kernels()[0](array.ravel())


def quick_model(
    like: Tensor,
    batch: int,
    time: int,
    *,
    A: Tensor,
    Q: Tensor,
    C: Tensor,
    R: Tensor,
    b: Tensor | None,
    m0: Tensor | None,
    P0: Tensor | None,
    obs: int | None,
) -> Model | None:
    """Return the result of `check_model`, or None if an argument is wrong, unusual or large.

    The conditions are those of `check_model`, so that it says what is wrong.
    """
    if not has_compiler() or not isinstance(like, Tensor) or not like.is_cpu:
        return None
    found_A, found_C = plain_array(A), plain_array(C)
    if found_A is None or found_C is None or found_A.dtype not in PRECISIONS or like.dtype is not A.dtype:
        return None
    kind, n, m = found_A.dtype, found_A.shape[-1:], found_C.shape[-2:-1]
    if len(n) == 0 or len(m) == 0 or (obs is not None and m != (obs,)):
        return None
    parameters = (
        _with_axes(found_A, kind, (n + n,), batch, time),
        np.zeros((1, 1, *n), kind) if b is None else _with_axes(plain_array(b), kind, (n,), batch, time),
        _with_axes(plain_array(Q), kind, (n, n + n), batch, time),
        _with_axes(found_C, kind, (m + n,), batch, time),
        _with_axes(plain_array(R), kind, (m, m + m), batch, time),
        np.zeros((1, *n), kind) if m0 is None else _with_batch(plain_array(m0), kind, (n,), (batch, *n)),
        np.ones((1, *n), kind) if P0 is None else _with_batch(plain_array(P0), kind, (n, n + n), (batch, *n, *n)),
    )
    arrays = [array for array in parameters if array is not None]
    if len(arrays) < len(parameters) or not 0 < sum([array.size for array in arrays]) <= _MOST_NUMBERS or 0 in n + m:
        return None
    if obs is not None:
        check_memory("y", like.element_size() * batch * time * (n[0] + obs))
    eps, start = PRECISIONS[kind], arrays[6]
    diagonal = (arrays[2].ndim == 3, arrays[4].ndim == 3, start.ndim == 2)
    if not _kernels()[1](tuple([a.ravel() for a in arrays]), n[0], m[0], diagonal, (eps**0.5, 1e3 * eps)):
        return None
    if start.ndim == 2:
        arrays[6] = np.zeros((1, *n, *n), kind)
        arrays[6].reshape(-1)[:: n[0] + 1] = start[0]
    return Model(A=A, b=b, Q=Q, C=C, R=R, m0=m0, P0=P0, arrays=Arrays(*arrays))


def _with_axes(
    array: np.ndarray | None, kind: np.dtype, tails: tuple[Shape, ...], batch: int, time: int
) -> np.ndarray | None:
    """The array with batch and time axes, without which its shape is one of `tails`; None if it does not fit."""
    if array is None or array.dtype is not kind:
        return None
    shape = array.shape
    if shape in tails:
        return array[None, None]
    return array if shape[2:] in tails and shape[0] in (1, batch) and shape[1] in (1, time) else None


def _with_batch(array: np.ndarray | None, kind: np.dtype, shared: tuple[Shape, ...], own: Shape) -> np.ndarray | None:
    """The array of the shape `own`, or of one of `shared` with a batch axis; None if it does not fit."""
    if array is None or array.dtype is not kind or (array.shape not in shared and array.shape != own):
        return None
    return array[None] if array.shape in shared else array
