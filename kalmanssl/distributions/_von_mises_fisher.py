"""The von Mises-Fisher distribution on the unit sphere, differentiable with respect to all its arguments."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache

import torch
from torch import Tensor, nn

from kalmanssl.errors import InputError
from kalmanssl.utils.precision import finest_dtype, to_float32
from kalmanssl.utils.torch_ops import unit_vectors

__all__ = ["OnSphere", "VonMisesFisher", "check_unit_length", "log_area", "log_normalizer"]

_DEBYE_ORDER = 20.0  # from this order on, the expansion of the Bessel function has an error below 1e-12
_DEBYE_TERMS = 9


@dataclass(frozen=True)
class VonMisesFisher:
    """Von Mises-Fisher distribution on the unit sphere in `dim` dimensions, P(z) = C(k) exp(k m.z).

    C(k) = k^(dim/2 - 1) / ((2 pi)^(dim/2) I_{dim/2 - 1}(k)), with I the modified Bessel function of the first kind. The
    density is with respect to the area of the sphere. For large k, the distribution is close to a Gaussian with
    variance 1/k in each direction tangent to the sphere.

    Source: LDM paper, Eq. 45 (pairs) and Eq. 56 (predictor); Mardia & Jupp (2000), Directional Statistics, section 9.3.

    Attributes
    ----------
    mean_direction : (..., dim)
        m, unit vectors.
    concentration : (...)
        k, non-negative (0 is uniform); broadcastable against `mean_direction` without its last axis.
    """

    mean_direction: Tensor
    concentration: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean (..., dim): the mean direction times I_{dim/2}(k) / I_{dim/2 - 1}(k), which is less than one."""
        length = _log_scaled_bessel(self.mean_direction.shape[-1], to_float32(self.concentration))[1]
        return self.mean_direction * length.unsqueeze(-1)

    def log_prob(self, latent: Tensor) -> Tensor:
        """Compute the log-density (...) in nats of unit vectors `latent` (..., dim)."""
        direction, concentration = to_float32(self.mean_direction), to_float32(self.concentration)
        cosine = (to_float32(latent) * direction).sum(-1)
        return concentration * cosine + log_normalizer(direction.shape[-1], concentration)

    def detach(self) -> VonMisesFisher:
        """Return the same distribution without gradients to its parameters."""
        return VonMisesFisher(self.mean_direction.detach(), self.concentration.detach())

    @classmethod
    def fitted(cls, latent: Tensor) -> VonMisesFisher:
        """Return the maximum-likelihood distribution for unit vectors `latent` (samples, dim).

        Its mean equals the mean of the samples, with the length limited to 1 - 1e-6. The concentration is therefore at
        most about 5e5 (dim - 1); for larger ones, the rounding errors of cosines in single precision would matter. If
        the mean of the samples is zero, the first axis is used as the mean direction. The concentration is found by
        Newton's method, starting from the approximation of Sra (2012), Computational Statistics 27, 177, Eq. 4.
        """
        latent = to_float32(latent)
        dim, mean = latent.shape[-1], latent.mean(0)
        full = mean.norm()
        direction = mean / full if full > 0 else nn.functional.one_hot(full.long(), dim).to(mean.dtype)
        length = full.clamp(1e-9, 1 - 1e-6)
        k = length * (dim - length**2) / (1 - length**2)
        for _ in range(5):
            found = _log_scaled_bessel(dim, k)[1]
            k = (k - (found - length) / (1 - found**2 - (dim - 1) / k * found)).clamp_min(0.0)
        return cls(direction, k)


class OnSphere(nn.Module):
    """Normalization to unit length, z = u / |u|, as the last layer of an encoder whose latents are unit vectors.

    `nn.Sequential(encoder, OnSphere())` is an encoder for a von Mises-Fisher predictor (LDM paper, Eq. 44).
    """

    def forward(self, latent: Tensor) -> Tensor:
        """Divide `latent` (..., dim) by its length along the last axis."""
        return unit_vectors(latent)


