"""The covariances of the filter by a scan in time, for GPUs.

A segment of the filter maps the covariance P before it to the filtered covariance at its end,

    P -> E (I + P J)^-1 P E' + C

with a transition E, the covariance C of the end state if the first state is known, and the information J of the
observations in the segment about the first state. Two segments compose to one of the same form (Särkkä &
García-Fernández, IEEE Trans. Automat. Contr. 66, 2021, 299-306, Lemma 8), so that `parallel_scan` gives all filtered
covariances.

Composition loses digits if observations are much more or much less precise than the state. The scan is therefore
followed by Newton's method: the gains of the covariances found are kept, and the covariances of the filter with these
gains, a recursion of sums of positive semi-definite terms in Joseph's form, are computed by a second scan. The error of
a covariance is of second order in that of the gain (Hewer, IEEE Trans. Automat. Contr. 16, 1971, 382-384). The result
is accepted if an ordinary step of the filter reproduces it. All returned arrays come from such a step.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kalmanssl.kalman._linalg import (
    NotPositiveDefiniteError,
    cholesky_unchecked,
    inverse_transpose,
    matmul,
    symmetrize,
)
from kalmanssl.kalman._moments import INNOVATION_COV
from kalmanssl.kalman.backends._parallel_scan import Elements, covariances_in_parallel, parallel_scan

__all__ = ["scan_covariances"]

# Numbers in a stack of covariances that is processed at once, 128 MB in float64; longer sequences are divided.
_MOST_NUMBERS = 2**24
_FEWEST_STEPS = 64
# Steps of a constant model in the first scan; if the covariances have not converged, the next one is twice as long.
_FIRST_STEPS = 512
_MOST_NEWTON_STEPS = 4


class _Step(NamedTuple):
    """The filter at all steps of a segment, each from the filtered covariance before it; `keep` is I - K C."""

    predicted: Tensor
    filtered: Tensor
    gain: Tensor
    innovation: Tensor
    whitener: Tensor
    keep: Tensor


def scan_covariances(
    steps: int, P0: Tensor, A: Tensor, Q: Tensor, C: Tensor, R: Tensor, *, constant: bool
) -> tuple[Tensor, ...]:
    """The fields of `Covariances` without the jitter, for parameters (steps|1, batch|1, …) and P0 (1, batch|1, n, n).

    Raises
    ------
    NotPositiveDefiniteError
        If an innovation covariance is not positive definite, or the scan is not accurate; a loop may succeed.
    """
    n = A.shape[-1]
    batch = max(p.shape[1] for p in (P0, A, Q, C, R))
    full = (A, _full(Q), C, _full(R))
    most = max(_FEWEST_STEPS, _MOST_NUMBERS // (batch * n * n))
    length = min(_FIRST_STEPS, most) if constant else most
    predicted, first, pieces = P0.expand(1, batch, n, n), 0, []
    while first < steps:
        count = min(length, steps - first)
        part = [p if len(p) == 1 else p[first : first + count] for p in full]
        found = _segment(count, predicted, *part)
        distinct = _converged_after(found.filtered) if constant else count
        pieces.append([stack[:distinct].expand(-1, batch, -1, -1) for stack in found[:5]])
        first += count
        if distinct < count or first == steps:
            break
        A_next, Q_next = (p if len(p) == 1 else p[first : first + 1] for p in full[:2])
        predicted = _predict(found.filtered[-1:], A_next, Q_next)
        length = min(2 * length, most)
    return tuple(parts[0] if len(parts) == 1 else torch.cat(parts) for parts in zip(*pieces, strict=True))


def _full(noise: Tensor) -> Tensor:
    return torch.diag_embed(noise) if noise.ndim == 3 else noise


def _later(parameter: Tensor) -> Tensor:
    return parameter if len(parameter) == 1 else parameter[1:]


def _segment(count: int, predicted: Tensor, A: Tensor, Q: Tensor, C: Tensor, R: Tensor) -> _Step:
    """Filter a segment of `count` steps from the predicted covariance (1, batch, n, n) of its first one."""
    first = _update(predicted, C[:1], R[:1])
    if count == 1:
        return first
    A, Q, C_later, R_later = _later(A), _later(Q), _later(C), _later(R)
    elements = _elements(A, Q, C_later, R_later)
    filtered = parallel_scan(elements, first.filtered[0], count - 1, _compose, _apply)
    eps = torch.finfo(A.dtype).eps
    error = float("inf")
    for newton_steps in range(_MOST_NEWTON_STEPS + 1):
        step = _update(torch.cat([predicted, _predict(torch.cat([first.filtered, filtered[:-1]]), A, Q)]), C, R)
        before, error = error, _largest_change(filtered, step.filtered[1:])
        # An error that no longer falls is due to rounding.
        if newton_steps and (error <= 64 * eps or not error < 0.1 * before):
            break
        keep, gain = step.keep[1:], step.gain[1:]
        noise = symmetrize(matmul(matmul(keep, Q), keep.mT) + matmul(matmul(gain, R_later), gain.mT))
        chain = covariances_in_parallel(torch.cat([first.filtered, noise]), matmul(keep, A))
        if chain is None:
            raise NotPositiveDefiniteError(INNOVATION_COV)
        filtered = chain[1:]
    if not error <= 100 * eps**0.5:
        raise NotPositiveDefiniteError(f"{INNOVATION_COV}: the scan is not accurate")
    return step


def _elements(A: Tensor, Q: Tensor, C: Tensor, R: Tensor) -> Elements:
    """E, C and J of single steps."""
    one = _update(Q, C, R)
    return matmul(one.keep, A), one.filtered, _square(matmul(one.whitener.mT, matmul(C, A)))


def _compose(early: Elements, late: Elements) -> Elements:
    E, C, J = early
    E_late, C_late, J_late = late
    W = _root(C, J_late)
    WJ = matmul(W, J_late)
    kept = E - matmul(W.mT, matmul(WJ, E))  # (I + C J_late)^-1 E
    # J_late (I + C J_late)^-1, the information of the late segment about the first state of it
    information = J_late - _square(WJ)
    return (
        matmul(E_late, kept),
        _square(matmul(W, E_late.mT)) + C_late,
        matmul(matmul(E.mT, information), E) + J,
    )


def _apply(elements: Elements, P: Tensor) -> Tensor:
    E, C, J = elements
    return _square(matmul(_root(P, J), E.mT)) + C


def _root(cov: Tensor, information: Tensor) -> Tensor:
    """W with W' W = (I + cov J)^-1 cov, the covariance of a state after an observation of information J."""
    variances = cov.diagonal(dim1=-2, dim2=-1)
    numbers = torch.finfo(cov.dtype)
    L, _ = cholesky_unchecked(cov + torch.diag_embed(variances * (8 * cov.shape[-1] * numbers.eps) + numbers.tiny))
    S = matmul(matmul(L.mT, information), L)
    S.diagonal(dim1=-2, dim2=-1).add_(1.0)
    # Not positive definite only if rounding has spoiled a covariance; the check of the result finds this.
    factor, _ = cholesky_unchecked(S)
    return torch.linalg.solve_triangular(factor, L.mT.expand_as(factor), upper=False)


