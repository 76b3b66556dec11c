"""What the functions of this package give back."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["FilterResult", "ForecastResult", "PriorSample", "SmootherResult", "StepResult"]


@dataclass(frozen=True)
class FilterResult:
    """The filter's view of every step; "predicted" has seen y up to t-1, "filtered" up to and including t.

    Where neither the parameters nor the mask differ between sequences, the covariances and the gain are computed
    once and are views that share memory along the batch: `clone` one before writing into it.

    Attributes
    ----------
    predicted_mean, predicted_cov : (batch, time, state), (batch, time, state, state)
        Moments of the state before step t is observed; at t = 0 these are `m0` and `P0`.
    filtered_mean, filtered_cov : (batch, time, state), (batch, time, state, state)
        Moments of the state after step t is observed.
    log_likelihood : (batch, time)
        log p(y_t | y_<t) of the observed channels in nats, with every constant; 0 where nothing was observed.
    gain : (batch, time, state, obs)
        Kalman gain; the column of a missing channel is 0.
    innovation : (batch, time, obs)
        y_t minus its prediction; 0 in a missing channel.
    innovation_cov : (batch, time, obs, obs)
        Covariance of the prediction of y_t, observation noise included, of missing channels too.
    """

    predicted_mean: Tensor
    predicted_cov: Tensor
    filtered_mean: Tensor
    filtered_cov: Tensor
    log_likelihood: Tensor
    gain: Tensor
    innovation: Tensor
    innovation_cov: Tensor


@dataclass(frozen=True)
class StepResult:
    """One step of the filter: the fields of `FilterResult` without their time axis."""

    predicted_mean: Tensor
    predicted_cov: Tensor
    filtered_mean: Tensor
    filtered_cov: Tensor
    log_likelihood: Tensor
    gain: Tensor
    innovation: Tensor
    innovation_cov: Tensor


@dataclass(frozen=True)
class SmootherResult:
    """Moments of the state given the whole sequence.

    Attributes
    ----------
    smoothed_mean, smoothed_cov : (batch, time, state), (batch, time, state, state)
        Moments of the state at t given all of y.
    lag_one_cov : (batch, time - 1, state, state)
        Covariance of the states at t + 1 (rows) and t (columns) given all of y, at index t.
    filter : FilterResult
        The forward pass it was made from.
    """

    smoothed_mean: Tensor
    smoothed_cov: Tensor
    lag_one_cov: Tensor
    filter: FilterResult


@dataclass(frozen=True)
class ForecastResult:
    """Moments of the coming states and observations; step 0 is the first one after the given state.

    Attributes
    ----------
    state_mean, state_cov : (batch, steps, state), (batch, steps, state, state)
    observation_mean, observation_cov : (batch, steps, obs), (batch, steps, obs, obs)
        Observation noise included.
    """

    state_mean: Tensor
    state_cov: Tensor
    observation_mean: Tensor
    observation_cov: Tensor


@dataclass(frozen=True)
class PriorSample:
    """Trajectories drawn from the model: states (batch, time, state), observations (batch, time, obs)."""

    states: Tensor
    observations: Tensor
