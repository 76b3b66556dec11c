"""The smoother: what the whole sequence says about each state.

Rauch, Tung & Striebel (1965); Särkkä & Svensson, Bayesian Filtering and Smoothing (2nd ed., 2023), Section 12.2, with
the covariances as sums of positive semi-definite terms (the analogue of Joseph's form).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kalmanssl.kalman._linalg import matvec
from kalmanssl.kalman._model import Model, Observations, to_float64
from kalmanssl.kalman._moments import Moments, between_steps, from_second
from kalmanssl.kalman._results import FilterResult, SmootherResult
from kalmanssl.kalman._validation import check_model, check_observations
from kalmanssl.kalman.backends import (
    AffineScan,
    CovarianceRecursion,
    covariance_recursion,
    filter_auto,
    has_converged,
    smoother_gains,
    steps_to_forget,
)

__all__ = ["Reverse", "kalman_smoother", "reverse_model", "run_smoother"]

# How often to look whether smoothed covariances still change.
_LOOK_EVERY = 32


@dataclass(frozen=True)
class Reverse:
    """The posterior as a process that runs backward in time, from the filtered moments of the last step.

    Given all of y, x_t = offset[t] + gain[t] x_{t+1} + N(0, cov[t]) for all t but the last.

    offset : (batch, time - 1, state)
    gain, cov : (batch|1, time - 1 or fewer, state, state), the last of which stands for all later steps
    """

    offset: Tensor
    gain: Tensor
    cov: Tensor


def kalman_smoother(
    y: Tensor,
    *,
    A: Tensor,
    Q: Tensor,
    C: Tensor,
    R: Tensor,
    b: Tensor | None = None,
    m0: Tensor | None = None,
    P0: Tensor | None = None,
    mask: Tensor | None = None,
) -> SmootherResult:
    """Moments of every state given the whole sequence.

    Parameters
    ----------
    y, A, Q, C, R, b, m0, P0, mask
        As for `kalman_filter`.

    Returns
    -------
    SmootherResult
        Smoothed moments, covariances between successive states, and the filter's result. They are computed in float64
        and given in the data type of y.

    Raises
    ------
    ValueError
        If an argument has a wrong type, shape or value.
    NotPositiveDefiniteError
        If a covariance is not positive definite (a subclass of ValueError).

    Notes
    -----
    Covariances of a constant model are computed until they settle, from either end. What is kept of a long sequence is
    then its means and those few covariances (`SmootherResult.distinct_smoothed_cov`).

    References
    ----------
    Särkkä & Svensson, Bayesian Filtering and Smoothing, 2nd ed. (2023), Section 12.2.
    """
    observations = check_observations(y, mask)
    model = check_model(y, *y.shape[:2], A=A, Q=Q, C=C, R=R, b=b, m0=m0, P0=P0, obs=y.shape[2])
    return run_smoother(model, observations, y.dtype)


def run_smoother(model: Model, observations: Observations, dtype: torch.dtype) -> SmootherResult:
    """Smooth observations with a model, both checked before; the result has the data type `dtype`."""
    model, observations = to_float64(model, observations)
    moments = filter_auto(model, observations)
    reverse = reverse_model(model, moments)

    offsets = torch.cat([reverse.offset, moments.filtered_mean[:, -1:]], 1).transpose(0, 1)
    mean = AffineScan.apply(offsets, reverse.gain.transpose(0, 1), True).transpose(0, 1)
    last_cov = moments.filtered_cov[:, -1:]
    same = _same_at_the_end(reverse, last_cov[:, 0], moments.filtered_mean.shape[1])
    gains, spreads = (_repeat_last(p, same) for p in (reverse.gain, reverse.cov))
    chain = torch.cat([spreads, last_cov], 1).transpose(0, 1)
    covs = CovarianceRecursion.apply(chain, gains.transpose(0, 1)).transpose(0, 1)
    filtered = FilterResult(moments, model, observations, dtype)
    return SmootherResult(mean, covs, gains, same, filtered)


def reverse_model(model: Model, moments: Moments) -> Reverse:
    """Turn the filter's moments into the backward process of the posterior; all steps at once."""
    filtered_cov = between_steps(moments.filtered_cov, moments.filtered_mean.shape[1])
    A, b, Q = (from_second(p) for p in (model.A, model.b, model.Q))
    gain, cov = smoother_gains(filtered_cov, A, Q)
    mean = moments.filtered_mean[:, :-1].transpose(0, 1)
    predicted = matvec(A.transpose(0, 1), mean) + b.transpose(0, 1)
    offset = mean - matvec(gain.transpose(0, 1), predicted)
    return Reverse(offset.transpose(0, 1), gain, cov)


def _repeat_last(stack: Tensor, times: int) -> Tensor:
    """A stack (batch|1, entries, …) with its last entry as often as said."""
    if times == 1:
        return stack
    return torch.cat([stack[:, :-1], stack[:, -1:].expand(-1, times, -1, -1)], 1)


def _same_at_the_end(reverse: Reverse, cov: Tensor, steps: int) -> int:
    """How often the last entry of `reverse` is to be used, from the last step backward, until nothing changes.

    `cov` (batch|1, state, state) is the covariance of the last step.
    """
    most = steps - reverse.gain.shape[1]
    if most <= _LOOK_EVERY:
        return most
    done, gain, spread = 0, reverse.gain[:, -1:].detach(), reverse.cov[:, -1:].detach()
    gain, spread = (p.transpose(0, 1).expand(_LOOK_EVERY, -1, -1, -1) for p in (gain, spread))
    cov = cov.detach()
    while most - done > _LOOK_EVERY:
        before, cov = covariance_recursion(torch.cat([cov[None], spread]), gain)[-2:]
        done += _LOOK_EVERY
        if has_converged(before, cov):
            return steps_to_forget(gain[0], done, most) if reverse.gain.requires_grad else done
    return most
