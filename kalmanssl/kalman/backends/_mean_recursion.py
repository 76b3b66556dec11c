"""The means of the filter given its gains, the log-densities, and the adjoint of both; time is the first axis.

If all sequences share the covariances, and numba is available, the loops are compiled and process each step completely
while its data are in the cache. The loops in torch also support gains that differ between sequences.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kalmanssl.kalman._linalg import add_steps_, affine, matmul, matvec, per_step
from kalmanssl.kalman.backends._affine_recursions import (
    affine_scan,
    as_flat_array,
    has_kernels_for,
    pad_rows,
    run_over_sequences,
)

__all__ = ["filter_means", "means_adjoint"]


def filter_means(
    y: Tensor, m0: Tensor, b: Tensor, A: Tensor, C: Tensor, K: Tensor, V: Tensor, *, parallel: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Predicted and filtered means, innovations e, alpha = F^-1 e, and log-densities (time, batch) without constants.

    y is (time, batch, obs), m0 (1, batch, n). K and V are gain and whitener of `Covariances`, in the data type of y;
    their last entry serves all later steps. With `parallel` the recursion is a scan.
    """
    log_det = V.diagonal(dim1=-2, dim2=-1).log().sum(-1)  # equals -log det F / 2
    steps, batch, obs = y.shape
    if not parallel and has_kernels_for(y) and _shared(A, C, K):
        from kalmanssl.kalman.kernels import _recursion_kernels as recursion_kernels

        n = A.shape[-1]
        e = pad_rows(y, copy=True)
        matrices = [pad_rows(p) for p in (A.mT, -C.mT, K.mT, V, V.mT)]
        ns, ms = matrices[0].shape[-1], e.shape[-1]
        mp, mf, alpha = y.new_empty(steps, batch, ns), y.new_empty(steps, batch, ns), torch.empty_like(e)
        mp[0] = pad_rows(m0)[0]
        log_density = y.new_empty(steps, batch)
        run_over_sequences(
            recursion_kernels.means,
            batch,
            2 * steps * batch * (n * n + 2 * n * obs + 2 * obs * obs),
            *(as_flat_array(p) for p in (mp, mf, e, alpha, log_density, pad_rows(b))),
            tuple(as_flat_array(p) for p in matrices),
            as_flat_array(log_det),
            (len(A), len(C), len(K), len(b)),
            (steps, batch, n, obs, ns, ms),
            b.shape[1] > 1,
        )
        return mp[..., :n], mf[..., :n], e[..., :obs], alpha[..., :obs], log_density
    mp, mf, e = _scan_means(y, m0, b, A, C, K) if parallel else _loop_means(y, m0, b, A, C, K)
    whitened = matvec(V.mT, e)
    log_density = add_steps_(whitened.square().sum(-1, keepdim=True).mul_(-0.5), log_det[..., None])
    return mp, mf, e, matvec(V, whitened), log_density[..., 0]


