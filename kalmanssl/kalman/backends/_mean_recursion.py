"""The means of the filter given its gains, the log-densities, and the adjoint of both; time is the first axis.

If all sequences share the covariances, and numba is available, the loops are compiled and process each step completely
while its data are in the cache. The loops in torch also support gains that differ between sequences.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kalmanssl.kalman._linalg import add_steps_, affine, matvec, per_step
from kalmanssl.kalman.backends._affine_recursions import as_flat_array, has_kernels_for, pad_rows, run_over_sequences

__all__ = ["filter_means", "means_adjoint"]


def filter_means(
    y: Tensor, m0: Tensor, b: Tensor, A: Tensor, C: Tensor, K: Tensor, V: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Predicted and filtered means, innovations e, alpha = F^-1 e, and log-densities (time, batch) without constants.

    y is (time, batch, obs), m0 (1, batch, n). K and V are gain and whitener of `Covariances`, in the data type of y;
    their last entry serves all later steps.
    """
    log_det = V.diagonal(dim1=-2, dim2=-1).log().sum(-1)  # equals -log det F / 2
    steps, batch, obs = y.shape
    if has_kernels_for(y) and _shared(A, C, K):
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
    whitened = matvec(V.mT, e)
    log_density = add_steps_(whitened.square().sum(-1, keepdim=True).mul_(-0.5), log_det[..., None])
    return mp, mf, e, matvec(V, whitened), log_density[..., 0]


def means_adjoint(
    A: Tensor, C: Tensor, K: Tensor, g_mp: Tensor | None, g_mf: Tensor | None, g_e: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Total derivatives with respect to mp, mf and e, from the incoming ones `g_mp`, `g_mf` and `g_e`.

    None means zero.
    """
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


def _shared(*stacks: Tensor) -> bool:
    return all(stack.shape[1] == 1 for stack in stacks)


def _by_step(stack: Tensor, steps: int) -> list[Tensor]:
    matrices = per_step(stack, len(stack))
    return matrices + matrices[-1:] * (steps - len(matrices))
