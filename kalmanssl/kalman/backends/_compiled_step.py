"""One step of the filter in compiled code, arguments checked, for ordinary tensors on the CPU without gradients.

A call of torch or a check in Python takes as long as the arithmetic of a small step. Here the tensors become arrays of
numpy once, and one kernel checks all of their values and computes all results.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kalmanssl.kalman._tensor_checks import PRECISIONS, has_derivatives, plain_array
from kalmanssl.kalman.kernels import has_compiler

__all__ = ["compiled_array_step", "compiled_step"]

_ALL_OBSERVED = np.empty(0, dtype=np.bool_)
# Larger states and observations gain nothing: the time of their products is that of torch.
_LARGEST = 64


class _UnsuitableError(Exception):
    """The arguments need the general code, which also says what is wrong with them."""


def compiled_step(
    y: Tensor,
    mean: Tensor,
    cov: Tensor,
    *,
    A: Tensor,
    Q: Tensor,
    C: Tensor,
    R: Tensor,
    b: Tensor | None,
    mask: Tensor | None,
    first: bool,
) -> tuple[Tensor, ...] | None:
    """The fields of `StepResult`, from arguments that were not checked before; None if they need the general code.

    None is returned for all wrong arguments, and for results that are not finite or need jitter.
    """
    if not has_compiler():
        return None
    tensors = [y, mean, cov, A, Q, C, R, *(() if b is None else (b,))]
    arrays: list[Any] = [plain_array(value) for value in tensors]
    if any(array is None for array in arrays):
        return None
    if has_derivatives(tensors):
        return None
    observed = _ALL_OBSERVED if mask is None else plain_array(mask)
    kind = arrays[0].dtype
    if observed is None or kind not in PRECISIONS or any(array.dtype is not kind for array in arrays):
        return None
    try:
        out = _run(arrays, None if mask is None else observed, first)
    except _UnsuitableError:
        return None
    return None if out is None else tuple(map(torch.from_numpy, out))


def compiled_array_step(
    y: Any,
    mean: Any,
    cov: Any,
    *,
    A: Any,
    Q: Any,
    C: Any,
    R: Any,
    b: Any = None,
    B: Any = None,
    u: Any = None,
    d: Any = None,
    mask: Any = None,
    first: Any = False,
) -> tuple[np.ndarray, ...] | None:
    """The same for arrays of numpy and one sequence without a batch axis; with a result of this form.

    Conversion to tensors would take longer than the step. Inputs and offsets are those of this step, without axes for
    batch and time.
    """
    given = [value for value in (b, B, u, d) if value is not None]
    arrays = [y, mean, cov, A, Q, C, R, *given]
    if any(type(value) is not np.ndarray for value in arrays) or not has_compiler() or not isinstance(first, bool):
        return None
    kind = y.dtype
    if kind not in PRECISIONS or any(value.dtype is not kind for value in arrays) or (y.ndim, mean.ndim) != (1, 1):
        return None
    if mask is not None and (type(mask) is not np.ndarray or mask.shape != y.shape):
        return None
    if d is not None:
        if d.shape != y.shape:
            return None
        y = y - d
    if B is not None or u is not None:
        if B is None or u is None or u.ndim != 1 or B.shape != (*mean.shape, *u.shape):
            return None
        b = B @ u if b is None else b + B @ u
    try:
        inputs = [y[None], mean[None], cov[None], A, Q, C, R, *(() if b is None else (b,))]
        out = _run(inputs, None if mask is None else mask[None], first)
    except _UnsuitableError:
        return None
    return None if out is None else tuple([value[0] for value in out])


def _run(arrays: list[np.ndarray], mask: np.ndarray | None, first: bool) -> tuple[np.ndarray, ...] | None:
    """Check the shapes and call the kernel; None if it returns False."""
    from kalmanssl.kalman.backends._layouts import vector_width
    from kalmanssl.kalman.kernels._step_kernels import filter_step

    y, mean, cov, A, Q, C, R, *given = arrays
    if y.ndim != 2 or mean.ndim != 2:
        return None
    (batch, m), n, kind = y.shape, mean.shape[1], y.dtype
    if mean.shape[0] != batch or cov.shape != (batch, n, n) or not (0 < n <= _LARGEST and 0 < m <= _LARGEST and batch):
        return None
    diagonal = (Q.ndim in (1, 3), R.ndim in (1, 3))
    b = given[0] if given else np.zeros(n, kind)
    Q_shape, R_shape = (n,) if diagonal[0] else (n, n), (m,) if diagonal[1] else (m, m)
    parameters = ((A, (n, n)), (b, (n,)), (Q, Q_shape), (C, (m, n)), (R, R_shape))
    strides = tuple([_stride(value, tail, batch) for value, tail in parameters])
    observed = _ALL_OBSERVED if mask is None else _flat_mask(mask, batch, m)
    inputs = (y, mean, cov, A, b, Q, C, R)
    width, eps = vector_width(kind), PRECISIONS[kind]
    out = (
        np.empty((batch, n), kind),
        np.empty((batch, n, n), kind),
        np.empty((batch, n), kind),
        np.empty((batch, n, n), kind),
        np.empty(batch, kind),
        np.empty((batch, n, m), kind),
        np.empty((batch, m), kind),
        np.empty((batch, m, m), kind),
    )
    size = (batch, n, m, -(-n // width) * width, -(-m // width) * width)
    flat = tuple([value.ravel() for value in inputs])
    return out if filter_step(flat, observed, strides, size, diagonal, first, (eps**0.5, 1e3 * eps), out) else None


def _stride(value: np.ndarray, tail: tuple[int, ...], batch: int) -> int:
    """Numbers from one sequence to the next in a parameter with the shape `tail` or (batch|1, 1, *tail)."""
    shape: Any = value.shape
    if shape == tail:
        return 0
    if shape[2:] != tail or len(shape) != len(tail) + 2 or shape[1] != 1 or shape[0] not in (1, batch):
        raise _UnsuitableError
    return 0 if shape[0] == 1 else value.size // batch


def _flat_mask(mask: np.ndarray, batch: int, m: int) -> np.ndarray:
    if mask.dtype != np.bool_ or mask.shape not in ((batch, m), (batch,)):
        raise _UnsuitableError
    return (mask if mask.ndim == 2 else mask.repeat(m)).ravel()
