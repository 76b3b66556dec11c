"""The filter with its derivative written out: for all devices, and for covariances that sequences share.

Three things make it cheap. The covariances do not depend on the data, so that they have a recursion of their own
(`riccati.py`), run once for all sequences whose parameters and mask agree, until they settle. The loops over time hold
only what is sequential; the rest is done for all steps at once. And the backward pass is the adjoint of the recursion
rather than autograd's record of it: the gain minimizes the filtered covariance, whose derivative with respect to the
gain is therefore zero, and what remains for the adjoint of the covariance is X -> M' X M + … with M = (I - K C) A.

Where covariances have settled, the loss is a function of those that differ from each other. What steps give to the
settled one is summed up before it is followed back.

Float32 is not enough for covariances that hold both large and very small variances. A recursion that is shared by the
batch runs in float64, which costs next to nothing for a single one. Where the noise is far below the signal, means do
as well: what is left of an observation less its prediction would be rounding.
Checked against `reference.py` and by finite differences in the tests.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kalmanssl.kalman._dtypes import float32_is_enough, has_float64
from kalmanssl.kalman._linalg import NotPositiveDefiniteError, matmul, outer_sum, product_sum, sum_to, symmetrize
from kalmanssl.kalman._model import Model, Observations, mask_observations
from kalmanssl.kalman._moments import FIELDS, Moments
from kalmanssl.kalman.backends._affine_recursions import covariance_recursion
from kalmanssl.kalman.backends._covariance_recursion import covariances
from kalmanssl.kalman.backends._mean_recursion import filter_means, means_adjoint
from kalmanssl.kalman.backends._reference import LOG_2PI, number_observed

__all__ = ["filter_adjoint"]

# Matrices handled at once in the backward pass.
_CHUNK = 256


def filter_adjoint(model: Model, observations: Observations, precision: torch.dtype | None = None) -> Moments:
    """Run the filter; first derivatives only (`filter_reference` has higher ones).

    `precision` is that of the covariances; by default one that suffices.
    """
    y, mask = observations.y, observations.mask
    if mask is not None and bool((mask == mask[:, :1]).all()):
        mask = mask[:, :1]
    visible = mask_observations(model, mask)
    m0 = model.m0.expand(y.shape[0], -1)
    second_moments = (model.P0[:, None], model.A, model.Q, visible.C, visible.R)
    shared = all(p.shape[0] == 1 for p in second_moments)
    first, second = _precisions(y, model, precision, shared=shared)
    means = tuple(p.to(first) for p in (y, m0[:, None], model.b))
    try:
        moments = _run(means, tuple(p.to(second) for p in second_moments), add_jitter=False)
    except NotPositiveDefiniteError:
        finest = precision or (torch.float64 if has_float64(y.device) else y.dtype)
        moments = _run(means, tuple(p.to(finest) for p in second_moments), add_jitter=True)
    constant = 0.5 * LOG_2PI * number_observed(observations)
    return replace(moments, log_likelihood=moments.log_likelihood - constant)


def _precisions(
    y: Tensor, model: Model, precision: torch.dtype | None, *, shared: bool
) -> tuple[torch.dtype, torch.dtype]:
    """In what data types means and covariances are computed."""
    if precision is not None:
        return y.dtype, precision
    if y.dtype == torch.float64 or not has_float64(y.device):
        return y.dtype, y.dtype
    means = torch.float32 if float32_is_enough(model) else torch.float64
    return means, torch.float64 if shared else means


def _run(means: tuple[Tensor, ...], second_moments: tuple[Tensor, ...], *, add_jitter: bool) -> Moments:
    arguments = (*means, *second_moments)
    differentiable = torch.is_grad_enabled() and any(p.requires_grad for p in arguments)
    *fields, jitter = _Filter.apply(*(p.transpose(0, 1) for p in arguments), add_jitter, differentiable)
    return Moments(**{name: field.transpose(0, 1) for name, field in zip(FIELDS, fields, strict=True)}, jitter=jitter)


class _Filter(torch.autograd.Function):
    """The filter on the parameters of the visible model, time first, and its adjoint.

    In the backward pass `to_X` is the derivative of the loss with respect to X, summed up as it flows in, and `g_X` the
    part of it that comes from outside. Symbols: Pp, Pf predicted and filtered covariance, mp, mf means, e innovation,
    F its covariance, V the inverse of its upper Cholesky factor (so that V V' = F^-1), K gain. There are
    as many steps of covariances as differ from each other.
    """

    @staticmethod
    def forward(
        ctx: Any,
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
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        Pp, Pf, K, F, V, jitter = covariances(
            len(y), P0, A, Q, C, R, add_jitter=add_jitter, for_gradients=differentiable
        )
        mp, mf, e, alpha, log_density = filter_means(y, m0, *(p.to(y.dtype) for p in (b, A, C, K, V)))
        ctx.save_for_backward(b, P0, A, Q, C, R, Pp, Pf, K, V, mp, mf, e, alpha)
        ctx.mark_non_differentiable(jitter)
        return mp, Pp, mf, Pf, log_density, K, e, F, jitter

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        g_mp, g_Pp, g_mf, g_Pf, g_ll, g_K, g_e, g_F, _ = gradients
        b, *second_moments, mp, mf, e, alpha = ctx.saved_tensors
        # Derivatives add up what is of one sign and size, which needs no more digits than the means.
        P0, A, Q, C, R, Pp, Pf, K, V = (p.to(e.dtype) for p in second_moments)
        _, _, need_b, *needs, _, _ = ctx.needs_input_grad

        # The log-density gives -alpha = -F^-1 e to the innovation and -(F^-1 - alpha alpha') / 2 to F.
        if g_ll is not None:
            weighted = g_ll[..., None] * alpha
            g_e = -weighted if g_e is None else g_e - weighted
        g_e = torch.zeros_like(e) if g_e is None else g_e
        A_low, C_low, K_low = (p.to(e.dtype) for p in (A, C, K))
        to_mp, to_mf, to_e = means_adjoint(A_low, C_low, K_low, g_mp, g_mf, g_e)
        to_m0, to_b = to_mp[:1], _sum_after_first(to_mp, b) if need_b else None
        if not any(needs):
            return to_e, to_m0, to_b, *([None] * 7)

        sums = [torch.zeros_like(p) if need else None for p, need in zip((P0, A, Q, C, R), needs, strict=True)]
        to_P0, to_A, to_Q, to_C, to_R = sums
        if to_A is not None:
            _from_second(to_A).add_(outer_sum(to_mp[1:], mf[:-1], *_from_second(A).shape[:2]))
        if to_C is not None:
            to_C.sub_(outer_sum(to_e, mp, *C.shape[:2]))
        eye = torch.eye(A.shape[-1], dtype=K.dtype, device=K.device)
        carried = None
        for chunk in _chunks_backwards(*K.shape[:2]):
            Kc, Vc, Cc, Ac = K[chunk], V[chunk], _during(C, chunk), _during(A, chunk)
            axes = Kc.shape[:2]
            keep = eye - matmul(Kc, Cc)
            rows = slice(chunk.start, len(e) if chunk.stop == len(K) else chunk.stop)
            # Gain and innovation covariance: K = N F^-1, F = C N + R, N = Pp C'.
            to_K = outer_sum(to_mf[rows], e[rows], *axes).to(K.dtype)
            to_K = to_K if g_K is None else to_K + g_K[chunk]
            to_N = (to_K @ Vc) @ Vc.mT
            to_F = -symmetrize(Kc.mT @ to_N)
            if g_ll is not None:
                weight = sum_to(g_ll[rows], *axes).to(K.dtype)[..., None, None]
                spread = outer_sum(weighted[rows], alpha[rows], *axes).to(K.dtype)
                to_F += 0.5 * (spread - weight * (Vc @ Vc.mT))
            if g_F is not None:
                to_F += symmetrize(g_F[chunk])
            to_N_less = to_N + 2 * matmul(Cc.mT, to_F)  # F reaches C by two ways, N by one
            into_Pp = symmetrize(matmul(0.5 * (to_N + to_N_less), Cc))
            into_Pp = into_Pp if g_Pp is None else into_Pp + symmetrize(g_Pp[chunk])
            # What reaches Pf: by the loss, and by Pp of the next step as A' Pp A, of which keep' Pf keep is a part.
            A_into_A = matmul(matmul(Ac.mT, into_Pp), Ac)
            last = torch.zeros_like(A_into_A[:1]) if carried is None else carried
            into_Pf = torch.cat([A_into_A[1:], last])
            into_Pf = into_Pf if g_Pf is None else into_Pf + symmetrize(g_Pf[chunk])
            to_Pf = covariance_recursion(into_Pf, matmul(keep, Ac)[1:].mT, reverse=True)
            to_Pp = keep.mT @ to_Pf @ keep + into_Pp
            A_to_Pp = matmul(Ac.mT, to_Pp)
            carried = matmul(A_to_Pp[:1], Ac[:1])

            later = slice(1 if chunk.start == 0 else 0, None)
            before = slice(max(chunk.start - 1, 0), chunk.stop - 1)
            if to_A is not None:
                part = _during(to_A, chunk, later)
                part.add_(product_sum(A_to_Pp[later], Pf[before], *part.shape[:2]), alpha=2)
            if to_Q is not None:
                part = _during(to_Q, chunk, later)
                part.add_(sum_to(_as_noise(to_Pp[later], Q), *part.shape[:2]))
            to_Pf_K = to_Pf @ Kc
            if to_C is not None:
                part = _during(to_C, chunk)
                part.add_(product_sum(to_N_less, Pp[chunk], *part.shape[:2]))
                part.sub_(product_sum(to_Pf_K, Pf[chunk], *part.shape[:2]), alpha=2)
            if to_R is not None:
                part = _during(to_R, chunk)
                part.add_(sum_to(_as_noise(to_F + Kc.mT @ to_Pf_K, R), *part.shape[:2]))
            if to_P0 is not None and chunk.start == 0:
                to_P0.add_(sum_to(to_Pp[:1], *P0.shape[:2]))
        return to_e, to_m0, to_b, *sums, None, None


def _chunks_backwards(steps: int, batch: int) -> list[slice]:
    """Pieces of time, last first, so long that what is done for all their steps at once stays in the cache."""
    length = max(1, _CHUNK // batch)
    return [slice(start, min(start + length, steps)) for start in range(0, steps, length)][::-1]


def _during(stack: Tensor, chunk: slice, part: slice = slice(None)) -> Tensor:
    """The steps of a chunk, or part of them; all there is of a parameter that does not vary over time."""
    return stack if stack.shape[0] == 1 else stack[chunk][part]


def _from_second(parameter: Tensor) -> Tensor:
    """The part of a parameter that leads into steps 1 and later."""
    return parameter if parameter.shape[0] == 1 else parameter[1:]


def _sum_after_first(gradients: Tensor, parameter: Tensor) -> Tensor:
    """Gradient of a parameter that leads into steps 1 and later, given that of each step of each sequence."""
    total = torch.zeros_like(parameter)
    part = _from_second(total)
    part.add_(sum_to(gradients[1:], *part.shape[:2]))
    return total


def _as_noise(gradient: Tensor, noise: Tensor) -> Tensor:
    """The gradient of a full covariance in the form in which the noise was given."""
    return gradient.diagonal(dim1=-2, dim2=-1) if noise.ndim == 3 else gradient
