"""The filter in torch with a hand-written derivative, on all devices; used where sequences share covariances.

Three properties make it fast:

* The covariances do not depend on the data. Their recursion (`_covariance_recursion.py`) runs once for all sequences
  that have the same parameters and mask, and stops when it has converged.
* The loops over time contain only what is sequential. Everything else is computed for all steps at once.
* The backward pass is the adjoint of the recursion and not autograd's record of it. The gain minimizes the filtered
  covariance, so that its derivative with respect to the gain is zero. The adjoint of the covariance is then the
  recursion X -> M' X M + … with M = (I - K C) A.

When the covariances have converged, the derivatives that later steps pass to the converged covariance are summed before
they are propagated back.

Float32 is not accurate enough for covariances with both large and very small variances. A recursion that is shared by
the batch runs in float64, since a single one costs little. If the noise is much smaller than the signal, the means are
computed in float64 too, because an innovation would otherwise consist of rounding errors.

The tests compare it with `_reference.py` and with finite differences.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kalmanssl.kalman._dtypes import float32_is_enough
from kalmanssl.kalman._linalg import NotPositiveDefiniteError, matmul, outer_sum, product_sum, sum_to, symmetrize
from kalmanssl.kalman._model import Model, Observations, mask_observations
from kalmanssl.kalman._moments import FIELDS, Moments
from kalmanssl.kalman._tensor_checks import has_derivatives
from kalmanssl.kalman.backends._affine_recursions import covariance_recursion
from kalmanssl.kalman.backends._covariance_recursion import covariances
from kalmanssl.kalman.backends._mean_recursion import filter_means, means_adjoint
from kalmanssl.kalman.backends._reference import LOG_2PI, number_observed
from kalmanssl.utils.precision import finest_dtype, has_float64

__all__ = ["filter_adjoint"]

# Number of matrices that the backward pass processes at once, with loops and with scans.
_CHUNK = 256
_NUMBERS_OF_SCAN = 2**24


def filter_adjoint(
    model: Model, observations: Observations, precision: torch.dtype | None = None, *, parallel: bool = False
) -> Moments:
    """Run the filter; only first derivatives are available (`filter_reference` has higher ones).

    `precision` is the data type of the covariances; by default one that is accurate enough. With `parallel`, the
    recursions over time are scans (`_scan.py`) unless these fail.
    """
    y, mask = observations.y, observations.mask
    if mask is not None and bool((mask == mask[:, :1]).all()):
        mask = mask[:, :1]
    masked = mask_observations(model, mask)
    m0 = model.m0.expand(y.shape[0], -1)
    second_moments = (model.P0[:, None], model.A, model.Q, masked.C, masked.R)
    shared = all(p.shape[0] == 1 for p in second_moments)
    mean_dtype, cov_dtype = _choose_dtypes(y, model, precision, in_float64=shared or parallel)
    means = tuple(p.to(mean_dtype) for p in (y, m0[:, None], model.b))
    try:
        moments = _run(means, tuple(p.to(cov_dtype) for p in second_moments), add_jitter=False, parallel=parallel)
    except NotPositiveDefiniteError:
        cov_dtype = precision or finest_dtype(y)
        moments = _run(means, tuple(p.to(cov_dtype) for p in second_moments), add_jitter=True, parallel=False)
    constant = 0.5 * LOG_2PI * number_observed(observations)
    return replace(moments, log_likelihood=moments.log_likelihood - constant)


def _choose_dtypes(
    y: Tensor, model: Model, precision: torch.dtype | None, *, in_float64: bool
) -> tuple[torch.dtype, torch.dtype]:
    """Data types in which the means and the covariances are computed."""
    if precision is not None:
        return y.dtype, precision
    if y.dtype == torch.float64 or not has_float64(y.device):
        return y.dtype, y.dtype
    means = torch.float32 if float32_is_enough(model) else torch.float64
    return means, torch.float64 if in_float64 else means


def _run(means: tuple[Tensor, ...], second_moments: tuple[Tensor, ...], *, add_jitter: bool, parallel: bool) -> Moments:
    arguments = (*means, *second_moments)
    differentiable = has_derivatives(arguments)
    given: Any = (*(p.transpose(0, 1) for p in arguments), add_jitter, differentiable, parallel)
    if differentiable:
        *fields, jitter = _Filter.apply(*given)
    else:  # without autograd, whose function takes time
        with torch.no_grad():
            *fields, jitter = _filter(*given)[:9]
    return Moments(**{name: field.transpose(0, 1) for name, field in zip(FIELDS, fields, strict=True)}, jitter=jitter)


def _filter(
    y: Tensor,
    m0: Tensor,
    b: Tensor,
    P0: Tensor,
    A: Tensor,
    Q: Tensor,
    C: Tensor,
    R: Tensor,
    add_jitter: bool,
    differentiable: bool,
    parallel: bool,
) -> tuple[Tensor, ...]:
    """The fields of `Moments` and the jitter, then V and alpha for the adjoint; symbols as in `_Filter`."""
    Pp, Pf, K, F, V, jitter = covariances(
        len(y), P0, A, Q, C, R, add_jitter=add_jitter, for_gradients=differentiable, parallel=parallel
    )
    mp, mf, e, alpha, log_density = filter_means(y, m0, *(p.to(y.dtype) for p in (b, A, C, K, V)), parallel=parallel)
    return mp, Pp, mf, Pf, log_density, K, e, F, jitter, V, alpha


class _Filter(torch.autograd.Function):
    """The filter on the parameters of the masked model, time first, and its adjoint.

    In the backward pass `d_X` is the total derivative of the loss with respect to X, and `g_X` the part that autograd
    passes in. Symbols: Pp, Pf predicted and filtered covariance; mp, mf means; e innovation; F its covariance; V the
    inverse of the upper Cholesky factor of F, so that V V' = F^-1; K gain; alpha = F^-1 e. The stacks of covariances
    have as many steps as there are distinct ones.
    """

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        *fields, V, alpha = _filter(*arguments)
        mp, Pp, mf, Pf, _, K, e, _, jitter = fields
        _, _, b, P0, A, Q, C, R = arguments[:8]
        ctx.save_for_backward(b, P0, A, Q, C, R, Pp, Pf, K, V, mp, mf, e, alpha)
        ctx.mark_non_differentiable(jitter)
        ctx.parallel = arguments[-1]
        return tuple(fields)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        b, *second_moments, mp, mf, e, alpha = ctx.saved_tensors
        # The backward pass sums terms of similar sign and size, for which the precision of the means is enough. The
        # covariances, and the gradients that arrive for them, may have another data type.
        P0, A, Q, C, R, Pp, Pf, K, V = (p.to(e.dtype) for p in second_moments)
        g_mp, g_Pp, g_mf, g_Pf, g_ll, g_K, g_e, g_F = (None if g is None else g.to(e.dtype) for g in gradients[:-1])
        _, _, need_b, *needs, _, _, _ = ctx.needs_input_grad

        # The log-density contributes -alpha to d_e, and -(F^-1 - alpha alpha') / 2 to d_F.
        if g_ll is not None:
            weighted = g_ll[..., None] * alpha
            g_e = -weighted if g_e is None else g_e - weighted
        g_e = torch.zeros_like(e) if g_e is None else g_e
        d_mp, d_mf, d_e = means_adjoint(A, C, K, g_mp, g_mf, g_e, parallel=ctx.parallel)
        d_m0, d_b = d_mp[:1], _sum_after_first(d_mp, b) if need_b else None
        if not any(needs):
            return d_e, d_m0, d_b, *([None] * 8)

        totals = [torch.zeros_like(p) if need else None for p, need in zip((P0, A, Q, C, R), needs, strict=True)]
        _, d_A, _, d_C, _ = totals
        if d_A is not None:
            _from_second(d_A).add_(outer_sum(d_mp[1:], mf[:-1], *_from_second(A).shape[:2]))
        if d_C is not None:
            d_C.sub_(outer_sum(d_e, mp, *C.shape[:2]))
        carried = None
        matrices = max(1, _NUMBERS_OF_SCAN // Pf[0, 0].numel()) if ctx.parallel else _CHUNK
        for steps in _chunks_backwards(len(K), K.shape[1], matrices):
            chunk = _Chunk.at(steps, A, C, Pp, Pf, K, V)
            rows = slice(steps.start, len(e) if steps.stop == len(K) else steps.stop)
            d_K = outer_sum(d_mf[rows], e[rows], *chunk.K.shape[:2])
            d_K = d_K if g_K is None else d_K + g_K[steps]
            d_N = (d_K @ chunk.V) @ chunk.V.mT
            d_F = -symmetrize(chunk.K.mT @ d_N)
            if g_ll is not None:
                weight = sum_to(g_ll[rows], *chunk.K.shape[:2])[..., None, None]
                outer = outer_sum(weighted[rows], alpha[rows], *chunk.K.shape[:2])
                d_F += 0.5 * (outer - weight * (chunk.V @ chunk.V.mT))
            if g_F is not None:
                d_F += symmetrize(g_F[steps])
            carried = _covariance_adjoint(chunk, d_N, d_F, g_Pp, g_Pf, carried, totals, parallel=ctx.parallel)
        return d_e, d_m0, d_b, *totals, None, None, None


class _Chunk(NamedTuple):
    """The arrays of a segment of time; A and C have one step if they do not vary over time."""

    steps: slice
    A: Tensor
    C: Tensor
    Pp: Tensor
    Pf: Tensor
    Pf_before: Tensor
    K: Tensor
    V: Tensor
    keep: Tensor

    @classmethod
    def at(cls, steps: slice, A: Tensor, C: Tensor, Pp: Tensor, Pf: Tensor, K: Tensor, V: Tensor) -> _Chunk:
        """Slice the stacks of a filter; `keep` is I - K C."""
        before = slice(max(steps.start - 1, 0), steps.stop - 1)
        A, C = _during(A, steps), _during(C, steps)
        keep = torch.eye(A.shape[-1], dtype=K.dtype, device=K.device) - matmul(K[steps], C)
        return cls(steps, A, C, Pp[steps], Pf[steps], Pf[before], K[steps], V[steps], keep)


def _covariance_adjoint(
    chunk: _Chunk,
    d_N: Tensor,
    d_F: Tensor,
    g_Pp: Tensor | None,
    g_Pf: Tensor | None,
    carried: Tensor | None,
    totals: list[Tensor | None],
    *,
    parallel: bool,
) -> Tensor:
    """Propagate derivatives through the covariances of a chunk, and add those of P0, A, Q, C, R to `totals`.

    F = C N + R is the innovation covariance and N = Pp C', so that K = N F^-1. `carried` is the derivative with respect
    to the last filtered covariance of the chunk that comes from later chunks, and the result the one for the chunk
    before.
    """
    steps, A, C, Pp, Pf, Pf_before, K, _, keep = chunk
    d_P0, d_A, d_Q, d_C, d_R = totals
    d_N_and_F = d_N + 2 * matmul(C.mT, d_F)  # C enters F twice, and N once
    into_Pp = symmetrize(matmul(0.5 * (d_N + d_N_and_F), C))
    into_Pp = into_Pp if g_Pp is None else into_Pp + symmetrize(g_Pp[steps])
    # Pf gets derivatives from the loss and, as A' d_Pp A, from Pp of the next step. The part keep' d_Pf keep of d_Pp
    # depends on the next d_Pf: this is the recursion.
    A_into_A = matmul(matmul(A.mT, into_Pp), A)
    last = torch.zeros_like(A_into_A[:1]) if carried is None else carried
    into_Pf = torch.cat([A_into_A[1:], last])
    into_Pf = into_Pf if g_Pf is None else into_Pf + symmetrize(g_Pf[steps])
    d_Pf = covariance_recursion(into_Pf, matmul(keep, A)[1:].mT, reverse=True, parallel=parallel)
    d_Pp = keep.mT @ d_Pf @ keep + into_Pp
    A_d_Pp = matmul(A.mT, d_Pp)

    later = slice(1 if steps.start == 0 else 0, None)  # nothing leads into the first step
    if d_A is not None:
        part = _during(d_A, steps, later)
        part.add_(product_sum(A_d_Pp[later], Pf_before, *part.shape[:2]), alpha=2)
    if d_Q is not None:
        part = _during(d_Q, steps, later)
        part.add_(sum_to(_like_noise(d_Pp[later], d_Q), *part.shape[:2]))
    d_Pf_K = d_Pf @ K
    if d_C is not None:
        part = _during(d_C, steps)
        part.add_(product_sum(d_N_and_F, Pp, *part.shape[:2]))
        part.sub_(product_sum(d_Pf_K, Pf, *part.shape[:2]), alpha=2)
    if d_R is not None:
        part = _during(d_R, steps)
        part.add_(sum_to(_like_noise(d_F + K.mT @ d_Pf_K, d_R), *part.shape[:2]))
    if d_P0 is not None and steps.start == 0:
        d_P0.add_(sum_to(d_Pp[:1], *d_P0.shape[:2]))
    return matmul(A_d_Pp[:1], A[:1])


def _chunks_backwards(steps: int, batch: int, matrices: int) -> list[slice]:
    """Segments of time with about this many matrices, last first: those of loops stay in the cache."""
    length = max(1, matrices // batch)
    return [slice(start, min(start + length, steps)) for start in range(0, steps, length)][::-1]


def _during(stack: Tensor, steps: slice, part: slice = slice(None)) -> Tensor:
    """The steps of a segment, or part of them; the single entry of a parameter that does not vary over time."""
    return stack if stack.shape[0] == 1 else stack[steps][part]


def _from_second(parameter: Tensor) -> Tensor:
    """The part of a parameter that leads into steps 1 and later."""
    return parameter if parameter.shape[0] == 1 else parameter[1:]


def _sum_after_first(gradients: Tensor, parameter: Tensor) -> Tensor:
    """Gradient of a parameter that leads into steps 1 and later, from the gradients of all steps and sequences."""
    total = torch.zeros_like(parameter)
    part = _from_second(total)
    part.add_(sum_to(gradients[1:], *part.shape[:2]))
    return total


def _like_noise(gradient: Tensor, noise: Tensor) -> Tensor:
    """The gradient of a covariance, or its diagonal if the noise is given by variances."""
    return gradient.diagonal(dim1=-2, dim2=-1) if noise.ndim == 3 else gradient
