"""Prediction and update of a single step, for custom filter loops."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from torch import Tensor

from kalmanssl.kalman._array_interface import accept_arrays
from kalmanssl.kalman._inputs import add_inputs, subtract_offset
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
    filtered_mean, filtered_cov : (batch, state), (batch, state, state)
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

    filtered_mean: Tensor
    filtered_cov: Tensor
    log_likelihood: Tensor
    gain: Tensor
    innovation: Tensor
    innovation_cov: Tensor

    @property
    def mean(self) -> Tensor:
        """Former name of `filtered_mean`, until 0.2."""
        return self._renamed("mean")

    @property
    def cov(self) -> Tensor:
        """Former name of `filtered_cov`, until 0.2."""
        return self._renamed("cov")

    def _renamed(self, name: str) -> Tensor:
        message = f"UpdateResult.{name} is now called filtered_{name} and will be removed in 0.2"
        warnings.warn(message, FutureWarning, stacklevel=3)
        return getattr(self, f"filtered_{name}")


@accept_arrays(mean=2, cov=3)
def kalman_predict(
    mean: Tensor,
    cov: Tensor,
    *,
    A: Tensor,
    Q: Tensor,
    b: Tensor | None = None,
    B: Tensor | None = None,
    u: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the moments of the next state, before it is observed.

    Parameters
    ----------
    mean, cov : (batch, state), (batch, state, state)
        Moments of the state. Arrays of NumPy, and moments without a batch axis, are accepted; the results have the
        same form.
    A, Q, b, B, u
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
    b = add_inputs(mean, len(mean), 1, A=A, b=b, B=B, u=u)
    with name_shapes(mean=mean, cov=cov, A=A, Q=Q, b=b):
        A, b, Q = check_transition(mean, len(mean), 1, A=A, Q=Q, b=b)
    check_state_size(mean, A.shape[-1])
    mean, cov = predict(mean, cov, A[:, 0], b[:, 0], as_covariance(Q)[:, 0])
    check_moments(mean, cov.diagonal(dim1=-2, dim2=-1))
    return mean, cov


@accept_arrays(y=2, mean=2, cov=3)
def kalman_update(
    y: Tensor,
    mean: Tensor,
    cov: Tensor,
    *,
    C: Tensor,
    R: Tensor,
    d: Tensor | None = None,
    mask: Tensor | None = None,
) -> UpdateResult:
    """Compute the moments of the state given an observation of it.

    Independent sensors that report at the same time can be processed one after the other, in any order.

    Parameters
    ----------
    y : (batch, obs)
        The observation. Arrays of NumPy, and y, mean and cov without a batch axis, are accepted; the fields of the
        result have the same form.
    mean, cov : (batch, state), (batch, state, state)
        Moments of the state before it is observed.
    C, R, d
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
    >>> round(updated.filtered_mean.item(), 3), round(updated.filtered_cov.item(), 3)
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
    observations = subtract_offset(observations, d)
    nothing = mean.new_zeros(())
    model = Model(A=nothing, b=nothing, Q=nothing, C=C, R=R, m0=mean, P0=cov)
    visible = mask_observations(model, observations.mask)
    seen = update(mean, cov, observations.y[:, 0], visible.C[:, 0], as_covariance(visible.R)[:, 0])
    check_moments(seen.filtered_mean, seen.log_likelihood, seen.filtered_cov.diagonal(dim1=-2, dim2=-1))
    innovation_cov = seen.innovation_cov
    if observations.mask is not None:
        innovation_cov = symmetrize(C[:, 0] @ cov @ C[:, 0].mT) + as_covariance(R)[:, 0]
    count = number_observed(observations)
    constant = 0.5 * LOG_2PI * (count[:, 0] if isinstance(count, Tensor) else count)
    found = seen._replace(log_likelihood=seen.log_likelihood - constant, innovation_cov=innovation_cov)
    return UpdateResult(**found._asdict())
