"""Prediction and update of a single step, for custom filter loops."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from kalmanssl.kalman._linalg import symmetrize
from kalmanssl.kalman._model import Model, as_covariance, mask_observations
from kalmanssl.kalman._tensor_checks import check_moments, name_shapes, wrong_value
from kalmanssl.kalman._validation import (
    check_emission,
    check_observation,
    check_state,
    check_state_size,
    check_transition,
)
from kalmanssl.kalman.backends import LOG_2PI, number_observed, predict, update

__all__ = ["UpdateResult", "kalman_predict", "kalman_update"]


@dataclass(frozen=True)
class UpdateResult:
    """Moments of the state given one observation.

    Attributes
    ----------
    mean, cov : (batch, state), (batch, state, state)
        Moments of the state given the observation.
    log_likelihood : (batch,)
        Log-density of the observed channels in nats; 0 where nothing was observed.
    gain : (batch, state, obs)
        Kalman gain; the column of a missing channel is 0.
    innovation : (batch, obs)
        y minus its prediction; 0 in a missing channel.
    innovation_cov : (batch, obs, obs)
        Covariance of the prediction of y, observation noise included, of missing channels too.
    """

    mean: Tensor
    cov: Tensor
    log_likelihood: Tensor
    gain: Tensor
    innovation: Tensor
    innovation_cov: Tensor


def kalman_predict(
    mean: Tensor, cov: Tensor, *, A: Tensor, Q: Tensor, b: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute the moments of the next state, before it is observed.

    Parameters
    ----------
    mean, cov : (batch, state), (batch, state, state)
        Moments of the state.
    A, Q, b
        As for `kalman_filter`, for this one step: a time axis is 1.

    Returns
    -------
    mean, cov : (batch, state), (batch, state, state)

    Raises
    ------
    InputError
        If an argument has a wrong type, shape or value.

    References
    ----------
    Särkkä & Svensson, Bayesian Filtering and Smoothing, 2nd ed. (2023), Section 6.3.

    Examples
    --------
    >>> import torch
    >>> one = torch.ones(1, 1)
    >>> kalman_predict(one, one[None], A=0.5 * one, Q=torch.ones(1))
    (tensor([[0.5000]]), tensor([[[1.2500]]]))
    """
    mean, cov = check_state(mean, cov)
    with name_shapes(mean=mean, cov=cov, A=A, Q=Q, b=b):
        A, b, Q = check_transition(mean, len(mean), 1, A=A, Q=Q, b=b)
    check_state_size(mean, A.shape[-1])
    mean, cov = predict(mean, cov, A[:, 0], b[:, 0], as_covariance(Q)[:, 0])
    check_moments(mean, cov.diagonal(dim1=-2, dim2=-1))
    return mean, cov


def kalman_update(
    y: Tensor, mean: Tensor, cov: Tensor, *, C: Tensor, R: Tensor, mask: Tensor | None = None
) -> UpdateResult:
    """Compute the moments of the state given an observation of it.

    Independent sensors that report at the same time can be processed one after the other, in any order.

    Parameters
    ----------
    y : (batch, obs)
        The observation.
    mean, cov : (batch, state), (batch, state, state)
        Moments of the state before it is observed.
    C, R
        As for `kalman_filter`, for this one step: a time axis is 1.
    mask : (batch, obs) or (batch,), optional
        True where observed. Values of y elsewhere, NaN included, are ignored.

    Returns
    -------
    UpdateResult
        Moments, log-likelihood, gain and innovation.

    Raises
    ------
    InputError
        If an argument has a wrong type, shape or value.
    NotPositiveDefiniteError
        If the innovation covariance is not positive definite (a subclass of `InputError`).

    References
    ----------
    Särkkä & Svensson, Bayesian Filtering and Smoothing, 2nd ed. (2023), Section 6.3.

    Examples
    --------
    With equal variances of state and noise, the mean moves halfway to the observation.

    >>> import torch
    >>> one = torch.ones(1, 1)
    >>> updated = kalman_update(2 * one, 0 * one, one[None], C=one, R=torch.ones(1))
    >>> round(updated.mean.item(), 3), round(updated.cov.item(), 3)
    (1.0, 0.5)
    """
    mean, cov = check_state(mean, cov)
    observations = check_observation(y, mask, batch=len(mean))
    with name_shapes(y=y, mean=mean, cov=cov, C=C, R=R):
        C, R = check_emission(mean, len(mean), 1, C=C, R=R, state=mean.shape[1], obs=y.shape[1])
    if y.dtype != mean.dtype or y.device != mean.device:
        raise wrong_value(
            "y",
            f"expected {mean.dtype} on {mean.device} as mean, got {y.dtype} on {y.device}; convert it with .to(mean)",
        )
    nothing = mean.new_zeros(())
    model = Model(A=nothing, b=nothing, Q=nothing, C=C, R=R, m0=mean, P0=cov)
    visible = mask_observations(model, observations.mask)
    seen = update(mean, cov, observations.y[:, 0], visible.C[:, 0], as_covariance(visible.R)[:, 0])
    filtered_mean, filtered_cov, log_density, gain, innovation, innovation_cov = seen
    check_moments(filtered_mean, log_density, filtered_cov.diagonal(dim1=-2, dim2=-1))
    if observations.mask is not None:
        innovation_cov = symmetrize(C[:, 0] @ cov @ C[:, 0].mT) + as_covariance(R)[:, 0]
    count = number_observed(observations)
    constant = 0.5 * LOG_2PI * (count[:, 0] if isinstance(count, Tensor) else count)
    return UpdateResult(filtered_mean, filtered_cov, log_density - constant, gain, innovation, innovation_cov)
