"""Expectation-maximization for linear-Gaussian state-space models.

The E-step is one pass of the smoother. The M-step is exact: regressions of the states on the states before them, and of
the observations on the states, with expected second moments in place of observed ones. Shumway & Stoffer, J. Time
Series Anal. 3 (1982) 253-264; Ghahramani & Hinton, Technical Report CRG-TR-96-2, University of Toronto (1996).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from kalmanssl.errors import NotFiniteError
from kalmanssl.kalman._fit_result import FitStatus
from kalmanssl.kalman._linalg import NotPositiveDefiniteError, safe_cholesky, symmetrize
from kalmanssl.kalman._model import Model, Observations
from kalmanssl.kalman._results import SmootherResult
from kalmanssl.kalman._smoothing import run_smoother
from kalmanssl.kalman._tensor_checks import wrong_value

__all__ = ["run_em"]


def run_em(
    model: Model,
    observations: Observations,
    fixed: Collection[str],
    diagonal_P0: bool,
    max_iterations: int,
    tolerance: float,
    on_iteration_end: Callable[[int, float], None] | None,
) -> tuple[Model, list[float], FitStatus]:
    """Fit a constant model; return it with the log-likelihood of the start and of every iteration, and the status.

    Iterations stop when the log-likelihood rises by less than `tolerance` nats per observed value.
    """
    for name, parameter in model.tensors().items():
        if any(size != 1 for size in parameter.shape[: 1 if name in ("m0", "P0") else 2]):
            raise wrong_value(name, "varies over sequences or time; expectation-maximization needs constant parameters")
    weights = _Weights.of(observations)
    history: list[float] = []
    previous = model
    for iteration in range(max_iterations + 1):
        try:
            smoothed = run_smoother(model, observations, observations.y.dtype)
            value = float(smoothed.filter.log_likelihood.sum())
        except (NotPositiveDefiniteError, NotFiniteError):
            value = math.nan
        if not math.isfinite(value):
            if not history:
                raise NotPositiveDefiniteError(
                    "the log-likelihood of the starting parameters is not finite; start from others"
                )
            return previous, history, "failed"
        history.append(value)
        if on_iteration_end is not None:
            on_iteration_end(iteration, value)
        if iteration > 0 and value - history[-2] < tolerance * weights.count:
            return model, history, "converged"
        if iteration < max_iterations:
            previous, model = model, _maximize(model, observations, smoothed, weights, fixed, diagonal_P0)
    return model, history, "max_iterations"


@dataclass(frozen=True)
class _Weights:
    """Which steps count in the M-step.

    Attributes
    ----------
    observed : (batch, time, obs)
        1 where a channel is observed.
    transition : (batch, time - 1)
        1 for each transition up to the last observation of the sequence. Later states are known from the model alone;
        to leave them out is exact, and faster for sequences that are padded at their end.
    sequence : (batch,)
        1 for each sequence with an observation.
    count : int
        Number of observed values.
    """

    observed: Tensor
    transition: Tensor
    sequence: Tensor
    count: int

    @classmethod
    def of(cls, observations: Observations) -> _Weights:
        y, mask = observations.y, observations.mask
        observed = torch.ones_like(y) if mask is None else mask.to(y.dtype).expand_as(y)
        needed = observed.amax(-1).flip(1).cummax(1).values.flip(1)
        return cls(observed, needed[:, 1:], needed[:, 0], int(observed.sum()))


def _maximize(
    model: Model,
    observations: Observations,
    smoothed: SmootherResult,
    weights: _Weights,
    fixed: Collection[str],
    diagonal_P0: bool,
) -> Model:
    """The M-step: parameters that maximize the expected log-density of states and observations."""
    changes = _maximize_dynamics(model, smoothed, weights.transition, fixed)
    if not {"C", "R"} <= set(fixed):
        emission = _maximize_diagonal_emission if model.R.ndim == 3 else _maximize_full_emission
        changes |= emission(model, observations, smoothed, weights.observed, fixed)
    changes |= _maximize_first_state(model, smoothed, weights.sequence, fixed, diagonal_P0)
    return model.replace(**{name: value for name, value in changes.items() if name not in fixed})


def _maximize_dynamics(
    model: Model, smoothed: SmootherResult, weight: Tensor, fixed: Collection[str]
) -> dict[str, Tensor]:
    """A, b and Q, from the regression of each state on the state before it."""
    count = weight.sum()
    if {"A", "b", "Q"} <= set(fixed) or count == 0:
        return {}
    A, b = model.A[0, 0], model.b[0, 0]
    before, after, w = smoothed.smoothed_mean[:, :-1], smoothed.smoothed_mean[:, 1:], weight[..., None]
    none = torch.zeros_like(w[:, :1])
    cov_before = smoothed.weighted_cov_sum(torch.cat([w, none], 1))[0]
    cov_after = smoothed.weighted_cov_sum(torch.cat([none, w], 1))[0]
    cov_lag = smoothed.weighted_cov_sum(w, lag_one=True)[0]
    if "A" not in fixed:
        # With b learned, A comes from deviations from the means; with b fixed, from the states themselves.
        center_before, center_after = (
            ((w * x).sum((0, 1)) / count for x in (before, after)) if "b" not in fixed else (torch.zeros_like(b), b)
        )
        left, right = after - center_after, before - center_before
        A = _regress(_moment(left, right, weight) + cov_lag, _moment(right, right, weight) + cov_before, "A")
    if "b" not in fixed:
        b = (w * (after - before @ A.mT)).sum((0, 1)) / count
    residual = after - before @ A.mT - b
    cross = A @ cov_lag.mT
    Q = _moment(residual, residual, weight) + cov_after - cross - cross.mT + A @ cov_before @ A.mT
    Q = _as_given(symmetrize(Q) / count, model.Q)
    return {"A": A[None, None], "b": b[None, None], "Q": Q}


def _maximize_diagonal_emission(
    model: Model, observations: Observations, smoothed: SmootherResult, observed: Tensor, fixed: Collection[str]
) -> dict[str, Tensor]:
    """C and a diagonal R, channel by channel, each from the steps at which it is observed."""
    C, R = model.C[0, 0], model.R[0, 0]
    y, mean = observations.y, smoothed.smoothed_mean
    everywhere_the_same = bool((observed == observed[..., :1]).all())
    groups = observed[..., :1] if everywhere_the_same else observed
    cov = smoothed.weighted_cov_sum(groups)
    count = groups.sum((0, 1))
    if "C" not in fixed:
        moments = cov + torch.stack([_moment(mean, mean, w) for w in groups.unbind(-1)])
        cross = (observed * y).flatten(0, 1).mT @ mean.flatten(0, 1)
        if everywhere_the_same:
            C = _regress(cross, moments[0], "C") if count > 0 else C
        else:
            C = torch.cat(
                [
                    _regress(cross[i : i + 1], moments[i], "C") if count[i] > 0 else C[i : i + 1]
                    for i in range(len(count))
                ]
            )
    residual = y - mean @ C.mT
    square = (observed * residual.square()).sum((0, 1)) + (C[:, None] @ cov @ C[..., None])[:, 0, 0]
    R = torch.where(count > 0, square / count.clamp_min(1), R)
    return {"C": C[None, None], "R": R[None, None]}


def _maximize_full_emission(
    model: Model, observations: Observations, smoothed: SmootherResult, observed: Tensor, fixed: Collection[str]
) -> dict[str, Tensor]:
    """C and a full R; the missing channels of partly observed steps are replaced by their conditional moments."""
    C, R = model.C[0, 0], model.R[0, 0]
    weight = observed.amax(-1)
    count = weight.sum()
    if count == 0:
        return {}
    mean, y = smoothed.smoothed_mean, observations.y
    cov = smoothed.weighted_cov_sum(weight[..., None])[0]
    partial = (weight > 0) & (observed.amin(-1) == 0)
    fill = _residual_gain(R, observed[partial])
    cov_partial = smoothed.smoothed_cov[partial]
    slope, expected = C - fill @ C, mean[partial] @ C.mT
    # Given the state x, y at a partly observed step is slope (x - mean) + filled + N(0, R - fill R).
    filled = expected + (fill @ (observed[partial] * (y[partial] - expected))[..., None])[..., 0]
    y = y.index_put((partial,), filled)
    if "C" not in fixed:
        cross = _moment(y, mean, weight) + (slope @ cov_partial).sum(0)
        C = _regress(cross, _moment(mean, mean, weight) + cov, "C")
    residual, error = y - mean @ C.mT, slope - C
    total = _moment(residual, residual, weight) + C @ cov @ C.mT
    total = total + (error @ cov_partial @ error.mT - C @ cov_partial @ C.mT + R - fill @ R).sum(0)
    return {"C": C[None, None], "R": (symmetrize(total) / count)[None, None]}


def _residual_gain(R: Tensor, observed: Tensor) -> Tensor:
    """Matrices (steps, obs, obs) from the observation noise of the observed channels to its mean in all channels."""
    patterns, index = observed.unique(dim=0, return_inverse=True)
    eye = torch.eye(len(R), dtype=R.dtype, device=R.device)
    inside = torch.where(patterns[..., None] * patterns[..., None, :] > 0, R, eye)
    rows = patterns[..., None]
    gain = (rows * torch.cholesky_solve(rows * R, safe_cholesky(inside, "R"))).mT
    return gain[index]


def _maximize_first_state(
    model: Model, smoothed: SmootherResult, weight: Tensor, fixed: Collection[str], diagonal: bool
) -> dict[str, Tensor]:
    """m0 and P0, from the smoothed first states of all sequences."""
    count = weight.sum()
    if count == 0 or {"m0", "P0"} <= set(fixed):
        return {}
    first = smoothed.smoothed_mean[:, 0]
    m0 = model.m0[0] if "m0" in fixed else (weight[:, None] * first).sum(0) / count
    deviation = first - m0
    steps = torch.zeros_like(smoothed.smoothed_mean[..., :1])
    steps[:, 0, 0] = weight
    P0 = symmetrize((weight[:, None] * deviation).mT @ deviation + smoothed.weighted_cov_sum(steps)[0]) / count
    return {"m0": m0[None], "P0": (torch.diag(P0.diagonal()) if diagonal else P0)[None]}


def _moment(left: Tensor, right: Tensor, weight: Tensor) -> Tensor:
    """Weighted sum of outer products of vectors (batch, time, n) and (batch, time, m)."""
    return (weight[..., None] * left).flatten(0, 1).mT @ right.flatten(0, 1)


def _regress(cross: Tensor, moment: Tensor, name: str) -> Tensor:
    """Coefficients of a linear regression from second moments; `name` is what they estimate."""
    return torch.cholesky_solve(cross.mT, safe_cholesky(moment, f"second moment of the states for {name}")).mT


def _as_given(cov: Tensor, like: Tensor) -> Tensor:
    """A covariance in the form of `like`, diagonal or full, with batch and time axes."""
    return (cov.diagonal() if like.ndim == 3 else cov)[None, None]
