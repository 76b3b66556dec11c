"""The moments that an implementation of the filter returns, and those that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kalmanssl.kalman._linalg import inverse_transpose, matvec, safe_cholesky, symmetrize
from kalmanssl.kalman._model import Model, Observations, as_covariance, mask_observations

__all__ = ["FIELDS", "INNOVATION_COV", "Moments", "between_steps", "complete", "from_second", "step_index"]

INNOVATION_COV = "innovation covariance C P C' + R"
# The results for every step, in the order in which the filter computes them.
FIELDS = (
    "predicted_mean",
    "predicted_cov",
    "filtered_mean",
    "filtered_cov",
    "log_likelihood",
    "gain",
    "innovation",
    "innovation_cov",
)


@dataclass(frozen=True)
class Moments:
    """Moments of the state given the observed channels; `complete` computes those that are None from the others.

    Filtered covariances are exactly symmetric. Covariances and gain may have a batch axis of 1, and a higher precision
    than the means. They may have fewer entries than there are steps; the last entry then serves all later steps. In
    `innovation_cov`, missing channels have the rows and columns of the identity. `jitter` (batch|1,) is the largest
    amount that was added to an innovation covariance, `smallest_variance` (batch|1,) the smallest filtered variance.
    `is_finite` is True if filtered means and log-likelihoods are known to be finite.
    """

    filtered_mean: Tensor
    filtered_cov: Tensor
    log_likelihood: Tensor
    predicted_mean: Tensor | None = None
    predicted_cov: Tensor | None = None
    gain: Tensor | None = None
    innovation: Tensor | None = None
    innovation_cov: Tensor | None = None
    jitter: Tensor | None = None
    smallest_variance: Tensor | None = None
    is_finite: bool = False


def step_index(stack: Tensor, steps: int) -> Tensor:
    """Index of the entry of a stack (batch|1, steps or fewer, …) for each step."""
    return torch.arange(steps, device=stack.device).clamp_max(stack.shape[1] - 1)


def from_second(parameter: Tensor) -> Tensor:
    """The part of a parameter (batch|1, time|1, …) that leads into steps 1 and later."""
    return parameter if parameter.shape[1] == 1 else parameter[:, 1:]


def between_steps(stack: Tensor, steps: int) -> Tensor:
    """The entries of a stack for all steps but the last, from which steps 1 and later start."""
    return stack[:, : steps - 1] if stack.shape[1] == steps else stack


def complete(moments: Moments, name: str, model: Model, observations: Observations) -> Tensor:
    """A field of the moments; it is computed from the other fields if it is None."""
    given = getattr(moments, name)
    if given is not None:
        return given
    steps = moments.filtered_mean.shape[1]
    if name == "predicted_mean":
        m0 = model.m0.expand(len(moments.filtered_mean), -1)
        A, b = (from_second(p).to(moments.filtered_mean.dtype) for p in (model.A, model.b))
        later = matvec(A, moments.filtered_mean[:, :-1]) + b
        return torch.cat([m0.to(later.dtype)[:, None], later], 1)
    cov = moments.filtered_cov
    if name == "predicted_cov":
        before = between_steps(cov, steps)
        A, Q = (from_second(p).to(cov.dtype) for p in (model.A, as_covariance(model.Q)))
        later = A @ before @ A.mT + Q
        P0 = model.P0[:, None].to(cov.dtype)
        batch = max(len(P0), len(later))
        return symmetrize(torch.cat([P0.expand(batch, -1, -1, -1), later.expand(batch, -1, -1, -1)], 1))
    visible = mask_observations(model, observations.mask)
    C, R = visible.C, as_covariance(visible.R)
    if name == "innovation":
        predicted = complete(moments, "predicted_mean", model, observations)
        return observations.y - matvec(C.to(predicted.dtype), predicted).to(observations.y.dtype)
    predicted = complete(moments, "predicted_cov", model, observations)
    C, R = (p.to(predicted.dtype) for p in (C, R))
    if name == "innovation_cov":
        return symmetrize(C @ predicted @ C.mT) + R
    if name == "gain":
        innovation_cov = complete(replace(moments, predicted_cov=predicted), "innovation_cov", model, observations)
        eye = torch.eye(C.shape[-2], dtype=C.dtype, device=C.device)
        V = inverse_transpose(safe_cholesky(innovation_cov, INNOVATION_COV), eye)
        return predicted @ C.mT @ V @ V.mT
    raise AttributeError(name)
