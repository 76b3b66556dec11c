"""The covariances of the filter, which do not depend on the data and are computed once for sequences that share them.

Those of a constant model converge (Anderson & Moore, Optimal Filtering, 1979, Section 4.4). The recursion stops there,
and the last entry of a stack serves all later steps. The update has Joseph's form, as in `_reference.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kalmanssl.kalman._linalg import (
    NotPositiveDefiniteError,
    cholesky_unchecked,
    cholesky_with_jitter,
    empty_steps,
    inverse_transpose,
    per_step,
    symmetrize,
)
from kalmanssl.kalman._moments import INNOVATION_COV
from kalmanssl.kalman.backends._affine_recursions import as_flat_array, has_converged, has_kernels_for, pad_rows
from kalmanssl.kalman.backends._covariance_scan import scan_covariances

__all__ = ["Covariances", "covariances", "steps_to_forget"]

# Steps of the torch loop between two checks for convergence; a check takes as long as a step.
_LOOK_EVERY = 32
# Steps, and numbers of a covariance, for which the compiled loop allocates memory at first: the larger of both.
_FIRST_STEPS, _FIRST_NUMBERS = 64, 32768
# Derivatives have converged when powers of the transition are below this: a change then decays by its square.
_FORGOTTEN = 3e-7


class Covariances(NamedTuple):
    """Covariances predicted, filtered, and of the innovation (F), the gain K, and V with V V' = F^-1; jitter (batch,).

    Time is the first axis, and the batch axis is 1 if they are shared. There are fewer entries than steps if the
    covariances converged.
    """

    predicted: Tensor
    filtered: Tensor
    gain: Tensor
    innovation: Tensor
    whitener: Tensor
    jitter: Tensor


def covariances(
    steps: int,
    P0: Tensor,
    A: Tensor,
    Q: Tensor,
    C: Tensor,
    R: Tensor,
    *,
    add_jitter: bool,
    for_gradients: bool,
    parallel: bool = False,
) -> Covariances:
    """Covariances for parameters (steps|1, batch|1, …) and P0 (1, batch|1, n, n).

    With `add_jitter`, innovation covariances that are not positive definite get jitter where that helps; without it
    `NotPositiveDefiniteError` is raised. With `for_gradients` the recursion continues until derivatives have converged.
    With `parallel` and without `add_jitter` it is a scan.
    """
    shared = all(p.shape[1] == 1 for p in (P0, A, Q, C, R))
    constant = shared and all(len(p) == 1 for p in (A, Q, C, R))
    if parallel and not add_jitter:
        stacks = scan_covariances(steps, P0, A, Q, C, R, constant=constant)
        found = Covariances._make([*stacks, P0.new_zeros(stacks[0].shape[1])])
    elif shared and not add_jitter and has_kernels_for(C):
        found = _compiled_loop(steps, P0, A, Q, C, R, constant=constant)
    else:
        found = _torch_loop(steps, P0, A, Q, C, R, add_jitter=add_jitter, constant=constant)
    known = len(found.gain)
    if not for_gradients or known == steps:
        return found
    eye = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    known = steps_to_forget((eye - found.gain[-1, 0] @ C[0, 0]) @ A[0, 0], known, steps)
    index = torch.arange(known, device=A.device).clamp_max(len(found.gain) - 1)
    return Covariances._make([*(stack[index] for stack in found[:-1]), found.jitter])


def steps_to_forget(transition: Tensor, known: int, steps: int) -> int:
    """Steps, from `known` to `steps`, after which X -> M X M' + … no longer depends on its start.

    If the recursion starts at its steady state, its value has converged at once, but the derivative with respect to the
    start has not.
    """
    while known < steps and bool(torch.linalg.matrix_power(transition, known).abs().amax() > _FORGOTTEN):
        known *= 2
    return min(known, steps)


def _compiled_loop(
    steps: int, P0: Tensor, A: Tensor, Q: Tensor, C: Tensor, R: Tensor, *, constant: bool
) -> Covariances:
    from kalmanssl.kalman.kernels import _covariance_kernels as covariance_kernels

    n, m = C.shape[-1], C.shape[-2]
    matrices = [pad_rows(p) for p in (A, A.mT, -C, C.mT)]
    ns, ms = matrices[0].shape[-1], matrices[3].shape[-1]
    model = tuple(as_flat_array(p) for p in (*matrices, Q.detach().contiguous(), R.detach().contiguous()))
    periods, size, diagonal = (len(A), len(C), len(Q), len(R)), (n, m, ns, ms), (Q.ndim == 3, R.ndim == 3)
    tolerance = 32 * torch.finfo(C.dtype).eps if constant else 0.0
    before, first = pad_rows(P0), 0
    length = max(_FIRST_STEPS, _FIRST_NUMBERS // (n * ns)) if constant else steps
    pieces = []
    while first < steps:
        length = min(length, steps - first)
        out = [P0.new_empty(length, 1, *shape) for shape in ((n, ns), (n, ns), (n, ms), (m, ms), (m, ms))]
        done = covariance_kernels.riccati(
            first,
            length,
            as_flat_array(before),
            model,
            periods,
            size,
            diagonal,
            tolerance,
            tuple(as_flat_array(p) for p in out),
        )
        if done < 0:
            raise NotPositiveDefiniteError(INNOVATION_COV)
        pieces.append([stack[:done] for stack in out])
        if done < length:
            break
        before, first, length = out[1][-1], first + length, 2 * length
    columns = (n, n, m, m, m)
    whole = (parts[0] if len(parts) == 1 else torch.cat(parts) for parts in zip(*pieces, strict=True))
    stacks = (stack[..., :k] for stack, k in zip(whole, columns, strict=True))
    return Covariances._make([*stacks, P0.new_zeros(1)])


def _torch_loop(
    steps: int, P0: Tensor, A: Tensor, Q: Tensor, C: Tensor, R: Tensor, *, add_jitter: bool, constant: bool
) -> Covariances:
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
    # Reusing the same memory at every step keeps it in the cache.
    one, two, keep = (torch.empty_like(Pp_[0]) for _ in range(3))
    Pp_[0].copy_(P0[0, 0] if batch == 1 else P0[0])
    statuses, jitter = [], P0.new_zeros(batch)
    for t in range(steps):
        Pt, Kt, Ft, Vt, Ct, Rt = Pp_[t], K_[t], F_[t], V_[t], C_[t], R_[t]
        if t > 0:
            torch.matmul(torch.matmul(A_[t], Pf_[t - 1], out=one), A_[t].mT, out=two)
            add_Q(torch.add(two, two.mT, out=Pt).mul_(0.5), Q_[t])
        N = Pt @ Ct.mT
        add_R(torch.matmul(Ct, N, out=Ft), Rt)
        if add_jitter:
            L, added = cholesky_with_jitter(Ft, INNOVATION_COV)
            jitter = torch.maximum(jitter, added)
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
        if constant and t % _LOOK_EVERY == _LOOK_EVERY - 1 and has_converged(Pp_[t - 1], Pt):
            Pp, Pf, K, F, V = (stack[: t + 1].clone() for stack in (Pp, Pf, K, F, V))
            break
    variances = F.diagonal(dim1=-2, dim2=-1)
    if not add_jitter and (bool(torch.stack(statuses).any()) or not bool(torch.isfinite(variances).all())):
        raise NotPositiveDefiniteError(INNOVATION_COV)
    return Covariances(Pp, Pf, K, symmetrize(F), V, jitter)


def _add_variances_(cov: Tensor, variances: Tensor) -> Tensor:
    cov.diagonal(dim1=-2, dim2=-1).add_(variances)
    return cov
