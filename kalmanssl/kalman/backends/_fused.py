"""The filter by compiled kernels, with its derivatives, for models whose covariances differ between sequences."""

from __future__ import annotations

import math
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
    Axes,
    BatchVectorized,
    Layout,
    Packed,
    Places,
    Shape,
    StateVectorized,
    WideBatchVectorized,
    WideStateVectorized,
    vector_width,
)
from kalmanssl.kalman.backends._reference import LOG_2PI, number_observed
from kalmanssl.kalman.kernels import run_blocks
from kalmanssl.kalman.kernels._packing_kernels import finish

__all__ = ["filter_fused", "filter_shared"]

# The parameters in the order of the kernels.
_PARAMETERS = ("R", "A", "b", "Q", "C", "m0", "P0")
# Whether the last axis is the state, of y, R, A, b, Q, C, m0 and P0; and of the filtered means and covariances, the
# gains, the innovations of the channels and their inverse variances, and the status.
_INPUTS_OF_STATE = (False, False, True, True, True, True, True, True)
_OUTPUTS_OF_STATE = (True, True, True, False, False, False)
# Which of them share memory: the adjoint needs A and C of the inputs, the caller keeps means and covariances.
_INPUTS_TOGETHER = ((0, 1, 3, 4, 6, 7), (2, 5))
_OUTPUTS_TOGETHER = ((0,), (1,), (2, 3, 4, 5))
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
    if model.arrays.R.ndim == 4:
        model, observations = to_float64(model, observations)
        model, y, half_log_det_R = _whiten(mask_observations(model, observations.mask), observations.y)
        half_log_det = half_log_det + half_log_det_R
    elif observations.mask is not None:
        model = model.replace(R=torch.where(observations.mask, model.R, model.R.new_tensor(_MISSING)))
    A, b, Q, C, R, m0, P0 = model.arrays
    arrays = (y.detach().numpy(), R, A, b, Q, C, m0[:, None], P0[:, None])
    tensors = (y, *[model.given[name] for name in _PARAMETERS])
    differentiable = has_derivatives([tensor for tensor in tensors if tensor is not None])
    constant, rest = (0.0, half_log_det) if isinstance(half_log_det, Tensor) else (half_log_det, None)
    done = None
    if precision is None and y.dtype == torch.float32:
        with suppress(NotPositiveDefiniteError):
            done = _filter(arrays, torch.float32, constant)
    if done is None or (precision is None and not _is_accurate(done)):
        done = _filter(arrays, precision or torch.float64, constant)
    # The function of autograd takes ten microseconds.
    mean, cov, log_density = _Fused.apply(*tensors, done) if differentiable else done.results()
    return Moments(
        mean,
        cov,
        log_density if rest is None else log_density - rest,
        smallest_variance=torch.from_numpy(done.smallest_variance),
        is_finite=rest is None and done.worst.is_finite,
    )


def _is_accurate(done: _Forward) -> bool:
    """Whether a filter in float32 did not lose precision."""
    return done.worst.variance_ratio >= MIN_VARIANCE_RATIO and done.worst.noise_ratio >= MIN_NOISE_RATIO


