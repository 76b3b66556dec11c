"""Results of the filter, the smoother, the samplers and the forecast."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kalmanssl.kalman._linalg import symmetrize
from kalmanssl.kalman._model import Model, Observations, as_covariance
from kalmanssl.kalman._moments import FIELDS, Moments, complete, step_index
from kalmanssl.kalman._tensor_checks import check_moments
from kalmanssl.utils.summaries import HtmlSummary

__all__ = [
    "FilterResult",
    "ForecastResult",
    "PriorSample",
    "SmootherResult",
    "Status",
    "StepResult",
    "distinct",
    "round_covariance",
]


class FilterResult(HtmlSummary):
    """Result of the filter: "predicted" moments are given y up to step t-1, "filtered" moments given y up to step t.

    Fields other than the filtered moments and the log-likelihood are computed when they are first accessed; they are
    differentiable too. If neither the parameters nor the mask differ between sequences, covariances and gain are
    computed once and share memory along the batch: `clone` a tensor before you write into it.

    Attributes
    ----------
    filtered_mean, filtered_cov : (batch, time, state), (batch, time, state, state)
        Moments of the state after step t is observed.
    log_likelihood : (batch, time)
        log p(y_t | y_<t) of the observed channels in nats, with every constant; 0 where nothing was observed.
    predicted_mean, predicted_cov : (batch, time, state), (batch, time, state, state)
        Moments of the state before step t is observed; at t = 0 these are `m0` and `P0`.
    gain : (batch, time, state, obs)
        Kalman gain; the column of a missing channel is 0.
    innovation : (batch, time, obs)
        y_t minus its prediction; 0 in a missing channel.
    innovation_cov : (batch, time, obs, obs)
        Covariance of the prediction of y_t, observation noise included, of missing channels too.
    mask : (batch|1, time, obs) or None
        True where observed; None if nothing is missing.
    status : Status
        Skipped steps, jitter and smallest variance of each sequence.
    """

    FIELDS = FIELDS

    def __init__(
        self, moments: Moments, model: Model, observations: Observations, dtype: torch.dtype | None = None
    ) -> None:
        self._moments, self._model, self._observations = moments, model, observations
        self._dtype = dtype or observations.y.dtype
        self.mask: Tensor | None = observations.mask
        self.filtered_mean: Tensor = _as_dtype(moments.filtered_mean, self._dtype)
        self.log_likelihood: Tensor = _as_dtype(moments.log_likelihood, self._dtype)
        if not moments.is_finite or self._dtype != moments.filtered_mean.dtype:
            check_moments(self.filtered_mean, self.log_likelihood)
        if moments.smallest_variance is None:  # the compiled filter has checked its covariances
            check_moments(_variances(moments.filtered_cov))

    def __repr__(self) -> str:
        batch, time, state = self.filtered_mean.shape
        return f"FilterResult(batch={batch}, time={time}, state={state}, dtype={self._dtype})"

    def _summary(self) -> list[tuple[str, str]]:
        batch, time, state = self.filtered_mean.shape
        per_step = float(self.log_likelihood.detach().mean()) if self.log_likelihood.numel() else float("nan")
        missing = 0.0 if self.mask is None else 1 - float(self.mask.float().mean())
        return [
            *_sizes(batch, time, state, self._dtype),
            ("observations", f"{self._observations.y.shape[-1]}, {100 * missing:.3g} % missing"),
            ("mean log-likelihood", f"{per_step:.4g} nats per step"),
        ]

    @cached_property
    def filtered_cov(self) -> Tensor:
        """Covariance of the state after step t is observed."""
        cov = round_covariance(self._moments.filtered_cov, self._dtype)
        if cov.dtype != self._moments.filtered_cov.dtype:
            check_moments(_variances(cov))
        return self._every_step(cov)

    @cached_property
    def predicted_mean(self) -> Tensor:
        """Mean of the state before step t is observed."""
        return self._complete("predicted_mean").to(self._dtype)

    @cached_property
    def predicted_cov(self) -> Tensor:
        """Covariance of the state before step t is observed."""
        return self._covariance(self._complete("predicted_cov"))

    @cached_property
    def gain(self) -> Tensor:
        """Kalman gain."""
        return self._every_step(self._complete("gain").to(self._dtype))

    @cached_property
    def innovation(self) -> Tensor:
        """Observation minus its prediction."""
        return self._complete("innovation").to(self._dtype)

    @cached_property
    def innovation_cov(self) -> Tensor:
        """Covariance of the prediction of the observation."""
        if self.mask is None:
            return self._covariance(self._complete("innovation_cov"))
        predicted = self._complete("predicted_cov")
        C, R = (p.to(predicted.dtype) for p in (self._model.C, as_covariance(self._model.R)))
        return self._covariance(symmetrize(C @ predicted @ C.mT) + R)

    @cached_property
    def status(self) -> Status:
        """Skipped steps, jitter and smallest variance of each sequence."""
        batch = len(self._observations.y)
        mask, jitter = self.mask, self._moments.jitter
        zeros = self.filtered_mean.new_zeros(batch)
        skipped = zeros.long() if mask is None else (~mask.any(-1)).sum(1).expand(batch)
        smallest = self._moments.smallest_variance
        if smallest is None:
            smallest = self._moments.filtered_cov.detach().diagonal(dim1=-2, dim2=-1).amin((1, 2))
        return Status(
            steps_skipped=skipped,
            jitter=zeros if jitter is None else jitter.to(self._dtype).expand(batch),
            smallest_variance=smallest.to(self._dtype).expand(batch),
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return all moments, log-likelihoods, gains and innovations by name."""
        return {name: getattr(self, name) for name in self.FIELDS}

    def distinct_filtered_cov(self) -> tuple[Tensor, Tensor]:
        """Return the filtered covariances (distinct, state, state) and the index (batch, time) of each step."""
        batch, steps, _ = self.filtered_mean.shape
        stack = self._moments.filtered_cov
        return distinct(stack, self._dtype, batch, step_index(stack, steps))

    def _complete(self, name: str) -> Tensor:
        return complete(self._moments, name, self._model, self._observations)

    def _covariance(self, stack: Tensor) -> Tensor:
        cov = round_covariance(symmetrize(stack), self._dtype)
        check_moments(_variances(cov))
        return self._every_step(cov)

    def _every_step(self, stack: Tensor) -> Tensor:
        batch, steps, _ = self._observations.y.shape
        if stack.shape[1] < steps:
            stack = stack[:, step_index(stack, steps)]
        return stack.expand(batch, *stack.shape[1:])