def _loop_means(y: Tensor, m0: Tensor, b: Tensor, A: Tensor, C: Tensor, K: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    steps, batch, _ = y.shape
    A_, C_, K_ = (_by_step(p.mT, steps) for p in (A, C, K))
    b_ = b.expand(steps, batch, -1).unbind(0)
    last = m0[0]
    columns: list[list[Tensor]] = [[], [], []]
    for t, seen in enumerate(y.unbind(0)):
        predicted = affine(b_[t], last, A_[t]) if t > 0 else last
        innovation = affine(seen, predicted, C_[t], sign=-1)
        last = affine(predicted, innovation, K_[t])
        for column, value in zip(columns, (predicted, last, innovation), strict=True):
            column.append(value)
    mp, mf, e = (torch.stack(column) for column in columns)
    return mp, mf, e


def _scan_means(y: Tensor, m0: Tensor, b: Tensor, A: Tensor, C: Tensor, K: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The means by a scan and then, against its rounding, one ordinary step of the filter from each of them."""
    m0, b = m0.expand(1, y.shape[1], -1), b.expand(len(b), y.shape[1], -1)
    keep = _keep(K, C)
    prior = torch.cat([m0, b[-1:].expand(len(y) - 1, -1, -1) if len(b) == 1 else b[1:]])
    filtered = affine_scan(matvec(keep, prior) + matvec(K, y), matmul(keep, A), parallel=True)
    mp = torch.cat([m0, matvec(_from_second(A), filtered[:-1]) + _from_second(b)])
    e = y - matvec(C, mp)
    return mp, mp + matvec(K, e), e


def means_adjoint(
    A: Tensor,
    C: Tensor,
    K: Tensor,
    g_mp: Tensor | None,
    g_mf: Tensor | None,
    g_e: Tensor,
    *,
    parallel: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Total derivatives with respect to mp, mf and e, from the incoming ones `g_mp`, `g_mf` and `g_e`.

    None means zero.
    """
    if parallel:
        return _scan_means_adjoint(A, C, K, g_mp, g_mf, g_e)
    steps, batch, obs = g_e.shape
    n = A.shape[-1]
    if has_kernels_for(g_e) and _shared(A, C, K):
        from kalmanssl.kalman.kernels import _recursion_kernels as recursion_kernels

        matrices = [pad_rows(p) for p in (A, -C, K)]
        d_e = pad_rows(g_e, copy=True)
        ns, ms = matrices[0].shape[-1], d_e.shape[-1]
        d_mp, d_mf = (g_e.new_empty(steps, batch, ns) if g is None else pad_rows(g, copy=True) for g in (g_mp, g_mf))
        run_over_sequences(
            recursion_kernels.means_adjoint,
            batch,
            2 * steps * batch * (n * n + 2 * n * obs),
            *(as_flat_array(p) for p in (d_mp, d_mf, d_e)),
            tuple(as_flat_array(p) for p in matrices),
            (len(A), len(C), len(K)),
            (steps, batch, n, obs, ns, ms),
            (g_mp is not None, g_mf is not None),
        )
        return d_mp[..., :n], d_mf[..., :n], d_e[..., :obs]
    A_, C_, K_ = (_by_step(p, steps) for p in (A, C, K))
    nothing = g_e.new_zeros(batch, n)
    from_mp, from_mf = ([nothing] * steps if g is None else g.unbind(0) for g in (g_mp, g_mf))
    from_e = g_e.unbind(0)
    columns: list[list[Tensor]] = [[], [], []]
    predicted = nothing
    for t in reversed(range(steps)):
        filtered = affine(from_mf[t], predicted, A_[t + 1]) if t + 1 < steps else from_mf[t]
        innovation = affine(from_e[t], filtered, K_[t])
        predicted = affine(filtered if g_mp is None else from_mp[t] + filtered, innovation, C_[t], sign=-1)
        for column, value in zip(columns, (predicted, filtered, innovation), strict=True):
            column.append(value)
    d_mp, d_mf, d_e = (torch.stack(column[::-1]) for column in columns)
    return d_mp, d_mf, d_e


def _scan_means_adjoint(
    A: Tensor, C: Tensor, K: Tensor, g_mp: Tensor | None, g_mf: Tensor | None, g_e: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The derivatives by a scan over those of mf, d_mf[t] = ((I - K C) A)' d_mf[t+1] + ..."""
    steps, batch, _ = g_e.shape
    into_mp = -matvec(C.mT, g_e)
    into_mp = into_mp if g_mp is None else into_mp + g_mp
    into_mf = g_e.new_zeros(steps, batch, A.shape[-1]) if g_mf is None else g_mf.clone()
    into_mf[:-1] += matvec(_from_second(A).mT, into_mp[1:])
    loop = matmul(_keep(K, C), A)
    d_mf = affine_scan(into_mf, _from_second(loop).mT, reverse=True, parallel=True)
    d_e = g_e + matvec(K.mT, d_mf)
    d_mp = d_mf - matvec(C.mT, d_e)
    return d_mp if g_mp is None else d_mp + g_mp, d_mf, d_e


def _keep(K: Tensor, C: Tensor) -> Tensor:
    """I - K C."""
    return torch.eye(C.shape[-1], dtype=C.dtype, device=C.device) - matmul(K, C)


def _from_second(stack: Tensor) -> Tensor:
    """The entries of a stack that lead into steps 1 and later."""
    return stack if len(stack) == 1 else stack[1:]


def _shared(*stacks: Tensor) -> bool:
    return all(stack.shape[1] == 1 for stack in stacks)


def _by_step(stack: Tensor, steps: int) -> list[Tensor]:
    matrices = per_step(stack, len(stack))
    return matrices + matrices[-1:] * (steps - len(matrices))
