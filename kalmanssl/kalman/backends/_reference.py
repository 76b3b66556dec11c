"""The Kalman filter in its textbook form; the tests compare the faster implementations with it.

Särkkä & Svensson, Bayesian Filtering and Smoothing (2nd ed., 2023), Section 6.3. The covariance is updated in the form
of Bucy & Joseph (1968), a sum of two positive semi-definite terms. Rounding can make the shorter form (I - K C) P
indefinite, but not this one.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kalmanssl.kalman._linalg import inverse_transpose, matvec_broadcast, safe_cholesky, symmetrize
from kalmanssl.kalman._model import Model, Observations, as_covariance, in_precision, mask_observations
from kalmanssl.kalman._moments import FIELDS, INNOVATION_COV, Moments

__all__ = ["LOG_2PI", "Update", "filter_reference", "number_observed", "predict", "update"]

LOG_2PI = math.log(2 * math.pi)


def predict(mean: Tensor, cov: Tensor, A: Tensor, b: Tensor, Q: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (batch, state) and covariance (batch|1, state, state) of the next state; Q is full."""
    return matvec_broadcast(A, mean) + b, symmetrize(A @ cov @ A.mT) + Q


class Update(NamedTuple):
    """What one observation gives: fields of `Moments` for this step, with log p(y) without its constant."""

    filtered_mean: Tensor
    filtered_cov: Tensor
    log_likelihood: Tensor
    gain: Tensor
    innovation: Tensor
    innovation_cov: Tensor


def update(mean: Tensor, cov: Tensor, y: Tensor, C: Tensor, R: Tensor) -> Update:
    """Condition the state on an observation y (batch, obs) with full R."""
    innovation = y - matvec_broadcast(C, mean)
    cross = cov @ C.mT
    innovation_cov = symmetrize(C @ cross) + R
    factor = safe_cholesky(innovation_cov, INNOVATION_COV)
    whitener = inverse_transpose(factor, _eye(R)).mT
    gain = cross @ whitener.mT @ whitener
    whitened = matvec_broadcast(whitener, innovation)
    log_density = -0.5 * whitened.square().sum(-1) - factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    keep = _eye(cov) - gain @ C
    filtered_cov = symmetrize(keep @ cov @ keep.mT + gain @ R @ gain.mT)
    filtered_mean = mean + matvec_broadcast(gain, innovation)
    return Update(filtered_mean, filtered_cov, log_density, gain, innovation, innovation_cov)


def number_observed(observations: Observations) -> Tensor | float:
    """Number of observed channels at each step, (batch|1, time), or one number for all."""
    if observations.mask is None:
        return float(observations.y.shape[-1])
    return observations.mask.sum(-1).to(observations.y.dtype)


def filter_reference(model: Model, observations: Observations, precision: torch.dtype | None = None) -> Moments:
    """Run the filter step by step; autograd provides the derivatives, also of higher order."""
    if precision is not None:
        model, observations = in_precision(model, observations, precision)
    y = observations.y
    visible = mask_observations(model, observations.mask)
    steps = y.shape[1]
    A, b, Q = (_per_step(p, steps) for p in (model.A, model.b, as_covariance(model.Q)))
    C, R = (_per_step(p, steps) for p in (visible.C, as_covariance(visible.R)))

    mean, cov = model.m0.expand(y.shape[0], -1), model.P0
    rows = []
    for t, seen in enumerate(y.unbind(1)):
        if t > 0:
            mean, cov = predict(mean, cov, A[t], b[t], Q[t])
        predicted = (mean, cov)
        found = update(mean, cov, seen, C[t], R[t])
        mean, cov = found.filtered_mean, found.filtered_cov
        rows.append((*predicted, *found))
    columns = zip(*rows, strict=True)
    fields: dict[str, Any] = {
        name: torch.stack(torch.broadcast_tensors(*c), 1) for name, c in zip(FIELDS, columns, strict=True)
    }
    fields["log_likelihood"] = fields["log_likelihood"] - 0.5 * LOG_2PI * number_observed(observations)
    return Moments(**fields)


def _eye(like: Tensor) -> Tensor:
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)


def _per_step(parameter: Tensor, steps: int) -> tuple[Tensor, ...]:
    return parameter.expand(-1, steps, *parameter.shape[2:]).unbind(1)
