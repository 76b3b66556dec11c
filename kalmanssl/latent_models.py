"""Latent models: which latents are likely.

A latent model gives a *conditional* distribution of a latent given another latent (pairs) or given the past
(sequences, see `kalmanssl.predictors`). The objective (`kalmanssl.objective`) needs two things of a conditional, the
comparison with what knows no past (`SequenceModel.predictive_gain`) a third, and a new one is a class with these:

* ``log_prob(latent)``: log-density in nats, with every constant;
* ``detach()``: the same distribution, cut off from the graph (the stop-gradient);
* ``fitted(latent)``: the one distribution of this family that fits all samples best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch import Tensor, nn

from kalmanssl.errors import InputError
from kalmanssl.kalman.factorize import safe_cholesky

__all__ = ["Conditional", "FamilyConditional", "GaussianConditional", "OnSphere", "VonMisesFisher"]

_DEBYE_ORDER = 20.0  # from which order on the expansion of the Bessel function is good to 1e-12
_DEBYE_TERMS = 9


class Conditional(Protocol):
    """What the objective asks of a conditional distribution over latents."""

    def log_prob(self, latent: Tensor) -> Tensor:
        """Log-density of `latent` (..., dim), shape (...), nats."""

    def detach(self) -> Conditional:
        """Return the same distribution without gradients to its parameters."""


class FamilyConditional(Conditional, Protocol):
    """A conditional that is one of a family which can also be fitted to latents alone."""

    @classmethod
    def fitted(cls, latent: Tensor) -> Conditional:
        """Return the member of the family that fits the samples `latent` (samples, dim), whatever came before them."""


@dataclass(frozen=True)
class GaussianConditional:
    """Gaussian on the plane, N(mean, cov).

    Source: LDM paper, Eq. 15 (predictor) and Eq. 39 (pairs), with the constant that the paper drops.

    Attributes
    ----------
    mean : (..., dim)
    cov : (..., dim, dim), broadcastable against `mean`
    """

    mean: Tensor
    cov: Tensor

    def log_prob(self, latent: Tensor) -> Tensor:
        """Log-density of `latent` (..., dim), shape (...), nats."""
        factor = safe_cholesky(self.cov, "cov")
        residual = (latent - self.mean).unsqueeze(-1)
        whitened = torch.linalg.solve_triangular(factor, residual, upper=False).squeeze(-1)
        half_log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * whitened.square().sum(-1) - half_log_det - 0.5 * latent.shape[-1] * math.log(2 * math.pi)

    def detach(self) -> GaussianConditional:
        """Return the same distribution without gradients to its parameters."""
        return GaussianConditional(self.mean.detach(), self.cov.detach())

    @classmethod
    def fitted(cls, latent: Tensor) -> GaussianConditional:
        """Return the Gaussian with the moments of the samples `latent` (samples, dim)."""
        return cls(latent.mean(0), torch.cov(latent.T).reshape(2 * latent.shape[1:]))


@dataclass(frozen=True)
class VonMisesFisher:
    """Von Mises-Fisher distribution on the unit sphere in `dim` dimensions, P(z) = C(k) exp(k m.z).

    C(k) = k^(dim/2 - 1) / ((2 pi)^(dim/2) I_{dim/2 - 1}(k)), with I the modified Bessel function of the first kind; the
    density is by area of the sphere. For a large k it is a Gaussian of variance 1/k in each direction along the sphere.
    Source: LDM paper, Eq. 45 (pairs) and Eq. 56 (predictor); Mardia & Jupp (2000), Directional Statistics, section 9.3.

    Attributes
    ----------
    mean_direction : (..., dim)
        m, of length one.
    concentration : (...)
        k, 0 (uniform) or larger; broadcastable against `mean_direction` without its last axis.
    """

    mean_direction: Tensor
    concentration: Tensor

    @property
    def mean(self) -> Tensor:
        """Expectation (..., dim): the mean direction times I_{dim/2}(k) / I_{dim/2 - 1}(k), shorter than one."""
        length = _log_scaled_bessel(self.mean_direction.shape[-1], self.concentration)[1]
        return self.mean_direction * length.unsqueeze(-1)

    def log_prob(self, latent: Tensor) -> Tensor:
        """Log-density of `latent` (..., dim), which must have length one, shape (...), nats."""
        dim = self.mean_direction.shape[-1]
        log_bessel = _log_scaled_bessel(dim, self.concentration)[0]
        cosine = (latent * self.mean_direction).sum(-1)
        return self.concentration * cosine - log_bessel - 0.5 * dim * math.log(2 * math.pi)

    def detach(self) -> VonMisesFisher:
        """Return the same distribution without gradients to its parameters."""
        return VonMisesFisher(self.mean_direction.detach(), self.concentration.detach())

    @classmethod
    def fitted(cls, latent: Tensor) -> VonMisesFisher:
        """Return the distribution of greatest likelihood for the unit vectors `latent` (samples, dim).

        Its mean is that of the samples. Newton's method from the approximation of Sra (2012), Computational Statistics
        27, 177, Eq. 4.
        """
        dim, mean = latent.shape[-1], latent.mean(0)
        length = mean.norm().clamp(1e-9, 1 - 1e-6)
        k = length * (dim - length**2) / (1 - length**2)
        for _ in range(5):
            found = _log_scaled_bessel(dim, k)[1]
            k = (k - (found - length) / (1 - found**2 - (dim - 1) / k * found)).clamp_min(0.0)
        return cls(mean / length, k)


class OnSphere(nn.Module):
    """Put latents on the unit sphere, z = u / |u|: the end of an encoder whose latents have a direction alone.

    `nn.Sequential(encoder, OnSphere())` is the encoder for a von Mises-Fisher predictor (LDM paper, Eq. 44).
    """

    def forward(self, latent: Tensor) -> Tensor:
        """Divide `latent` (..., dim) by its length along the last axis."""
        return nn.functional.normalize(latent, dim=-1)


def _log_scaled_bessel(dim: int, k: Tensor) -> tuple[Tensor, Tensor]:
    """Log of I_v(k) / k^v and the ratio I_{v+1}(k) / I_v(k) for the order v = dim/2 - 1, with any derivatives.

    The two highest orders come from Debye's expansion, which holds for all k at once (Abramowitz & Stegun 9.7.7), the
    lower ones by the recurrence I_{n-1} = I_{n+1} + (2n/k) I_n, which is stable in this direction (9.6.26). Dividing
    by k^v leaves everything finite at k = 0.
    """
    if dim < 2:
        raise InputError(f"a von Mises-Fisher distribution needs at least 2 dimensions, got {dim}")
    precise = k if k.device.type == "mps" else k.double()  # mps has no float64
    order = 0.5 * dim - 1
    steps = max(math.ceil(_DEBYE_ORDER - order), 0)
    top = order + steps
    log_value = _debye(top, precise)
    ratio = (_debye(top + 1, precise) - log_value).exp()  # of I_{n+1} / k^(n+1) to I_n / k^n
    for step in range(steps):
        growth = 2 * (top - step) + precise.square() * ratio
        log_value, ratio = log_value + growth.log(), 1 / growth
    return log_value.to(k.dtype), (precise * ratio).to(k.dtype)


def _debye(order: float, k: Tensor) -> Tensor:
    """Log of I_order(k) / k^order by Debye's expansion in 1 / order."""
    root = (1 + (k / order).square()).sqrt()
    p = 1 / root
    total = torch.zeros_like(p)
    for j, coefficients in reversed(list(enumerate(_debye_polynomials()))):
        polynomial = torch.zeros_like(p)
        for c in reversed(coefficients):
            polynomial = polynomial * p + c
        total = total + polynomial / order**j
    exponent = order * (root - math.log(order) - (1 + root).log())
    return exponent - 0.5 * math.log(2 * math.pi * order) - 0.5 * root.log() + total.log()


@cache
def _debye_polynomials() -> tuple[tuple[float, ...], ...]:
    """Coefficients, lowest power first, of the polynomials u_j in Debye's expansion (Abramowitz & Stegun 9.3.10).

    u_{j+1}(p) = p^2 (1 - p^2) u_j'(p) / 2 + (1/8) times the integral from 0 to p of (1 - 5 q^2) u_j(q).
    """
    polynomials: list[tuple[float, ...]] = [(1.0,)]
    for _ in range(_DEBYE_TERMS - 1):
        new = [0.0] * (len(polynomials[-1]) + 3)
        for i, c in enumerate(polynomials[-1]):
            new[i + 1] += c * (i / 2 + 1 / (8 * (i + 1)))
            new[i + 3] -= c * (i / 2 + 5 / (8 * (i + 3)))
        polynomials.append(tuple(new))
    return tuple(polynomials)
