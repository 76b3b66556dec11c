"""The filter with its derivative written out: the default implementation.

Three things make it cheap. The covariances do not depend on the data, so that they have a recursion of their own, run
once for all sequences whose parameters and mask agree. The loops over time hold only what is sequential; the rest is
done for all steps at once. And the backward pass is the adjoint of the recursion rather than autograd's record of it:
the gain minimises the filtered covariance, whose derivative with respect to the gain is therefore zero, and what
remains for the adjoint of the covariance are four products a step.

The covariances of a constant model are no longer computed once they have settled, since they would be the same.
Float32 is not enough for covariances that hold both large and very small variances. A recursion that is shared by the
batch runs in float64, which costs next to nothing for a single one; so does any whose noise is far below its signal.
Checked against `reference.py` and by finite differences in the tests.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kalmanssl.kalman.arguments import Model, Observations, visible_model
from kalmanssl.kalman.factorize import (
    NotPositiveDefiniteError,
    cholesky_unchecked,
    inverse_transpose,
    safe_cholesky,
    symmetrise,
)
from kalmanssl.kalman.moments import INNOVATION_COV, Moments
from kalmanssl.kalman.reference import LOG_2PI, number_observed
from kalmanssl.kalman.stacks import (
    affine,
    apply,
    empty_steps,
    multiply,
    outer,
    per_step,
    product_sum,
    reduce_to,
)

__all__ = ["filter_adjoint"]

# The least ratio of noise to signal variance for which covariances in float32 stay positive definite with a margin.
_FLOAT32_RANGE = 1e-4
# How often to look whether the covariances of a constant model still change.
_LOOK_EVERY = 32
# Matrices handled at once in the backward pass.
_CHUNK = 256


def filter_adjoint(model: Model, observations: Observations) -> Moments:
    """Run the filter; first derivatives only (`filter_reference` has higher ones)."""
    y = observations.y
    visible = visible_model(model, observations.mask)
    m0 = model.m0.expand(y.shape[0], -1)
    second_moments = (model.P0[:, None], model.A, model.Q, visible.C, visible.R)
    work = _working_dtype(y, model, shared=all(p.shape[0] == 1 for p in second_moments))
    try:
        moments = _run(y, m0, model.b, second_moments, work, guarded=False)
    except NotPositiveDefiniteError:
        finest = y.dtype if y.device.type == "mps" else torch.float64
        moments = _run(y, m0, model.b, second_moments, finest, guarded=True)
    constant = 0.5 * LOG_2PI * number_observed(observations)
    return replace(moments, log_likelihood=moments.log_likelihood - constant)


def _run(
    y: Tensor, m0: Tensor, b: Tensor, second_moments: tuple[Tensor, ...], work: torch.dtype, *, guarded: bool
) -> Moments:
    arguments = (y, m0[:, None], b, *(p.to(work) for p in second_moments))
    fields = _Filter.apply(*(p.transpose(0, 1) for p in arguments), guarded)
    names = (
        "predicted_mean",
        "predicted_cov",
        "filtered_mean",
        "filtered_cov",
        "log_likelihood",
        "gain",
        "innovation",
        "innovation_cov",
    )
    return Moments(**{name: field.transpose(0, 1) for name, field in zip(names, fields, strict=True)})


def _working_dtype(y: Tensor, model: Model, *, shared: bool) -> torch.dtype:
    """In what precision the covariances are computed."""
    if y.device.type == "mps":
        return y.dtype  # has no float64
    if shared or y.dtype == torch.float64:
        return torch.float64
    with torch.no_grad():
        Q, R = (p if p.ndim == 3 else p.diagonal(dim1=-2, dim2=-1) for p in (model.Q, model.R))
        state = torch.maximum(model.P0.diagonal(dim1=-2, dim2=-1).amax(), Q.amax())
        signal = model.C.square().sum(-1).amax() * state
        enough = bool(R.amin() >= _FLOAT32_RANGE * signal)
    return torch.float32 if enough else torch.float64


class _Filter(torch.autograd.Function):
    """The filter on the parameters of the visible model, time first, and its adjoint.

    In the backward pass `to_X` is the derivative of the loss with respect to X, summed up as it flows in, and `g_X` the
    part of it that comes from outside. Symbols: Pp, Pf predicted and filtered covariance, mp, mf means, e innovation,
    F its covariance, V the inverse of its upper Cholesky factor (so that V V' = F^-1), K gain.
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
        guarded: bool,
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        Pp, Pf, K, F, V = _covariances(len(y), P0, A, Q, C, R, guarded=guarded)
        mp, mf, e = _means(y, m0, *(p.to(y.dtype) for p in (b, A, C, K)))
        whitened = apply(V.to(y.dtype).mT, e)
        half_log_det = -V.diagonal(dim1=-2, dim2=-1).log().sum(-1).to(y.dtype)
        log_density = -0.5 * whitened.square().sum(-1) - half_log_det
        ctx.save_for_backward(b, P0, A, Q, C, R, Pp, Pf, K, V, mp, mf, e, whitened)
        return mp, Pp, mf, Pf, log_density, K, e, F

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        g_mp, g_Pp, g_mf, g_Pf, g_ll, g_K, g_e, g_F = gradients
        b, P0, A, Q, C, R, Pp, Pf, K, V, mp, mf, e, whitened = ctx.saved_tensors
        _, _, need_b, *needs, _ = ctx.needs_input_grad

        # The log-density gives -alpha = -F^-1 e to the innovation and -(F^-1 - alpha alpha') / 2 to F.
        if g_ll is not None:
            alpha = apply(V.to(e.dtype), whitened)
            weighted = g_ll[..., None] * alpha
            g_e = -weighted if g_e is None else g_e - weighted
        A_low, C_low, K_low = (p.to(e.dtype) for p in (A, C, K))
        to_mp, to_mf, to_e = _means_adjoint(e, A_low, C_low, K_low, g_mp, g_mf, g_e)
        to_m0, to_b = to_mp[:1], _sum_after_first(to_mp, b) if need_b else None
        if not any(needs):
            return to_e, to_m0, to_b, None, None, None, None, None, None

        sums = [torch.zeros_like(p) if need else None for p, need in zip((P0, A, Q, C, R), needs, strict=True)]
        to_P0, to_A, to_Q, to_C, to_R = sums
        if to_A is not None:
            _from_second(to_A).add_(outer(to_mp[1:], mf[:-1], *_from_second(A).shape[:2]))
        if to_C is not None:
            to_C.sub_(outer(to_e, mp, *C.shape[:2]))
        carried = None
        for chunk in _chunks_backwards(*K.shape[:2]):
            Kc, Vc, Cc = K[chunk], V[chunk], _during(C, chunk)
            axes = Kc.shape[:2]
            # Gain and innovation covariance: K = N F^-1, F = C N + R, N = Pp C'.
            to_K = outer(to_mf[chunk], e[chunk], *axes).to(K.dtype)
            to_K = to_K if g_K is None else to_K + g_K[chunk]
            to_N = (to_K @ Vc) @ Vc.mT
            to_F = -symmetrise(Kc.mT @ to_N)
            if g_ll is not None:
                weight = reduce_to(g_ll[chunk], *axes).to(K.dtype)[..., None, None]
                spread = outer(weighted[chunk], alpha[chunk], *axes).to(K.dtype)
                to_F += 0.5 * (spread - weight * (Vc @ Vc.mT))
            if g_F is not None:
                to_F += symmetrise(g_F[chunk])
            to_N_less = to_N + 2 * multiply(Cc.mT, to_F)  # F reaches C by two ways, N by one
            into_Pp = symmetrise(multiply(0.5 * (to_N + to_N_less), Cc))
            into_Pp = into_Pp if g_Pp is None else into_Pp + symmetrise(g_Pp[chunk])
            into_Pf = None if g_Pf is None else symmetrise(g_Pf[chunk])
            to_Pp, to_Pf, A_to_Pp, carried = _covariances_adjoint(_during(A, chunk), Cc, Kc, into_Pp, into_Pf, carried)

            later = slice(1 if chunk.start == 0 else 0, None)
            before = slice(max(chunk.start - 1, 0), chunk.stop - 1)
            if to_A is not None:
                part = _during(to_A, chunk, later)
                part.add_(product_sum(A_to_Pp[later], Pf[before], *part.shape[:2]), alpha=2)
            if to_Q is not None:
                part = _during(to_Q, chunk, later)
                part.add_(reduce_to(_as_noise(to_Pp[later], Q), *part.shape[:2]))
            to_Pf_K = to_Pf @ Kc
            if to_C is not None:
                part = _during(to_C, chunk)
                part.add_(product_sum(to_N_less, Pp[chunk], *part.shape[:2]))
                part.sub_(product_sum(to_Pf_K, Pf[chunk], *part.shape[:2]), alpha=2)
            if to_R is not None:
                part = _during(to_R, chunk)
                part.add_(reduce_to(_as_noise(to_F + Kc.mT @ to_Pf_K, R), *part.shape[:2]))
            if to_P0 is not None and chunk.start == 0:
                to_P0.add_(reduce_to(to_Pp[:1], *P0.shape[:2]))
        return to_e, to_m0, to_b, *sums, None


def _covariances(
    steps: int, P0: Tensor, A: Tensor, Q: Tensor, C: Tensor, R: Tensor, *, guarded: bool
) -> tuple[Tensor, ...]:
    """Stacks Pp, Pf, K, F, V; with `guarded`, factors that fail are mended where they can be."""
    batch = max(p.shape[1] for p in (P0, A, Q, C, R))
    state, obs = C.shape[-1], C.shape[-2]
    eye_state, eye_obs = (torch.eye(n, dtype=C.dtype, device=C.device) for n in (state, obs))
    add_Q, add_R = (_add_variances_ if noise.ndim == 3 else Tensor.add_ for noise in (Q, R))
    add_product = torch.addmm if batch == 1 else torch.baddbmm
    A_, Q_, C_, R_ = (per_step(p, steps) for p in (A, Q, C, R))
    Pp, Pp_ = empty_steps(C, steps, batch, state, state)
    Pf, Pf_ = empty_steps(C, steps, batch, state, state)
    K, K_ = empty_steps(C, steps, batch, state, obs)
    F, F_ = empty_steps(C, steps, batch, obs, obs)
    V, V_ = empty_steps(C, steps, batch, obs, obs)
    # Memory that is written again at every step stays in the cache.
    one, two, keep = (torch.empty_like(Pp_[0]) for _ in range(3))
    constant = batch == 1 and all(len(p) == 1 for p in (A, Q, C, R))
    Pp_[0].copy_(P0[0, 0] if batch == 1 else P0[0])
    statuses = []
    for t in range(steps):
        Pt, Kt, Ft, Vt, Ct, Rt = Pp_[t], K_[t], F_[t], V_[t], C_[t], R_[t]
        if t > 0:
            torch.matmul(torch.matmul(A_[t], Pf_[t - 1], out=one), A_[t].mT, out=two)
            add_Q(torch.add(two, two.mT, out=Pt).mul_(0.5), Q_[t])
        N = Pt @ Ct.mT
        add_R(torch.matmul(Ct, N, out=Ft), Rt)
        if guarded:
            L = safe_cholesky(Ft, INNOVATION_COV)
        else:
            L, status = cholesky_unchecked(Ft)
            statuses.append(status)
        inverse_transpose(L, eye_obs, out=Vt)
        torch.matmul(N @ Vt, Vt.mT, out=Kt)
        torch.sub(eye_state, torch.matmul(Kt, Ct, out=one), out=keep)
        torch.matmul(torch.matmul(keep, Pt, out=one), keep.mT, out=two)
        KR = Kt * Rt[..., None, :] if R.ndim == 3 else Kt @ Rt
        add_product(two, KR, Kt.mT, out=one)
        torch.add(one, one.mT, out=Pf_[t]).mul_(0.5)
        if constant and t % _LOOK_EVERY == _LOOK_EVERY - 1 and _settled(Pp_[t - 1], Pt):
            for stack in (Pp, Pf, K, F, V):
                stack[t + 1 :] = stack[t]
            break
    variances = F.diagonal(dim1=-2, dim2=-1)
    if not guarded and (bool(torch.stack(statuses).any()) or not bool(torch.isfinite(variances).all())):
        raise NotPositiveDefiniteError(INNOVATION_COV)
    return Pp, Pf, K, symmetrise(F), V


def _settled(before: Tensor, now: Tensor) -> bool:
    """Whether a covariance has reached its steady state, up to rounding."""
    sd = now.diagonal().sqrt()
    change = (now - before).abs() / (sd[:, None] * sd)
    return bool((change <= 32 * torch.finfo(now.dtype).eps).all())


def _means(y: Tensor, m0: Tensor, b: Tensor, A: Tensor, C: Tensor, K: Tensor) -> tuple[Tensor, ...]:
    """Predicted means, filtered means and innovations."""
    steps, batch = y.shape[:2]
    A_, C_, K_ = (per_step(p.mT, steps) for p in (A, C, K))
    b_ = b.expand(steps, batch, -1).unbind(0)
    mf = m0[0]
    predicted, filtered, innovations = [], [], []
    for t, seen in enumerate(y.unbind(0)):
        mp = affine(b_[t], mf, A_[t]) if t > 0 else mf
        e = affine(seen, mp, C_[t], sign=-1)
        mf = affine(mp, e, K_[t])
        predicted.append(mp)
        filtered.append(mf)
        innovations.append(e)
    return torch.stack(predicted), torch.stack(filtered), torch.stack(innovations)


def _means_adjoint(
    e: Tensor, A: Tensor, C: Tensor, K: Tensor, g_mp: Tensor | None, g_mf: Tensor | None, g_e: Tensor | None
) -> tuple[Tensor, ...]:
    """Derivatives with respect to the results of `_means`, everything that follows from them included."""
    steps, batch = e.shape[:2]
    A_, C_, K_ = (per_step(p, steps) for p in (A, C, K))
    no_state, no_obs = e.new_zeros(batch, A.shape[-1]), torch.zeros_like(e[0])
    from_mp, from_mf = ([no_state] * steps if g is None else g.unbind(0) for g in (g_mp, g_mf))
    from_e = [no_obs] * steps if g_e is None else g_e.unbind(0)
    predicted, filtered, innovations = [], [], []
    to_mp = no_state
    for t in reversed(range(steps)):
        to_mf = affine(from_mf[t], to_mp, A_[t + 1]) if t + 1 < steps else from_mf[t]
        to_e = affine(from_e[t], to_mf, K_[t])
        to_mp = affine(to_mf if g_mp is None else from_mp[t] + to_mf, to_e, C_[t], sign=-1)
        predicted.append(to_mp)
        filtered.append(to_mf)
        innovations.append(to_e)
    return tuple(torch.stack(column[::-1]) for column in (predicted, filtered, innovations))


def _covariances_adjoint(
    A: Tensor, C: Tensor, K: Tensor, into_Pp: Tensor, into_Pf: Tensor | None, carried: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Derivatives with respect to Pp and Pf at the steps of a chunk, and A' times the first of these.

    `carried` is what the first step after the chunk gives to the last Pf of it; the same for the chunk before comes
    last in the result.
    """
    steps, batch, state, _ = K.shape
    keep = torch.eye(state, dtype=K.dtype, device=K.device) - multiply(K, C)
    to_Pp, Pp_ = empty_steps(K, steps, batch, state, state)
    to_Pf, Pf_ = empty_steps(K, steps, batch, state, state)
    A_to_Pp, A_Pp_ = empty_steps(K, steps, batch, state, state)
    A_, keep_, into_ = (per_step(p, steps) for p in (A, keep, into_Pp))
    direct = None if into_Pf is None else per_step(into_Pf, steps)
    if carried is None:
        carried = torch.zeros_like(Pf_[-1])
    for t in reversed(range(steps)):
        if direct is None:
            Pf_[t].copy_(carried)
        else:
            torch.add(carried, direct[t], out=Pf_[t])
        torch.matmul(keep_[t].mT @ Pf_[t], keep_[t], out=Pp_[t])
        Pp_[t].add_(into_[t])
        torch.matmul(A_[t].mT, Pp_[t], out=A_Pp_[t])
        carried = A_Pp_[t] @ A_[t]
    return to_Pp, to_Pf, A_to_Pp, carried


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
    part.add_(reduce_to(gradients[1:], *part.shape[:2]))
    return total


def _add_variances_(cov: Tensor, variances: Tensor) -> Tensor:
    cov.diagonal(dim1=-2, dim2=-1).add_(variances)
    return cov


def _as_noise(gradient: Tensor, noise: Tensor) -> Tensor:
    """The gradient of a full covariance in the form in which the noise was given."""
    return gradient.diagonal(dim1=-2, dim2=-1) if noise.ndim == 3 else gradient
