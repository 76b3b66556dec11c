"""The smoother: what the whole sequence says about each state.

Rauch, Tung & Striebel (1965); Särkkä & Svensson, Bayesian Filtering and Smoothing (2nd ed., 2023), Section 12.2, with
the covariances as sums of positive semi-definite terms (the analogue of Joseph's form).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kalmanssl.kalman.adjoint import filter_adjoint
from kalmanssl.kalman.arguments import (
    Model,
    check_model,
    check_observations,
    full_noise,
    in_double,
)
from kalmanssl.kalman.factorize import inverse_transpose, safe_cholesky, symmetrise
from kalmanssl.kalman.moments import Moments
from kalmanssl.kalman.results import FilterResult, SmootherResult, round_covariance

__all__ = ["Reverse", "kalman_smoother", "reverse_model"]


@dataclass(frozen=True)
class Reverse:
    """The posterior as a process that runs backwards in time, from the filtered moments of the last step.

    Given all of y, x_t = offset[t] + gain[t] x_{t+1} + N(0, cov[t]) for all t but the last.

    offset : (batch, time - 1, state);   gain, cov, keep : (batch|1, time - 1, state, state)
    keep = I - gain A, which makes cov = keep Pf keep' + gain Q gain'
    """

    offset: Tensor
    gain: Tensor
    cov: Tensor
    keep: Tensor


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

    References
    ----------
    Särkkä & Svensson, Bayesian Filtering and Smoothing, 2nd ed. (2023), Section 12.2.
    """
    observations = check_observations(y, mask)
    model = check_model(y, *y.shape[:2], A=A, Q=Q, C=C, R=R, b=b, m0=m0, P0=P0, obs=y.shape[2])
    model, observations = in_double(model, observations)
    moments = filter_adjoint(model, observations)
    reverse = reverse_model(model, moments)

    mean, cov = moments.filtered_mean[:, -1], moments.filtered_cov[:, -1]
    means, covs = [mean], [cov]
    steps = zip(*(p.unbind(1) for p in (reverse.offset, reverse.gain, reverse.cov)), strict=True)
    for offset, gain, spread in reversed(list(steps)):
        mean = offset + (gain @ mean[..., None])[..., 0]
        cov = spread + gain @ cov @ gain.mT
        means.append(mean)
        covs.append(cov)
    smoothed_cov = symmetrise(torch.stack(covs[::-1], 1))
    lag_one = smoothed_cov[:, 1:] @ reverse.gain.mT
    return SmootherResult(
        smoothed_mean=torch.stack(means[::-1], 1).to(y.dtype),
        smoothed_cov=round_covariance(smoothed_cov, y.dtype).expand(y.shape[0], -1, -1, -1),
        lag_one_cov=lag_one.to(y.dtype).expand(y.shape[0], -1, -1, -1),
        filter=FilterResult(moments, model, observations, y.dtype),
    )


def reverse_model(model: Model, moments: Moments) -> Reverse:
    """Turn the filter's moments into the backward process of the posterior; all steps at once."""
    A, Q = (p if p.shape[1] == 1 else p[:, 1:] for p in (model.A, full_noise(model.Q)))
    assert moments.predicted_mean is not None and moments.predicted_cov is not None
    filtered_cov, predicted_cov = moments.filtered_cov[:, :-1], moments.predicted_cov[:, 1:]
    eye = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    V = inverse_transpose(safe_cholesky(predicted_cov, "predicted covariance A P A' + Q"), eye)
    gain = filtered_cov @ A.mT @ V @ V.mT
    keep = eye - gain @ A
    backwards = (gain @ moments.predicted_mean[:, 1:, :, None])[..., 0]
    return Reverse(
        offset=moments.filtered_mean[:, :-1] - backwards,
        gain=gain,
        cov=symmetrise(keep @ filtered_cov @ keep.mT + gain @ Q @ gain.mT),
        keep=keep,
    )
