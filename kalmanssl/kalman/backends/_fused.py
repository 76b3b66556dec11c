"""The filter by compiled kernels, with its derivatives, for models whose covariances differ between sequences."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kalmanssl.kalman._dtypes import MIN_NOISE_RATIO, MIN_VARIANCE_RATIO
from kalmanssl.kalman._linalg import NotPositiveDefiniteError, inverse_transpose, safe_cholesky, symmetrize
from kalmanssl.kalman._model import Model, Observations, mask_observations, to_float64
from kalmanssl.kalman._moments import INNOVATION_COV, Moments
from kalmanssl.kalman.backends._layouts import BatchVectorized, Packed, StateVectorized
from kalmanssl.kalman.backends._reference import LOG_2PI, number_observed
from kalmanssl.kalman.kernels import _filter_adjoint_kernels as adjoint_kernels
from kalmanssl.kalman.kernels import _filter_kernels as kernels
from kalmanssl.kalman.kernels import run_blocks

__all__ = ["filter_fused"]

_MISSING = -1.0  # a variance that marks a missing channel


def filter_fused(model: Model, observations: Observations, precision: torch.dtype | None = None) -> Moments:
    """Run the filter on the CPU; only first derivatives are available.

    Without a `precision` the computation has the data type of y if that proves accurate enough, and float64 otherwise.

    Raises
    ------
    NotPositiveDefiniteError
        If an innovation variance or a variance of the state is not positive in the requested precision, or in float64
        if none is requested.
    """
    y = observations.y
    half_log_det: Tensor | float = 0.5 * LOG_2PI * number_observed(observations)
    if model.R.ndim == 4:
        model, observations = to_float64(model, observations)
        model, y, half_log_det_R = _whiten(mask_observations(model, observations.mask), observations.y)
        half_log_det = half_log_det + half_log_det_R
    elif observations.mask is not None:
        model = replace(model, R=torch.where(observations.mask, model.R, model.R.new_tensor(_MISSING)))
    arguments = (y, model.R, model.A, model.b, model.Q, model.C, model.m0[:, None], model.P0[:, None])

    def run(dtype: torch.dtype) -> tuple[Moments, Tensor]:
        constant, rest = (0.0, half_log_det) if isinstance(half_log_det, Tensor) else (half_log_det, None)
        mean, cov, log_density, status = _Fused.apply(*arguments, dtype, constant)
        log_likelihood = log_density if rest is None else log_density - rest
        return Moments(mean, cov, log_likelihood, smallest_variance=status[:, 0]), status

    if precision is None and y.dtype == torch.float32:
        with suppress(NotPositiveDefiniteError):
            moments, status = run(torch.float32)
            _, variance_ratio, _, noise_ratio = status.amin(0).tolist()
            if variance_ratio >= MIN_VARIANCE_RATIO and noise_ratio >= MIN_NOISE_RATIO:
                return moments
    return run(precision or torch.float64)[0]


def _whiten(model: Model, y: Tensor) -> tuple[Model, Tensor, Tensor]:
    """Transform the channels so that R is the identity; returns the model, the observations, and log det R / 2."""
    factor = safe_cholesky(model.R, "observation noise R")
    eye = torch.eye(factor.shape[-1], dtype=factor.dtype)
    whitener = inverse_transpose(factor, eye).mT
    white = replace(model, C=whitener @ model.C, R=torch.ones_like(whitener[..., 0]))
    half_log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return white, (whitener @ y[..., None])[..., 0], half_log_det


def _choose_layout(batch: int, state: int, dtype: np.dtype) -> BatchVectorized | StateVectorized:
    """The faster layout according to measurements: one is better for large batches, the other for large states."""
    return BatchVectorized(batch, dtype) if state < 16 and 2 * batch > state else StateVectorized(batch, dtype)


class _Fused(torch.autograd.Function):
    """Filtered moments and log-densities from parameters with batch and time axes, R negative for missing channels.

    The last result (batch, 4) is the status of each sequence: the smallest variance of the state, the smallest ratio of
    two of its variances, the smallest innovation variance, and the smallest ratio of the noise variance to it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        R: Tensor,
        A: Tensor,
        b: Tensor,
        Q: Tensor,
        C: Tensor,
        m0: Tensor,
        P0: Tensor,
        dtype: torch.dtype,
        constant: float,
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        batch, steps, obs = y.shape
        state = A.shape[-1]
        parameters = (y, R, A, b, Q, C, m0, P0)
        layout = _choose_layout(batch, state, np.dtype(np.float32 if dtype == torch.float32 else np.float64))
        sizes = (steps, state, obs, layout.vectors(state), layout.vector_stride, Q.ndim == 4)
        inputs = [layout.pack(p.detach().numpy(), of_state=i > 1) for i, p in enumerate(parameters)]
        shapes = ((state,), (state, state), (obs, state), (obs,), (obs,))
        outputs = [layout.allocate(steps, shape, of_state=i < 3) for i, shape in enumerate(shapes)]
        packed_status = layout.allocate(1, (4,), of_state=False)
        batched = isinstance(layout, BatchVectorized)
        kernel = kernels.forward_batch_vectorized if batched else kernels.forward_state_vectorized
        arguments = (sizes, *_split(inputs), *_split([*outputs, packed_status]))
        run_blocks(lambda first, last: kernel(first, last, *arguments), layout.blocks, _operations(batch, sizes))

        status = torch.from_numpy(layout.unpack(packed_status.flat, 1, (4,), of_state=False)[:, 0])
        _check_status(status, dtype)
        innovation, inverse = (layout.unpack(packed.flat, steps, (obs,), of_state=False) for packed in outputs[3:])
        # The inverse variance of a missing channel is 0. Its log is replaced by 0, so that the channel adds nothing.
        log_inverse = np.log(np.where(inverse > 0, inverse, 1), dtype=inverse.dtype)
        log_density = 0.5 * (log_inverse - innovation * innovation * inverse).sum(-1)
        log_density -= log_density.dtype.type(constant)
        # Saved as tensors, so that autograd notices if the caller modifies the returned views.
        mean, cov = (torch.from_numpy(packed.flat) for packed in outputs[:2])
        ctx.save_for_backward(mean, cov)
        ctx.saved = layout, sizes, outputs, inputs[2], inputs[5]
        ctx.shapes = [tuple(p.shape) for p in parameters]
        ctx.dtypes = [p.dtype for p in parameters]
        ctx.mark_non_differentiable(status)
        return (
            _view(layout, mean, steps, (state,)),
            _view(layout, cov, steps, (state, state)),
            torch.from_numpy(log_density),
            status,
        )

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, g_mean: Tensor | None, g_cov: Tensor | None, g_ll: Tensor | None, *_: None
    ) -> tuple[Tensor | None, ...]:
        layout, sizes, outputs, A, C = ctx.saved
        ctx.saved_tensors  # noqa: B018  raises if the caller has modified a returned view
        steps, _, obs = sizes[:3]
        nothing = Packed(outputs[0].flat, (0, 0))
        weight = np.zeros((1, 1, 1)) if g_ll is None else g_ll.numpy()[..., None]
        incoming = [
            layout.pack(weight, of_state=False),
            nothing if g_mean is None else layout.pack(g_mean.numpy(), of_state=True),
            nothing if g_cov is None else layout.pack(symmetrize(g_cov).numpy(), of_state=True),
        ]
        wanted = ctx.needs_input_grad[:8]
        needs = (g_mean is not None, g_cov is not None, wanted[2], wanted[5])
        per_step = [layout.allocate(steps, (obs,), of_state=False) for _ in range(2)]
        totals = [
            layout.allocate(shape[1] if i not in (0, 3) or wanted[i + 2] else 1, shape[2:], of_state=True, totals=True)
            for i, shape in enumerate(ctx.shapes[2:])
        ]
        batched = isinstance(layout, BatchVectorized)
        kernel = adjoint_kernels.backward_batch_vectorized if batched else adjoint_kernels.backward_state_vectorized
        per_step_arrays, strides = _split(per_step)
        inputs = _split([*outputs, A, C, *incoming])
        arguments = (sizes, needs, *inputs, per_step_arrays, strides[0], *_split(totals))
        run_blocks(lambda first, last: kernel(first, last, *arguments), layout.blocks, _operations(layout.batch, sizes))

        gradients: list[Tensor | None] = []
        for i, (want, shape, dtype) in enumerate(zip(wanted, ctx.shapes, ctx.dtypes, strict=True)):
            if not want:
                gradients.append(None)
                continue
            packed, time = (per_step[i], steps) if i < 2 else (totals[i - 2], shape[1])
            gradient = _sum_to(layout.unpack(packed.flat, time, shape[2:], of_state=i > 1), shape)
            gradients.append(torch.from_numpy(gradient).to(dtype))
        return (*gradients, None, None)