def filter_shared(model: Model, observations: Observations, precision: torch.dtype | None = None) -> Moments:
    """Run the filter as `filter_fused` for sequences whose covariances are the same; these have a batch axis of 1.

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
    white = model.replace(C=whitener @ model.C, R=torch.ones_like(whitener[..., 0]))
    half_log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return white, (whitener @ y[..., None])[..., 0], half_log_det


@lru_cache(maxsize=64)
def _choose_layout(batch: int, state: int, dtype: np.dtype) -> Layout:
    """The fastest layout, by measurements of filters with gradients on a processor with AVX-512.

    SIMD vectors over sequences need no padding of the state and no sums of their numbers, but a sequence for every
    position, and more memory for the matrices of a step. Near the limits the other kind can be up to 30 % faster.
    """
    narrow = vector_width(dtype)
    if batch > narrow:
        layout = WideBatchVectorized(batch, dtype)
        used = batch / layout.vector_stride
        if state <= 20 or (state <= 28 and used >= 0.7):
            return layout
    elif state <= min(4 * (batch - 1), 24):
        return BatchVectorized(batch, dtype)
    return WideStateVectorized(batch, dtype) if 2 * state > 3 * narrow else StateVectorized(batch, dtype)


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


class _Plan(NamedTuple):
    """What the kernels need to know about arguments of certain shapes in a layout.

    `shapes` are those of the arguments of `_filter`. `sizes` are those of the kernels. `strides` are the strides of the
    innovations and of the status. `mean` and `cov` are the axes of the results, `channels` those of arrays with one
    entry per channel.
    """

    shapes: tuple[Shape, ...]
    sizes: tuple[Any, ...]
    inputs: Places
    outputs: Places
    strides: tuple[int, int, int, int, int]
    mean: Axes
    cov: Axes
    channels: Axes


@lru_cache(maxsize=64)
def _plan(layout: Layout, shapes: tuple[Shape, ...]) -> _Plan:
    """Lay out the arguments of `_filter` and its results."""
    batch, steps, obs = shapes[0]
    state = shapes[2][-1]
    sizes = (steps, state, obs, layout.vectors(state), layout.vector_stride, len(shapes[4]) == 4)
    each = (batch, steps)
    results = ((*each, state), (*each, state, state), (*each, obs, state), (*each, obs), (*each, obs), (batch, 1, 4))
    return _Plan(
        shapes,
        sizes,
        layout.places(shapes, _INPUTS_OF_STATE, _INPUTS_TOGETHER),
        layout.places(results, _OUTPUTS_OF_STATE, _OUTPUTS_TOGETHER),
        layout.strides(steps, obs),
        layout.axes(steps, (state,), of_state=True),
        layout.axes(steps, (state, state), of_state=True),
        layout.axes(steps, (obs,), of_state=False),
    )


class _Forward(NamedTuple):
    """A forward pass: its results and what the adjoint needs.

    `transitions` are A and C. `outputs` are the results of the kernels. The log-densities are (batch, steps), the
    smallest variances of the state (batch,).
    """

    layout: Layout
    plan: _Plan
    transitions: Packed
    outputs: Packed
    log_density: np.ndarray
    smallest_variance: np.ndarray
    worst: Worst

    def results(self) -> tuple[Tensor, Tensor, Tensor]:
        """Means (batch, steps, state), covariances (batch, steps, state, state) and log-densities as tensors."""
        mean, cov = self.outputs.flats[:2]
        found = (self.plan.mean.view(mean), self.plan.cov.view(cov), self.log_density)
        return torch.from_numpy(found[0]), torch.from_numpy(found[1]), torch.from_numpy(found[2])


def _filter(arrays: tuple[np.ndarray, ...], dtype: torch.dtype, constant: float) -> _Forward:
    """Run the kernels on y, R, A, b, Q, C, m0 and P0, all with batch and time axes; R is negative where y is missing.

    Raises
    ------
    NotPositiveDefiniteError
        If a variance of the state or of an innovation is not positive.
    """
    kind = _KINDS[dtype]
    batch, steps, obs = arrays[0].shape
    layout = _choose_layout(batch, arrays[2].shape[-1], kind)
    plan = _plan(layout, tuple([array.shape for array in arrays]))
    inputs, outputs = layout.pack(arrays, plan.inputs), layout.allocate(plan.outputs)
    run_blocks(
        lambda first, last: layout.forward(first, last, plan.sizes, *inputs, *outputs),
        layout.blocks,
        _operations(batch, plan.sizes),
    )
    log_density, smallest = np.empty((batch, steps), kind), np.empty(batch, kind)
    mean, _, _, innovation, inverse, status = outputs.flats
    sizes, outs = (batch, steps, obs), (log_density, smallest)
    worst = Worst(*finish(mean, innovation, inverse, status, plan.strides, sizes, constant, outs))
    # Also if a number is NaN. The ratio is 0 if a variance is infinite.
    if not (worst.variance > 0 and worst.variance_ratio > 0 and worst.innovation_variance > 0):
        raise NotPositiveDefiniteError(
            f"{INNOVATION_COV}: not positive definite in {str(dtype).removeprefix('torch.')}; "
            "leave out precision or pass torch.float64"
        )
    transitions = Packed((inputs.flats[2], inputs.flats[5]), (inputs.strides[2], inputs.strides[5]))
    return _Forward(layout, plan, transitions, outputs, log_density, smallest, worst)


class _Fused(torch.autograd.Function):
    """Filtered moments and log-densities, as functions of y, R, A, b, Q, C, m0 and P0 in the shapes of the caller.

    The last argument is the result of `_filter`.
    """

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        *tensors, ctx.done = arguments
        ctx.set_materialize_grads(False)
        # The gradients have the shapes and the data type of the arguments.
        ctx.wanted = [
            tensor.shape if need else None for tensor, need in zip(tensors, ctx.needs_input_grad, strict=False)
        ]
        ctx.kind = _KINDS[tensors[0].dtype]
        mean, cov, log_density = ctx.done.results()
        ctx.save_for_backward(mean, cov)  # so that autograd notices if the caller modifies them
        return mean, cov, log_density

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, g_mean: Tensor | None, g_cov: Tensor | None, g_ll: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        ctx.saved_tensors  # noqa: B018  raises if the caller has modified a result
        none = np.zeros((1, 1, 1), ctx.done.layout.dtype)
        incoming = (
            none if g_ll is None else g_ll.numpy()[..., None],
            none if g_mean is None else g_mean.numpy(),
            none if g_cov is None else symmetrize(g_cov).numpy(),
        )
        given = (g_mean is not None, g_cov is not None)
        gradients = _differentiate(ctx.done, incoming, given, ctx.wanted, ctx.kind)
        return (*[None if value is None else torch.from_numpy(value) for value in gradients], None)


class _AdjointPlan(NamedTuple):
    """What the adjoint needs to know besides a `_Plan`.

    `needs` is as for the kernels; `sums` has the sizes of the derivatives with respect to A, b, Q, C, m0 and P0, and
    `totals` those of the same for every sequence.
    """

    needs: tuple[bool, bool, bool, bool]
    incoming: Places
    channels: Places
    totals: Places
    sums: Places


@lru_cache(maxsize=64)
def _adjoint_plan(
    layout: Layout, shapes: tuple[Shape, ...], incoming: tuple[Shape, ...], needs: tuple[bool, bool, bool, bool]
) -> _AdjointPlan:
    """Lay out the derivatives with respect to the results, and those with respect to the arguments."""
    unused = [i for i, need in ((0, needs[2]), (3, needs[3])) if not need]  # the kernel does not write them
    totals = [(layout.batch, 1 if i in unused else shape[1], *shape[2:]) for i, shape in enumerate(shapes[2:])]
    of_state = (True,) * len(totals)
    return _AdjointPlan(
        needs,
        layout.places(incoming, (False, True, True)),
        layout.places((shapes[0], shapes[0]), (False, False), ((0,), (1,))),
        layout.places(tuple(totals), of_state),
        layout.places(shapes[2:], of_state),
    )


def _differentiate(
    done: _Forward,
    incoming: tuple[np.ndarray, ...],
    given: tuple[bool, bool],
    wanted: list[Shape | None],
    kind: np.dtype,
) -> list[np.ndarray | None]:
    """Run the adjoint kernels.

    `incoming` are the derivatives with respect to log-densities, means and covariances; `given` says whether there are
    those of means and covariances. `wanted` are the shapes of the derivatives with respect to the arguments of
    `_filter`, None for those that are not needed.
    """
    layout, plan, transitions, outputs = done[:4]
    needs = (*given, wanted[2] is not None, wanted[5] is not None)
    adjoint = _adjoint_plan(layout, plan.shapes, tuple([value.shape for value in incoming]), needs)
    packed, channels = layout.pack(incoming, adjoint.incoming), layout.allocate(adjoint.channels)
    totals = layout.allocate_totals(adjoint.totals)
    arguments = (
        plan.sizes,
        needs,
        (*outputs.flats[:5], *transitions.flats, *packed.flats),
        (*outputs.strides[:5], *transitions.strides, *packed.strides),
        channels.flats,
        channels.strides[0],
        *totals,
    )
    run_blocks(
        lambda first, last: layout.backward(first, last, *arguments),
        layout.blocks,
        _operations(layout.batch, plan.sizes),
    )
    gradients: list[np.ndarray | None] = []
    for flat, shape, want in zip(channels.flats, plan.shapes, wanted, strict=False):
        value = None if want is None else _sum_to(plan.channels.view(flat), shape)
        gradients.append(None if value is None else value.astype(kind, copy=False).reshape(want))
    shapes = zip(plan.shapes[2:], wanted[2:], strict=True)
    sums = [np.empty(0 if want is None else shape, kind) for shape, want in shapes]
    layout.collect(totals.flats, adjoint.sums, sums)
    for value, want in zip(sums, wanted[2:], strict=True):
        if want is None:
            gradients.append(None)
        elif value.size == math.prod(want):
            gradients.append(value.reshape(want))
        else:  # the variances of P0
            gradients.append(value[0, 0].diagonal().copy())
    return gradients


def _operations(batch: int, sizes: tuple[Any, ...]) -> int:
    """Approximate number of floating-point operations of a pass."""
    steps, state, obs = sizes[:3]
    return 4 * batch * steps * state * state * (state + obs)


def _sum_to(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum over the batch and time axes that the parameter does not have."""
    if gradient.shape == shape:
        return gradient
    axes = tuple(axis for axis in (0, 1) if shape[axis] == 1 and gradient.shape[axis] > 1)
    return gradient.sum(axes, keepdims=True, dtype=np.float64) if axes else gradient