def _square(root: Tensor) -> Tensor:
    """The product root' root, symmetric up to rounding; factorizations read the lower triangle alone."""
    return root.mT @ root


def _predict(filtered: Tensor, A: Tensor, Q: Tensor) -> Tensor:
    return symmetrize(matmul(matmul(A, filtered), A.mT)) + Q


def _update(predicted: Tensor, C: Tensor, R: Tensor) -> _Step:
    """The update of the filter in Joseph's form, for a stack of predicted covariances."""
    cross = matmul(predicted, C.mT)
    innovation = symmetrize(matmul(C, cross)) + R
    factor, status = cholesky_unchecked(innovation)
    if bool(status.any()) or not bool(torch.isfinite(innovation.diagonal(dim1=-2, dim2=-1)).all()):
        raise NotPositiveDefiniteError(INNOVATION_COV)
    eye = torch.eye(C.shape[-2], dtype=C.dtype, device=C.device)
    V = inverse_transpose(factor, eye)
    gain = matmul(matmul(cross, V), V.mT)
    keep = torch.eye(C.shape[-1], dtype=C.dtype, device=C.device) - matmul(gain, C)
    filtered = matmul(matmul(keep, predicted), keep.mT) + matmul(matmul(gain, R), gain.mT)
    return _Step(predicted, symmetrize(filtered), gain, innovation, V, keep)


def _largest_change(before: Tensor, now: Tensor) -> float:
    """Largest change of an entry, relative to the standard deviations of its row and column."""
    sd = now.diagonal(dim1=-2, dim2=-1).sqrt().clamp_min(torch.finfo(now.dtype).tiny ** 0.5)
    return float(((now - before).abs() / sd[..., :, None] / sd[..., None, :]).amax())


def _converged_after(covs: Tensor) -> int:
    """Number of covariances (steps, 1, n, n) until two successive ones are equal up to rounding, with the second."""
    sd = covs[1:].diagonal(dim1=-2, dim2=-1).sqrt()
    tolerance = 32 * torch.finfo(covs.dtype).eps
    equal = ((covs[1:] - covs[:-1]).abs() <= tolerance * sd[..., :, None] * sd[..., None, :]).flatten(1).all(1)
    found = equal.nonzero()
    return int(found[0, 0]) + 2 if len(found) else len(covs)
