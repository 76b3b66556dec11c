"""The filter of models whose covariances differ between sequences, by compiled kernels, with its derivatives."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kalmanssl.kalman import kernels
from kalmanssl.kalman.arguments import Model, Observations, in_double, visible_model
from kalmanssl.kalman.compiled import run_blocks
from kalmanssl.kalman.factorize import NotPositiveDefiniteError, inverse_transpose, safe_cholesky, symmetrise
from kalmanssl.kalman.layouts import Lanes, Packed, Rows
from kalmanssl.kalman.moments import INNOVATION_COV, Moments
from kalmanssl.kalman.precision import VARIANCE_SHARE, float32_is_enough
from kalmanssl.kalman.reference import LOG_2PI, number_observed

__all__ = ["filter_fused"]

_MISSING = -1.0  # a variance that marks a missing channel


def filter_fused(model: Model, observations: Observations, precision: torch.dtype | None = None) -> Moments:
    """Run the filter on the CPU; first derivatives only.

    Without a `precision` it is that of y where that is enough, and float64 otherwise.

    Raises
    ------
    NotPositiveDefiniteError
        If an innovation variance or a variance of the state is not positive in the precision asked for, or in float64.
    """
    y = observations.y
    half_log_det: Tensor | float = 0.5 * LOG_2PI * number_observed(observations)
    if model.R.ndim == 4:
        model, observations = in_double(model, observations)
        model, y, whitening = _whitened(visible_model(model, observations.mask), observations.y)
        half_log_det = half_log_det + whitening
    elif observations.mask is not None:
        model = replace(model, R=torch.where(observations.mask, model.R, model.R.new_tensor(_MISSING)))
    arguments = (y, model.R, model.A, model.b, model.Q, model.C, model.m0[:, None], model.P0[:, None])
    if precision is not None:
        return _moments(arguments, half_log_det, precision)[0]
    if observations.y.dtype == torch.float32 and float32_is_enough(model):
        with suppress(NotPositiveDefiniteError):
            moments, share = _moments(arguments, half_log_det, torch.float32)
            if bool((share >= VARIANCE_SHARE).all()):
                return moments
    return _moments(arguments, half_log_det, torch.float64)[0]


def _moments(arguments: tuple[Tensor, ...], half_log_det: Tensor | float, dtype: torch.dtype) -> tuple[Moments, Tensor]:
    """Moments, and the least ratio of two variances of the state at any step of each sequence."""
    mean, cov, log_density, smallest, share = _Fused.apply(*(argument.to(dtype) for argument in arguments))
    moments = Moments(
        filtered_mean=mean,
        filtered_cov=cov,
        log_likelihood=log_density - half_log_det,
        smallest_variance=smallest,
    )
    return moments, share


def _whitened(model: Model, y: Tensor) -> tuple[Model, Tensor, Tensor]:
    """The same model with channels whose noise is independent and of unit variance."""
    factor = safe_cholesky(model.R, "observation noise R")
    eye = torch.eye(factor.shape[-1], dtype=factor.dtype)
    whitener = inverse_transpose(factor, eye).mT
    white = replace(model, C=whitener @ model.C, R=torch.ones_like(whitener[..., 0]))
    half_log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return white, (whitener @ y[..., None])[..., 0], half_log_det


def _layout(batch: int, state: int, dtype: torch.dtype) -> Lanes | Rows:
    """The faster of the two: measured, lanes gain with the batch and rows with the state."""
    return Lanes(batch, dtype) if state < 16 and 2 * batch > state else Rows(batch, dtype)


class _Fused(torch.autograd.Function):
    """Parameters with both axes, R negative where a channel is missing, to filtered moments and log-densities."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, R: Tensor, A: Tensor, b: Tensor, Q: Tensor, C: Tensor, m0: Tensor, P0: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        batch, steps, obs = y.shape
        state = A.shape[-1]
        layout = _layout(batch, state, y.dtype)
        sizes = (steps, state, obs, layout.vectors(state), layout.unit, Q.ndim == 4)
        inputs = [layout.pack(p, of_state=i > 1) for i, p in enumerate((y, R, A, b, Q, C, m0, P0))]
        shapes = ((state,), (state, state), (obs, state), (obs,), (obs,))
        outputs = [layout.room(steps, shape, of_state=i < 3) for i, shape in enumerate(shapes)]
        variances = layout.room(1, (2,), of_state=False)
        kernel = kernels.forward_lanes if isinstance(layout, Lanes) else kernels.forward_rows
        arguments = (
            sizes,
            _arrays(inputs),
            _places(inputs),
            _arrays([*outputs, variances]),
            _places([*outputs, variances]),
        )
        run_blocks(lambda first, last: kernel(first, last, *arguments), layout.blocks)

        mean, cov, _, error, inverse = (
            layout.unpack(packed, steps, shape, of_state=i < 3)
            for i, (packed, shape) in enumerate(zip(outputs, shapes, strict=True))
        )
        smallest, share = layout.unpack(variances, 1, (2,), of_state=False)[:, 0].unbind(-1)
        # No comparison with NaN is true.
        if not (bool((smallest > 0).all()) and float(inverse.amin()) >= 0 and float(inverse.amax()) < torch.inf):
            raise NotPositiveDefiniteError(
                f"{INNOVATION_COV}: not positive definite in {str(y.dtype).removeprefix('torch.')}; "
                "leave out precision or pass torch.float64"
            )
        log_precision = torch.where(inverse > 0, inverse, 1.0).log()
        log_density = 0.5 * (log_precision - error.square() * inverse).sum(-1)
        ctx.save_for_backward(*(p.flat for p in outputs), inputs[2].flat, inputs[5].flat)
        ctx.kept = layout, sizes, [p.place for p in (*outputs, inputs[2], inputs[5])]
        ctx.shapes = [tuple(p.shape) for p in (y, R, A, b, Q, C, m0, P0)]
        ctx.mark_non_differentiable(smallest, share)
        return mean, cov, log_density, smallest, share

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, g_mean: Tensor | None, g_cov: Tensor | None, g_ll: Tensor | None, *_: None
    ) -> tuple[Tensor | None, ...]:
        layout, sizes, places = ctx.kept
        steps, _, obs = sizes[:3]
        kept = [Packed(flat, place) for flat, place in zip(ctx.saved_tensors, places, strict=True)]
        like = kept[0].flat
        if g_ll is None:
            g_ll = like.new_zeros(1, 1)
        given = [
            layout.pack(g_ll[..., None], of_state=False),
            Packed(like, (0, 0)) if g_mean is None else layout.pack(g_mean, of_state=True),
            Packed(like, (0, 0)) if g_cov is None else layout.pack(symmetrise(g_cov), of_state=True),
        ]
        _, _, *wanted = ctx.needs_input_grad
        needs = (g_mean is not None, g_cov is not None, wanted[0], wanted[3])
        per_step = [layout.room(steps, (obs,), of_state=False) for _ in range(2)]
        totals = [
            layout.room(shape[1] if i not in (0, 3) or wanted[i] else 1, shape[2:], of_state=True, dtype=torch.float64)
            for i, shape in enumerate(ctx.shapes[2:])
        ]
        kernel = kernels.backward_lanes if isinstance(layout, Lanes) else kernels.backward_rows
        inputs = [*kept, *given]
        arguments = (
            sizes,
            needs,
            _arrays(inputs),
            _places(inputs),
            _arrays(per_step),
            _places(per_step),
            _arrays(totals),
            _places(totals),
        )
        run_blocks(lambda first, last: kernel(first, last, *arguments), layout.blocks)
        gradients: list[Tensor | None] = []
        for i, (need, shape) in enumerate(zip(ctx.needs_input_grad, ctx.shapes, strict=True)):
            if not need:
                gradients.append(None)
                continue
            packed = per_step[i] if i < 2 else totals[i - 2]
            time = steps if i < 2 else shape[1]
            gradient = layout.unpack(packed, time, shape[2:], of_state=i > 1)
            gradients.append(_sum_to(gradient, shape).to(like.dtype))
        return tuple(gradients)


def _sum_to(gradient: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Sum over the axes that the parameter does not have."""
    axes = [axis for axis in (0, 1) if shape[axis] == 1 and gradient.shape[axis] > 1]
    return gradient.sum(axes, keepdim=True, dtype=torch.float64) if axes else gradient


def _arrays(packed: list[Packed]) -> tuple[np.ndarray, ...]:
    return tuple(p.flat.detach().numpy() for p in packed)


def _places(packed: list[Packed]) -> np.ndarray:
    return np.array([p.place for p in packed], dtype=np.int64)
