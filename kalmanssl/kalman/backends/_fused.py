"""The filter by compiled kernels, with its derivatives, for models whose covariances differ between sequences."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kalmanssl.kalman._dtypes import MIN_NOISE_RATIO, MIN_VARIANCE_RATIO
from kalmanssl.kalman._linalg import NotPositiveDefiniteError, inverse_transpose, safe_cholesky, symmetrize
from kalmanssl.kalman._model import Model, Observations, mask_observations, to_float64
from kalmanssl.kalman._moments import INNOVATION_COV, Moments
from kalmanssl.kalman._tensor_checks import has_derivatives
from kalmanssl.kalman.backends._layouts import (
    BatchVectorized,
    Layout,
    Packed,
    StateVectorized,
    WideBatchVectorized,
    WideStateVectorized,
    vector_width,
)
from kalmanssl.kalman.backends._reference import LOG_2PI, number_observed
from kalmanssl.kalman.kernels import run_blocks
from kalmanssl.kalman.kernels._packing_kernels import finish

__all__ = ["filter_fused", "filter_shared"]

# Whether the last axis is the state, of y, R, A, b, Q, C, m0 and P0; and of the filtered means and covariances, the
# gains, the innovations of the channels and their inverse variances, and the status.
_INPUTS_OF_STATE = (False, False, True, True, True, True, True, True)
_OUTPUTS_OF_STATE = (True, True, True, False, False, False)
# Larger states are state-vectorized in any batch: more of their matrices stay in the cache.
_MOST_STATES_BATCH_VECTORIZED = 24
_MISSING = -1.0  # a variance that marks a missing channel
_KINDS: dict[torch.dtype, np.dtype] = {torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64)}


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
    arguments = (y, model.R, model.A, model.b, model.Q, model.C, model.m0, model.P0)
    differentiable = has_derivatives(arguments)
    constant, rest = (0.0, half_log_det) if isinstance(half_log_det, Tensor) else (half_log_det, None)

    def run(dtype: torch.dtype) -> tuple[Moments, Worst]:
        if differentiable:
            found: list[_Forward] = []
            mean, cov, log_density = _Fused.apply(*arguments, dtype, constant, found)
            done = found[0]
        else:  # without autograd, whose function takes ten microseconds
            done = _filter(arguments, dtype, constant)
            mean, cov = done.view_moments(*map(torch.from_numpy, done.outputs.flats[:2]))
            log_density = torch.from_numpy(done.log_density)
        log_likelihood = log_density if rest is None else log_density - rest
        smallest = torch.from_numpy(done.smallest_variance)
        return Moments(
            mean, cov, log_likelihood, smallest_variance=smallest, is_finite=rest is None and done.worst.is_finite
        ), done.worst

    if precision is None and y.dtype == torch.float32:
        with suppress(NotPositiveDefiniteError):
            moments, worst = run(torch.float32)
            if worst.variance_ratio >= MIN_VARIANCE_RATIO and worst.noise_ratio >= MIN_NOISE_RATIO:
                return moments
    return run(precision or torch.float64)[0]


def filter_shared(model: Model, observations: Observations, precision: torch.dtype | None = None) -> Moments:
    """Run the filter as `filter_fused` for sequences whose covariances are all the same; these have a batch axis of 1.

    Without a `precision` the computation is in float64, as that of `filter_adjoint` is for such covariances.
    """
    moments = filter_fused(model, observations, precision or torch.float64)
    smallest = None if moments.smallest_variance is None else moments.smallest_variance[:1]
    return replace(moments, filtered_cov=moments.filtered_cov[:1], smallest_variance=smallest)


def _whiten(model: Model, y: Tensor) -> tuple[Model, Tensor, Tensor]:
    """Transform the channels so that R is the identity; returns the model, the observations, and log det R / 2."""
    factor = safe_cholesky(model.R, "observation noise R")
    eye = torch.eye(factor.shape[-1], dtype=factor.dtype)
    whitener = inverse_transpose(factor, eye).mT
    white = replace(model, C=whitener @ model.C, R=torch.ones_like(whitener[..., 0]))
    half_log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return white, (whitener @ y[..., None])[..., 0], half_log_det


@lru_cache(maxsize=64)
def _choose_layout(batch: int, state: int, dtype: np.dtype) -> Layout:
    """The fastest layout according to measurements: one is better for large batches, the others for large states."""
    if batch <= vector_width(dtype):
        if state <= 16 and batch > 1 and state <= 2 * batch:
            return BatchVectorized(batch, dtype)
    elif state <= _MOST_STATES_BATCH_VECTORIZED:
        layout = WideBatchVectorized(batch, dtype)
        if 40 * batch >= (state + 4) * layout.vector_stride:  # otherwise most of the last vector is unused
            return layout
    return StateVectorized(batch, dtype) if state <= 16 else WideStateVectorized(batch, dtype)


class Worst(NamedTuple):
    """The worst status of all sequences.

    Attributes
    ----------
    variance, variance_ratio : float
        Smallest variance of the state, and smallest ratio of two of its variances at one step.
    innovation_variance, noise_ratio : float
        Smallest innovation variance, and smallest ratio of the noise variance to it.
    is_finite : bool
        Whether all means are finite.
    """

    variance: float
    variance_ratio: float
    innovation_variance: float
    noise_ratio: float
    is_finite: bool


class _Forward(NamedTuple):
    """A forward pass: its results and what the adjoint needs.

    `shapes` are those of the arguments of `_filter`, with batch and time axes; `transitions` are A and C. `outputs` are
    the results of the kernels. The log-densities are (batch, steps), the smallest variances of the state (batch,).
    """

    layout: Layout
    sizes: tuple[Any, ...]
    shapes: tuple[tuple[int, ...], ...]
    transitions: Packed
    outputs: Packed
    log_density: np.ndarray
    smallest_variance: np.ndarray
    worst: Worst

    def view_moments(self, mean: Tensor, cov: Tensor) -> tuple[Tensor, Tensor]:
        """View the first two of `outputs`, as tensors, as (batch, steps, …)."""
        steps, state = self.sizes[:2]
        return (
            mean.as_strided(*self.layout.axes(len(mean), steps, (state,))),
            cov.as_strided(*self.layout.axes(len(cov), steps, (state, state))),
        )


def _filter(parameters: tuple[Tensor, ...], dtype: torch.dtype, constant: float) -> _Forward:
    """Run the kernels on y, R, A, b, Q, C, m0 and P0; R is negative for missing channels.

    Raises
    ------
    NotPositiveDefiniteError
        If a variance of the state or of an innovation is not positive.
    """
    kind = _KINDS[dtype]
    arrays = [(p.detach() if p.requires_grad else p).numpy() for p in parameters]
    arrays[6:] = [array[:, None] for array in arrays[6:]]
    batch, steps, obs = arrays[0].shape
    state, full_Q = arrays[2].shape[-1], arrays[4].ndim == 4
    layout = _choose_layout(batch, state, kind)
    sizes = (steps, state, obs, layout.vectors(state), layout.vector_stride, full_Q)
    inputs = layout.pack(arrays, _INPUTS_OF_STATE)
    each = (batch, steps)
    results = ((*each, state), (*each, state, state), (*each, obs, state), (*each, obs), (*each, obs), (batch, 1, 4))
    outputs = layout.allocate(results, _OUTPUTS_OF_STATE)
    run_blocks(
        lambda first, last: layout.forward(first, last, sizes, *inputs, *outputs),
        layout.blocks,
        _operations(batch, sizes),
    )
    quadratic, product, smallest = np.empty(each), np.empty(each), np.empty(batch, kind)
    mean, _, _, innovation, inverse, status = outputs.flats
    strides, outs = layout.strides(steps, obs), (quadratic, product, smallest)
    worst = Worst(*finish(mean, innovation, inverse, status, strides, (batch, steps, obs), constant, outs))
    # Also if a number is NaN. The ratio is 0 if a variance is infinite.
    if not (worst.variance > 0 and worst.variance_ratio > 0 and worst.innovation_variance > 0):
        raise NotPositiveDefiniteError(
            f"{INNOVATION_COV}: not positive definite in {str(dtype).removeprefix('torch.')}; "
            "leave out precision or pass torch.float64"
        )
    log_density = np.add(np.log(product, out=product), quadratic, out=np.empty(each, kind), casting="same_kind")
    shapes = tuple([array.shape for array in arrays])
    transitions = Packed((inputs.flats[2], inputs.flats[5]), (inputs.strides[2], inputs.strides[5]))
    return _Forward(layout, sizes, shapes, transitions, outputs, log_density, smallest, worst)


class _Fused(torch.autograd.Function):
    """Filtered moments and log-densities; arguments as `_filter`, whose result is appended to the last one."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        *parameters, dtype, constant, found = arguments
        ctx.set_materialize_grads(False)
        done = _filter(tuple(parameters), dtype, constant)
        found.append(done)
        # Saved as tensors, so that autograd notices if the caller modifies the returned views.
        mean, cov = map(torch.from_numpy, done.outputs.flats[:2])
        ctx.save_for_backward(mean, cov)
        ctx.done, ctx.kind = done, _KINDS[parameters[0].dtype]
        return *done.view_moments(mean, cov), torch.from_numpy(done.log_density)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, g_mean: Tensor | None, g_cov: Tensor | None, g_ll: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        ctx.saved_tensors  # noqa: B018  raises if the caller has modified a returned view
        done: _Forward = ctx.done
        layout, sizes, shapes, transitions, outputs = done[:5]
        batch, steps, obs = shapes[0]
        incoming = layout.pack(
            [
                np.zeros((1, 1, 1), layout.dtype) if g_ll is None else g_ll.numpy()[..., None],
                np.zeros((1, 1, 1), layout.dtype) if g_mean is None else g_mean.numpy(),
                np.zeros((1, 1, 1), layout.dtype) if g_cov is None else symmetrize(g_cov).numpy(),
            ],
            (False, True, True),
        )
        wanted = ctx.needs_input_grad[:8]
        needs = (g_mean is not None, g_cov is not None, wanted[2], wanted[5])
        channels = layout.allocate(((batch, steps, obs), (batch, steps, obs)), (False, False))
        totals = layout.allocate_totals(_shapes_of_totals(batch, shapes[2:], *needs[2:]))
        arguments = (
            sizes,
            needs,
            (*outputs.flats[:5], *transitions.flats, *incoming.flats),
            (*outputs.strides[:5], *transitions.strides, *incoming.strides),
            channels.flats,
            channels.strides[0],
            *totals,
        )
        run_blocks(
            lambda first, last: layout.backward(first, last, *arguments), layout.blocks, _operations(batch, sizes)
        )

        gradients: list[np.ndarray | None] = []
        for flat, shape, want in zip(channels.flats, shapes, wanted[:2], strict=False):
            value = _sum_to(layout.unpack(flat, steps, (obs,), of_state=False), shape) if want else None
            gradients.append(None if value is None else value.astype(ctx.kind, copy=False))
        gradients += layout.collect(totals.flats, shapes[2:], wanted[2:], ctx.kind)
        gradients[6:] = [None if value is None else value[:, 0] for value in gradients[6:]]  # m0 and P0
        return (*(None if value is None else torch.from_numpy(value) for value in gradients), None, None, None)


@lru_cache(maxsize=64)
def _shapes_of_totals(
    batch: int, shapes: tuple[tuple[int, ...], ...], need_A: bool, need_C: bool
) -> tuple[tuple[int, ...], ...]:
    """Shapes of the derivatives with respect to A, b, Q, C, m0 and P0 of every sequence.

    The kernel does not write those with respect to A and C if they are not wanted.
    """
    unused = [i for i, need in ((0, need_A), (3, need_C)) if not need]
    return tuple([(batch, 1 if i in unused else shape[1], *shape[2:]) for i, shape in enumerate(shapes)])


def _operations(batch: int, sizes: tuple[Any, ...]) -> int:
    """Approximate number of floating-point operations of a pass."""
    steps, state, obs = sizes[:3]
    return 4 * batch * steps * state * state * (state + obs)


def _sum_to(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum over the batch and time axes that the parameter does not have."""
    axes = tuple(axis for axis in (0, 1) if shape[axis] == 1 and gradient.shape[axis] > 1)
    return gradient.sum(axes, keepdims=True, dtype=np.float64) if axes else gradient
