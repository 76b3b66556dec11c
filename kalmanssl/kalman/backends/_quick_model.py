"""Checks of the parameters of a small model in one compiled call; everything unusual is left to `_validation.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kalmanssl.kalman._model import Model
from kalmanssl.kalman._tensor_checks import PRECISIONS, check_memory, plain_array
from kalmanssl.kalman.kernels import has_compiler

__all__ = ["is_quickly_finite", "quick_model"]

# Larger models gain nothing: reading their numbers takes longer than the calls.
_MOST_NUMBERS = 30_000
_NOTHING = {kind: np.zeros(1, kind) for kind in PRECISIONS}


def is_quickly_finite(value: Tensor) -> bool:
    """Whether all numbers of a small tensor are finite; False also for those that are large or unusual."""
    array = plain_array(value) if value.is_cpu and has_compiler() else None
    if array is None or array.dtype not in PRECISIONS or array.size > _MOST_NUMBERS or 0 in array.strides:
        return False
    from kalmanssl.kalman.kernels._check_kernels import all_finite

    return all_finite(array.ravel())


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
    values = (A, b, Q, C, R, m0, P0)
    arrays = [None if value is None else plain_array(value) for value in values]
    found_A, _, found_Q, found_C, found_R, found_m0, found_P0 = arrays
    if found_A is None or found_Q is None or found_C is None or found_R is None:
        return None
    kind, n, m = found_A.dtype, found_A.shape[-1:], found_C.shape[-2:-1]
    if (
        kind not in PRECISIONS
        or like.dtype is not A.dtype
        or len(n) == len(m) == 0
        or (obs is not None and m != (obs,))
    ):
        return None
    diagonal = (found_Q.ndim in (1, 3), found_R.ndim in (1, 3), found_P0 is None or found_P0.ndim == 1)
    tails = (n + n, n, n if diagonal[0] else n + n, m + n, m if diagonal[1] else m + m)
    written: list[Any] = []
    size = 0
    for value, array, tail in zip(values, arrays, tails, strict=False):
        if (array is None and value is not None) or (array is not None and array.dtype is not kind):
            return None
        written.append(like.new_zeros(1, 1, *n) if array is None else _with_axes(value, array, tail, batch, time))
        size += 0 if array is None else array.size
    if any(value is None for value in written) or not _starts_fit(found_m0, found_P0, m0, P0, kind, n, batch):
        return None
    if obs is not None:
        check_memory("y", like.element_size() * batch * time * (n[0] + obs))
    size += (0 if found_m0 is None else found_m0.size) + (0 if found_P0 is None else found_P0.size)
    if not 0 < size <= _MOST_NUMBERS or 0 in n + m:
        return None
    from kalmanssl.kalman.kernels._step_kernels import parameters_are_valid

    eps, nothing = PRECISIONS[kind], _NOTHING[kind]
    flat = tuple([nothing if array is None else array.ravel() for array in arrays])
    if not parameters_are_valid(flat, n[0], m[0], diagonal, (eps**0.5, 1e3 * eps)):
        return None
    first_mean = like.new_zeros(1, *n) if m0 is None else m0 if m0.ndim == 2 else m0.unsqueeze(0)
    if P0 is None:
        first_cov = torch.eye(n[0], dtype=like.dtype).unsqueeze(0)
    else:
        first_cov = P0 if P0.ndim == 3 else (torch.diag_embed(P0) if P0.ndim == 1 else P0).unsqueeze(0)
    return Model(**dict(zip("AbQCR", written, strict=True)), m0=first_mean, P0=first_cov)


def _with_axes(value: Any, array: np.ndarray, tail: tuple[int, ...], batch: int, time: int) -> Tensor | None:
    """The parameter with batch and time axes; None if its shape does not fit."""
    shape = array.shape
    if shape == tail:
        return value.view(1, 1, *shape)  # one operation
    fits = len(shape) == len(tail) + 2 and shape[2:] == tail and shape[0] in (1, batch) and shape[1] in (1, time)
    return value if fits else None


def _starts_fit(
    found_m0: np.ndarray | None, found_P0: np.ndarray | None, m0: Any, P0: Any, kind: np.dtype, n: Any, batch: int
) -> bool:
    """Whether m0 and P0 are ordinary tensors of the right shapes, or None."""
    if m0 is not None and (found_m0 is None or found_m0.dtype is not kind or found_m0.shape not in (n, (batch, *n))):
        return False
    if P0 is None:
        return True
    return found_P0 is not None and found_P0.dtype is kind and found_P0.shape in (n, n + n, (batch, *n, *n))
