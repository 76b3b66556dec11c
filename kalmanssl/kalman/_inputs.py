"""Known inputs of the state and offsets of the observations, reduced to the model without them.

The state equation x_t = A x_{t-1} + b + B u_t is the one without inputs and with the offset b + B u_t, and
y_t = C x_t + d is y_t - d = C x_t.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from kalmanssl.kalman._linalg import matvec_broadcast
from kalmanssl.kalman._model import Observations
from kalmanssl.kalman._tensor_checks import check_tensor, name_shapes, wrong_shape, wrong_value
from kalmanssl.kalman._validation import with_axes

__all__ = ["add_inputs", "check_offset", "subtract_offset"]


def add_inputs(
    like: Tensor, batch: int, time: int, *, A: Tensor, b: Tensor | None, B: Tensor | None, u: Tensor | None
) -> Tensor | None:
    """Return the offset b + B u of the state, or `b` if there are no inputs; A is not checked yet."""
    if B is None and u is None:
        return b
    if B is None or u is None:
        raise wrong_value("B" if B is None else "u", "is None: B and u are given together, or neither")
    with name_shapes(A=A, b=b, B=B, u=u):
        B, u = check_tensor("B", B, like), check_tensor("u", u, like)
        if B.ndim not in (2, 4) or 0 in B.shape:
            raise wrong_shape(
                "B", f"expected (state, inputs) or (batch or 1, time or 1, state, inputs), got {tuple(B.shape)}"
            )
        state, inputs = B.shape[-2:]
        if isinstance(A, Tensor) and A.ndim in (2, 4) and A.shape[-1] != state:
            raise wrong_shape("B", f"expected {A.shape[-1]} rows, one for each state of A, got {tuple(B.shape)}")
        B, u = with_axes("B", B, (state, inputs), batch, time), with_axes("u", u, (inputs,), batch, time)
        total = matvec_broadcast(B, u)
        if b is None:
            return total
        return with_axes("b", check_tensor("b", b, like), (state,), batch, time) + total


def check_offset(d: Tensor, like: Tensor, batch: int, time: int, obs: int) -> Tensor:
    """Check the offset of the observations and add batch and time axes."""
    with name_shapes(y=like, d=d):
        return with_axes("d", check_tensor("d", d, like), (obs,), batch, time)


def subtract_offset(observations: Observations, d: Tensor | None) -> Observations:
    """Return the observations minus the offset `d`; missing values remain 0."""
    if d is None:
        return observations
    y, mask = observations.y, observations.mask
    moved = y - check_offset(d, y, *y.shape)
    return replace(observations, y=moved if mask is None else torch.where(mask, moved, moved.new_zeros(())))
