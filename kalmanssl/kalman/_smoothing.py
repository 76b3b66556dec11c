"""The Rauch-Tung-Striebel smoother: moments of each state given the whole sequence.

Rauch, Tung & Striebel, AIAA J. 3 (1965) 1445-1450; Särkkä & Svensson, Bayesian Filtering and Smoothing, 2nd ed. (2023),
Section 12.2. Covariances are computed as sums of positive semi-definite terms, as in the Joseph form of the filter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from kalmanssl.kalman._array_interface import accept_arrays
from kalmanssl.kalman._inputs import add_inputs, subtract_offset
from kalmanssl.kalman._linalg import matvec
from kalmanssl.kalman._model import Model, Observations, to_float64
from kalmanssl.kalman._moments import Moments, between_steps, from_second
from kalmanssl.kalman._results import FilterResult, SmootherResult
from kalmanssl.kalman._tensor_checks import has_derivatives
from kalmanssl.kalman._validation import check_model, check_observations
from kalmanssl.kalman.backends import (
    BACKENDS,
    AffineScan,
    CovarianceRecursion,
    affine_scan,
    covariance_recursion,
    has_converged,
    smoother_gains,
    steps_to_forget,
    uses_scan,
)
from kalmanssl.utils.validation import check_choice

__all__ = ["BackwardProcess", "backward_process", "kalman_smoother", "run_smoother"]

# Steps between two checks of whether the smoothed covariances have converged.
_CHECK_EVERY = 32
# Steps of means that are in memory twice at most.
_PIECE = 1 << 14


@dataclass(frozen=True)
class BackwardProcess:
    """The posterior as a Markov process backward in time, starting from the filtered moments of the last step.

    Given all of y, x_t = offset[t] + gain[t] x_{t+1} + N(0, cov[t]) for all t but the last.

    Attributes
    ----------
    offset : (batch, time - 1, state)
    gain, cov : (batch|1, time - 1 or fewer, state, state)
        If there are fewer than time - 1, the last one serves all later steps.
    """

    offset: Tensor
    gain: Tensor
    cov: Tensor


@accept_arrays(y=3)
def kalman_smoother(
    y: Tensor,
    *,
    A: Tensor,
    Q: Tensor,
    C: Tensor,
    R: Tensor,
    b: Tensor | None = None,
    B: Tensor | None = None,
    u: Tensor | None = None,
    d: Tensor | None = None,
    m0: Tensor | None = None,
    P0: Tensor | None = None,
    mask: Tensor | None = None,
    implementation: Literal["auto", "adjoint", "scan", "reference"] = "auto",
) -> SmootherResult:
    """Compute the moments of each state given the whole sequence.

    Parameters
    ----------
    y, A, Q, C, R, b, B, u, d, m0, P0, mask
        As for `kalman_filter`, also as arrays of NumPy, and y without a batch axis.
    implementation : {"auto", "adjoint", "scan", "reference"}
        Algorithm of the filter, as for `kalman_filter`. With "scan" the recursion backward in time is a scan too.

    Returns
    -------
    SmootherResult
        Smoothed moments, covariances between successive states, and the result of the filter. They are computed in
        float64 and have the data type of y.

    Raises
    ------
    InputError
        If an argument has a wrong type, shape or value.
    NotPositiveDefiniteError
        If a covariance is not positive definite (a subclass of `InputError`).

    Notes
    -----
    Covariances of a constant model are computed from both ends until they converge. The result then stores only these
    few distinct covariances beside the means (`SmootherResult.distinct_smoothed_cov`).

    References
    ----------
    Särkkä & Svensson, Bayesian Filtering and Smoothing, 2nd ed. (2023), Section 12.2.
    """
    observations = subtract_offset(check_observations(y, mask), d)
    b = add_inputs(y, *y.shape[:2], A=A, b=b, B=B, u=u)
    model = check_model(y, *y.shape[:2], A=A, Q=Q, C=C, R=R, b=b, m0=m0, P0=P0, obs=y.shape[2])
    check_choice("implementation", implementation, tuple(BACKENDS))
    return run_smoother(model, observations, y.dtype, implementation)


def run_smoother(
    model: Model, observations: Observations, dtype: torch.dtype, implementation: str = "auto"
) -> SmootherResult:
    """Smooth observations with a model, both checked before; the result has the data type `dtype`."""
    model, observations = to_float64(model, observations)
    moments = BACKENDS[implementation](model, observations, None)
    parallel = uses_scan(implementation, model, observations)
    if moments.predicted_mean is None or has_derivatives([moments.predicted_mean, moments.filtered_cov]):
        backward = backward_process(model, moments)
        offsets = torch.cat([backward.offset, moments.filtered_mean[:, -1:]], 1).transpose(0, 1)
        mean = AffineScan.apply(offsets, backward.gain.transpose(0, 1), True, parallel).transpose(0, 1)
    else:  # of long sequences, every array of means counts: one becomes the next
        backward = BackwardProcess(moments.predicted_mean[:, :-1], *_backward_gains(model, moments))
        offsets = _overwrite_predicted(moments, backward.gain)
        moments = replace(moments, predicted_mean=None, innovation=None)
        gains = backward.gain.transpose(0, 1)
        mean = affine_scan(offsets, gains, reverse=True, parallel=parallel, overwrite=True).transpose(0, 1)
    last_cov = moments.filtered_cov[:, -1:]
    tail = _steps_until_convergence(backward, last_cov[:, 0], moments.filtered_mean.shape[1], parallel=parallel)
    gains, noises = (_repeat_last(p, tail) for p in (backward.gain, backward.cov))
    chain = torch.cat([noises, last_cov], 1).transpose(0, 1)
    covs = CovarianceRecursion.apply(chain, gains.transpose(0, 1), parallel).transpose(0, 1)
    filtered = FilterResult(moments, model, observations, dtype)
    return SmootherResult(mean, covs, gains, tail, filtered)


def backward_process(model: Model, moments: Moments) -> BackwardProcess:
    """Compute the backward process of the posterior from the filtered moments, all steps at once."""
    gain, cov = _backward_gains(model, moments)
    A, b = from_second(model.A), from_second(model.b)
    mean = moments.filtered_mean[:, :-1].transpose(0, 1)
    if moments.predicted_mean is None:
        predicted = matvec(A.transpose(0, 1), mean) + b.transpose(0, 1)
    else:
        predicted = moments.predicted_mean[:, 1:].transpose(0, 1)
    offset = matvec(gain.transpose(0, 1), predicted).neg_().add_(mean)
    return BackwardProcess(offset.transpose(0, 1), gain, cov)


def _backward_gains(model: Model, moments: Moments) -> tuple[Tensor, Tensor]:
    """Compute `gain` and `cov` of `BackwardProcess`."""
    filtered_cov = between_steps(moments.filtered_cov, moments.filtered_mean.shape[1])
    return smoother_gains(filtered_cov, from_second(model.A), from_second(model.Q))


def _overwrite_predicted(moments: Moments, gain: Tensor) -> Tensor:
    """Replace the predicted means by the offsets of `BackwardProcess`, and the last one by the filtered mean.

    Returns the offsets (time, batch, state), which share the memory of the predicted means.
    """
    assert moments.predicted_mean is not None
    offsets, mean = moments.predicted_mean.transpose(0, 1), moments.filtered_mean.transpose(0, 1)
    gain, last = gain.transpose(0, 1), len(offsets) - 1
    for start in range(0, last, _PIECE):
        stop = min(start + _PIECE, last)
        own = gain[min(start, len(gain) - 1) : stop]  # the last one serves all later steps
        offsets[start:stop] = mean[start:stop] - matvec(own, offsets[start + 1 : stop + 1])
    offsets[last] = mean[last]
    return offsets


def _repeat_last(stack: Tensor, times: int) -> Tensor:
    """A stack (batch|1, entries, …) with its last entry repeated."""
    if times == 1:
        return stack
    return torch.cat([stack[:, :-1], stack[:, -1:].expand(-1, times, -1, -1)], 1)


def _steps_until_convergence(backward: BackwardProcess, cov: Tensor, steps: int, *, parallel: bool) -> int:
    """Number of steps, backward from the last one, until the smoothed covariances converge.

    All of them use the last entry of `backward`. `cov` (batch|1, state, state) is the covariance of the last step.
    """
    most = steps - backward.gain.shape[1]
    if most <= _CHECK_EVERY:
        return most
    done, gain, noise = 0, backward.gain[:, -1:].detach(), backward.cov[:, -1:].detach()
    gain, noise = (p.transpose(0, 1).expand(_CHECK_EVERY, -1, -1, -1) for p in (gain, noise))
    cov = cov.detach()
    while most - done > _CHECK_EVERY:
        before, cov = covariance_recursion(torch.cat([cov[None], noise]), gain, parallel=parallel)[-2:]
        done += _CHECK_EVERY
        if has_converged(before, cov):
            return steps_to_forget(gain[0], done, most) if backward.gain.requires_grad else done
    return most