def log_normalizer(dim: int, concentration: Tensor) -> Tensor:
    """Compute log C(k) of the von Mises-Fisher density in `dim` dimensions, for any concentration k >= 0."""
    if concentration.ndim == 0 and not concentration.requires_grad:  # a fixed concentration: cached
        return concentration.new_tensor(_log_normalizer(dim, float(concentration)))
    return -_log_scaled_bessel(dim, concentration)[0] - 0.5 * dim * math.log(2 * math.pi)


@lru_cache(maxsize=64)
def _log_normalizer(dim: int, concentration: float) -> float:
    precise = torch.tensor(concentration, dtype=torch.float64)
    return float(-_log_scaled_bessel(dim, precise)[0]) - 0.5 * dim * math.log(2 * math.pi)


def log_area(dim: int) -> float:
    """Compute the log of the area 2 pi^(dim/2) / Gamma(dim/2) of the unit sphere in `dim` dimensions."""
    return math.log(2) + 0.5 * dim * math.log(math.pi) - math.lgamma(0.5 * dim)


def check_unit_length(z: Tensor, name: str = "z") -> None:
    """Raise InputError if a vector along the last axis of `z` does not have length one, within rounding errors."""
    excess = (to_float32(z.detach()).square().sum(-1) - 1).abs()
    bad = int((~(excess <= max(1e-4, 4 * torch.finfo(z.dtype).eps))).sum())  # also NaN
    if bad:
        raise InputError(
            f"{name} has {bad} of {excess.numel()} vectors off the unit sphere (worst squared length off by "
            f"{float(excess.max()):.3g}): divide by the length, for example with kalmanssl.distributions.OnSphere",
            parameter=name,
        )


def _log_scaled_bessel(dim: int, k: Tensor) -> tuple[Tensor, Tensor]:
    """Compute log(I_v(k) / k^v) and I_{v+1}(k) / I_v(k) for the order v = dim/2 - 1, differentiable to any order.

    Two high orders are computed by Debye's expansion, which holds for all k (Abramowitz & Stegun 9.7.7). The orders
    below follow from the recurrence I_{n-1} = I_{n+1} + (2n/k) I_n, which is stable in this direction (9.6.26). Because
    of the division by k^v, all terms are finite at k = 0.
    """
    if dim < 2:
        raise InputError(f"a von Mises-Fisher distribution needs at least 2 dimensions, got {dim}", parameter="dim")
    precise = k.to(finest_dtype(k))
    order = 0.5 * dim - 1
    steps = max(math.ceil(_DEBYE_ORDER - order), 0)
    top = order + steps
    log_value = _debye(top, precise)
    ratio = (_debye(top + 1, precise) - log_value).exp()  # I_{n+1}(k) / (k I_n(k)) at order n
    for step in range(steps):
        growth = 2 * (top - step) + precise.square() * ratio
        log_value, ratio = log_value + growth.log(), 1 / growth
    return log_value.to(k.dtype), (precise * ratio).to(k.dtype)


def _debye(order: float, k: Tensor) -> Tensor:
    """Compute log(I_order(k) / k^order) by Debye's expansion in 1 / order."""
    root = (1 + (k / order).square()).sqrt()
    p = 1 / root
    total = torch.zeros_like(p)
    for c in reversed(_debye_coefficients(order)):
        total = total * p + c
    exponent = order * (root - math.log(order) - (1 + root).log())
    return exponent - 0.5 * math.log(2 * math.pi * order) - 0.5 * root.log() + total.log()


@cache
def _debye_coefficients(order: float) -> tuple[float, ...]:
    """Return the coefficients, lowest power first, of the polynomial sum_j u_j / order^j in Debye's expansion."""
    total = [0.0] * len(_debye_polynomials()[-1])
    for j, polynomial in enumerate(_debye_polynomials()):
        for i, c in enumerate(polynomial):
            total[i] += c / order**j
    return tuple(total)


@cache
def _debye_polynomials() -> tuple[tuple[float, ...], ...]:
    """Return the coefficients, lowest power first, of the polynomials u_j (Abramowitz & Stegun 9.3.10).

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