def _check_status(status: Tensor, dtype: torch.dtype) -> None:
    """Raise if a variance of the state or of an innovation is not positive."""
    state_variance, variance_ratio, innovation_variance, _ = status.amin(0).tolist()
    # Also if one is NaN. The ratio is 0 if a variance is infinite.
    if not (state_variance > 0 and variance_ratio > 0 and innovation_variance > 0):
        raise NotPositiveDefiniteError(
            f"{INNOVATION_COV}: not positive definite in {str(dtype).removeprefix('torch.')}; "
            "leave out precision or pass torch.float64"
        )


def _operations(batch: int, sizes: tuple[Any, ...]) -> int:
    """Approximate number of floating-point operations of a pass."""
    steps, state, obs = sizes[:3]
    return 4 * batch * steps * state * state * (state + obs)


def _view(layout: BatchVectorized | StateVectorized, flat: Tensor, steps: int, shape: tuple[int, ...]) -> Tensor:
    """`unpack` for a tensor; the view shares the version counter of `flat`, by which autograd notices changes."""
    like = layout.unpack(flat.numpy(), steps, shape, of_state=True)
    return flat.as_strided(like.shape, [stride // like.itemsize for stride in like.strides])


def _sum_to(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum over the batch and time axes that the parameter does not have."""
    axes = tuple(axis for axis in (0, 1) if shape[axis] == 1 and gradient.shape[axis] > 1)
    return gradient.sum(axes, keepdims=True, dtype=np.float64) if axes else gradient


def _split(packed: list[Packed]) -> tuple[tuple[np.ndarray, ...], tuple[tuple[int, int], ...]]:
    """The flat arrays and their strides."""
    return tuple(p.flat for p in packed), tuple(p.strides for p in packed)
