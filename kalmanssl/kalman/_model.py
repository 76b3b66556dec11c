"""Parameters and observations in the form that all backends use, with every axis written out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kalmanssl.utils.precision import has_float64

__all__ = ["Model", "Observations", "as_covariance", "in_precision", "mask_observations", "to_float64"]


@dataclass(frozen=True)
class Model:
    """Parameters of a linear-Gaussian state-space model; `|1` marks an axis of size 1 where nothing varies along it.

    Attributes
    ----------
    A : (batch|1, time|1, state, state)
    b : (batch|1, time|1, state)
    Q, R : (batch|1, time|1, dim) if diagonal, (batch|1, time|1, dim, dim) if full
    C : (batch|1, time|1, obs, state)
    m0, P0 : (batch|1, state), (batch|1, state, state)
    """

    A: Tensor
    b: Tensor
    Q: Tensor
    C: Tensor
    R: Tensor
    m0: Tensor
    P0: Tensor


@dataclass(frozen=True)
class Observations:
    """Observations and their mask.

    Attributes
    ----------
    y : (batch, time, obs)
        0 where missing.
    mask : (batch|1, time, obs) or None
        True where observed; None if nothing is missing.
    """

    y: Tensor
    mask: Tensor | None


def as_covariance(noise: Tensor) -> Tensor:
    """Covariance (batch|1, time|1, dim, dim) of Q or R in the form in which `Model` stores it."""
    return torch.diag_embed(noise) if noise.ndim == 3 else noise


def to_float64(model: Model, observations: Observations) -> tuple[Model, Observations]:
    """Convert both to float64 if the device supports it."""
    if not has_float64(observations.y.device):
        return model, observations
    return in_precision(model, observations, torch.float64)


def in_precision(model: Model, observations: Observations, precision: torch.dtype) -> tuple[Model, Observations]:
    """Convert both to another data type."""
    model = Model(**{name: value.to(precision) for name, value in vars(model).items()})
    return model, replace(observations, y=observations.y.to(precision))


def mask_observations(model: Model, mask: Tensor | None) -> Model:
    """Change C and R so that missing channels carry no information; the update is then exact for the observed ones.

    A missing channel gets a row of zeros in C and an independent unit variance in R. With an innovation of zero it adds
    nothing to the update, to the quadratic form or to the log-determinant.
    """
    if mask is None:
        return model
    C = model.C * mask[..., None].to(model.C.dtype)
    if model.R.ndim == 3:
        R = torch.where(mask, model.R, torch.ones_like(model.R))
    else:
        eye = torch.eye(model.R.shape[-1], dtype=model.R.dtype, device=model.R.device)
        R = torch.where(mask[..., None] & mask[..., None, :], model.R, eye)
    return replace(model, C=C, R=R)