def _as_dtype(value: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in another data type; a call of `Tensor.to` would cost a small filter 1 % of its time."""
    return value if value.dtype is dtype else value.to(dtype)


def _variances(cov: Tensor) -> Tensor:
    return cov.diagonal(dim1=-2, dim2=-1)


@dataclass(frozen=True)
class Status:
    """Numerical status of the filter for each sequence; all tensors have the shape (batch,).

    Attributes
    ----------
    steps_skipped
        Number of steps at which no channel was observed.
    jitter
        Largest amount added to the diagonal of an innovation covariance to make it positive definite; 0 if none.
    smallest_variance
        Smallest variance of a filtered state; positive unless the filter has lost precision.
    """

    steps_skipped: Tensor
    jitter: Tensor
    smallest_variance: Tensor


def distinct(stack: Tensor, dtype: torch.dtype, batch: int, index: Tensor) -> tuple[Tensor, Tensor]:
    """The covariances of a stack (batch|1, entries, …) in one axis, and the position of each step (batch, steps) in it.

    `index` (steps,) is the entry of each step.
    """
    covs = round_covariance(symmetrize(stack), dtype)
    first = torch.arange(len(covs), device=covs.device) * covs.shape[1]
    return covs.flatten(0, 1), (first[:, None] + index).expand(batch, len(index))


def round_covariance(cov: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert covariances to a less precise data type so that they stay positive definite.

    Rounding changes an entry by at most u sqrt(P_ii P_jj), with u the unit roundoff. To raise the n variances by the
    factor 1 + n u is enough to compensate for it.
    """
    if cov.dtype == dtype or torch.finfo(dtype).bits >= torch.finfo(cov.dtype).bits:
        return cov.to(dtype)
    share = cov.shape[-1] * 0.5 * torch.finfo(dtype).eps
    variances = torch.diag_embed(cov.diagonal(dim1=-2, dim2=-1))
    return (cov + share * variances).to(dtype)


@dataclass(frozen=True)
class StepResult:
    """Result of one step of the filter: the fields of `FilterResult` without their time axis."""

    predicted_mean: Tensor
    predicted_cov: Tensor
    filtered_mean: Tensor
    filtered_cov: Tensor
    log_likelihood: Tensor
    gain: Tensor
    innovation: Tensor
    innovation_cov: Tensor


class SmootherResult(HtmlSummary):
    """Result of the smoother: moments of the state given the whole sequence.

    Covariances are expanded to the shapes below when they are first accessed; they are differentiable. If neither the
    parameters nor the mask differ between sequences, they share memory along the batch.

    Attributes
    ----------
    smoothed_mean, smoothed_cov : (batch, time, state), (batch, time, state, state)
        Moments of the state at t given all of y.
    lag_one_cov : (batch, time - 1, state, state)
        Covariance of the states at t + 1 (rows) and t (columns) given all of y, at index t.
    filter : FilterResult
        Result of the forward pass.
    """

    FIELDS = ("smoothed_mean", "smoothed_cov", "lag_one_cov")

    def __init__(self, mean: Tensor, covs: Tensor, gains: Tensor, tail: int, filtered: FilterResult) -> None:
        # The covariances (batch|1, entries, state, state) are in order of time; each follows from the next one by its
        # gain. If there are fewer entries than steps, the first of the last `tail` + 1 entries serves all steps that
        # have no entry of their own.
        self._covs, self._gains = covs, gains
        steps, entries = mean.shape[1], covs.shape[1]
        step = torch.arange(steps, device=covs.device)
        converged = max(entries - 1 - tail, 0)
        self._index = torch.where(step < converged, step, (step - (steps - entries)).clamp_min(converged))
        self._dtype = filtered.filtered_mean.dtype
        self.smoothed_mean: Tensor = mean.to(self._dtype)
        self.filter = filtered
        check_moments(self.smoothed_mean, _variances(covs))

    def __repr__(self) -> str:
        batch, time, state = self.smoothed_mean.shape
        return f"SmootherResult(batch={batch}, time={time}, state={state}, dtype={self._dtype})"

    def _summary(self) -> list[tuple[str, str]]:
        batch, time, state = self.smoothed_mean.shape
        return _sizes(batch, time, state, self._dtype)

    @cached_property
    def smoothed_cov(self) -> Tensor:
        """Covariance of the state at each step given all of y."""
        cov = round_covariance(self._covs, self._dtype)
        check_moments(_variances(cov))
        return self._every_step(cov, self._index)

    @cached_property
    def lag_one_cov(self) -> Tensor:
        """Covariance of the states at t + 1 (rows) and t (columns) given all of y."""
        lagged = self._covs[:, 1:] @ self._gains.mT
        return self._every_step(lagged.to(self._dtype), self._index[:-1])

    def tensors(self) -> dict[str, Tensor]:
        """Return all moments by name."""
        return {name: getattr(self, name) for name in self.FIELDS}

    def distinct_smoothed_cov(self) -> tuple[Tensor, Tensor]:
        """Return the smoothed covariances (distinct, state, state) and the index (batch, time) of each step."""
        return distinct(self._covs, self._dtype, len(self.smoothed_mean), self._index)

    def weighted_cov_sum(self, weight: Tensor, *, lag_one: bool = False) -> Tensor:
        """Sum of the smoothed covariances over sequences and steps, each distinct one multiplied only once.

        Parameters
        ----------
        weight : (batch, time, k)
            `k` sets of weights; with `lag_one` (batch, time - 1, k).
        lag_one : bool
            Whether to sum `lag_one_cov` in place of `smoothed_cov`.

        Returns
        -------
        (k, state, state)
            In the precision of the computation, usually float64.
        """
        covs, index = self._covs, self._index
        if lag_one:
            covs, index = covs[:, 1:] @ self._gains.mT, index[:-1]
        weight = weight.to(covs.dtype)
        if len(covs) == 1:
            weight = weight.sum(0, keepdim=True)
        by_entry = weight.new_zeros(len(weight), covs.shape[1], weight.shape[-1]).index_add(1, index, weight)
        return (by_entry.flatten(0, 1).mT @ covs.flatten(0, 1).flatten(1)).unflatten(1, covs.shape[-2:])

    def _every_step(self, stack: Tensor, index: Tensor) -> Tensor:
        stack = stack if stack.shape[1] == len(index) else stack[:, index]
        return stack.expand(len(self.smoothed_mean), -1, -1, -1)


@dataclass(frozen=True)
class ForecastResult:
    """Moments of future states and observations; index 0 is the first step after the given state.

    Attributes
    ----------
    state_mean, state_cov : (batch, steps, state), (batch, steps, state, state)
        Moments of the states.
    observation_mean, observation_cov : (batch, steps, obs), (batch, steps, obs, obs)
        Moments of the observations, observation noise included.
    """

    state_mean: Tensor
    state_cov: Tensor
    observation_mean: Tensor
    observation_cov: Tensor


@dataclass(frozen=True)
class PriorSample:
    """Samples from the model.

    Attributes
    ----------
    states : (batch, time, state)
    observations : (batch, time, obs)
    """

    states: Tensor
    observations: Tensor


def _sizes(batch: int, time: int, state: int, dtype: torch.dtype) -> list[tuple[str, str]]:
    """Return the sizes of a result for its summary."""
    return [("sequences", str(batch)), ("steps", str(time)), ("state dimensions", str(state)), ("dtype", str(dtype))]
