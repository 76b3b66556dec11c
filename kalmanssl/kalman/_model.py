"""Parameters and observations in the form that all backends use, with every axis written out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kalmanssl.utils.precision import has_float64

__all__ = ["Arrays", "Model", "Observations", "as_covariance", "in_precision", "mask_observations", "to_float64"]


class Arrays(NamedTuple):
    """The values of a `Model` on a CPU, with the shapes of its attributes."""

    A: np.ndarray
    b: np.ndarray
    Q: np.ndarray
    C: np.ndarray
    R: np.ndarray
    m0: np.ndarray
    P0: np.ndarray


class Model:
    """Parameters of a linear-Gaussian state-space model, checked before; `|1` marks axes along which nothing varies.

    Views are made when they are accessed: for small problems, to make them takes as long as the filter.

    Parameters
    ----------
    A, Q, C, R : Tensor
        As for `kalman_filter`, or as the attributes.
    b, m0, P0 : Tensor, optional
        Likewise; zeros, zeros and the identity by default.
    arrays : Arrays, optional
        The values, if they are known.

    Attributes
    ----------
    A : (batch|1, time|1, state, state)
    b : (batch|1, time|1, state)
    Q, R : (batch|1, time|1, dim) if diagonal, (batch|1, time|1, dim, dim) if full
    C : (batch|1, time|1, obs, state)
    m0, P0 : (batch|1, state), (batch|1, state, state)
    given : dict of str to Tensor or None
        The parameters in the shapes in which they were given.
    """

    def __init__(
        self,
        *,
        A: Tensor,
        Q: Tensor,
        C: Tensor,
        R: Tensor,
        b: Tensor | None = None,
        m0: Tensor | None = None,
        P0: Tensor | None = None,
        arrays: Arrays | None = None,
    ) -> None:
        self.given: dict[str, Any] = {"A": A, "b": b, "Q": Q, "C": C, "R": R, "m0": m0, "P0": P0}
        if arrays is not None:
            self.arrays = arrays

    @property
    def A(self) -> Tensor:
        """Transition."""
        return _with_axes(self.given["A"], 2)

    @property
    def b(self) -> Tensor:
        """Offset."""
        b, A = self.given["b"], self.given["A"]
        return A.new_zeros(1, 1, A.shape[-1]) if b is None else _with_axes(b, 1)

    @property
    def Q(self) -> Tensor:
        """Variances or covariances of the process noise."""
        return _with_axes(self.given["Q"], 1, 2)

    @property
    def C(self) -> Tensor:
        """Emission."""
        return _with_axes(self.given["C"], 2)

    @property
    def R(self) -> Tensor:
        """Variances or covariances of the observation noise."""
        return _with_axes(self.given["R"], 1, 2)

    @property
    def m0(self) -> Tensor:
        """Mean of the first state before it is observed."""
        m0, A = self.given["m0"], self.given["A"]
        if m0 is None:
            return A.new_zeros(1, A.shape[-1])
        return m0[None] if len(m0.shape) == 1 else m0

    @property
    def P0(self) -> Tensor:
        """Covariance of the first state before it is observed."""
        P0, A = self.given["P0"], self.given["A"]
        if P0 is None:
            return torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)[None]
        P0 = torch.diag_embed(P0) if len(P0.shape) == 1 else P0
        return P0[None] if len(P0.shape) == 2 else P0

    @cached_property
    def arrays(self) -> Arrays:
        """Values of the parameters on a CPU, in their memory."""
        return Arrays(**{name: value.detach().numpy() for name, value in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """Return the attributes by name."""
        return {name: getattr(self, name) for name in Arrays._fields}

    def replace(self, **changes: Tensor) -> Model:
        """Return the model with some parameters changed."""
        return Model(**{**self.given, **changes})


def _with_axes(value: Tensor, *constant: int) -> Tensor:
    """The parameter with batch and time axes; without them it has one of the numbers of axes `constant`."""
    return value[None, None] if len(value.shape) in constant else value


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
    given = {name: value.to(precision) for name, value in model.given.items() if value is not None}
    return model.replace(**given), replace(observations, y=observations.y.to(precision))


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
    return model.replace(C=C, R=R)
