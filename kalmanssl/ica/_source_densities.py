"""Normalized, zero-mean densities of the sources of linear independent component analysis.

A custom density is a class with a method ``log_prob(z)`` from tensors (samples, sources) to tensors of the same shape,
differentiable by PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from kalmanssl.errors import InputError
from kalmanssl.utils.validation import check_number, unknown_name_error

__all__ = [
    "DENSITIES",
    "GaussianSources",
    "GeneralizedGaussian",
    "HyperbolicSecant",
    "SourceDensity",
    "check_density",
    "log_densities",
    "make_density",
]


class SourceDensity(Protocol):
    """Interface of a source density."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log-density of each source separately, (samples, sources), nats."""


@dataclass(frozen=True)
class GeneralizedGaussian:
    """Density proportional to exp(-|z / scale|^exponent) with unit variance.

    An exponent of 1 is the Laplace density and 2 the Gaussian, which cannot be unmixed; a large exponent is nearly
    uniform. Use 1 for sparse sources such as sounds, and 4 for sources that fill a range, such as the images in Fig. 2
    of the LDM paper. Source: Nadarajah (2005), Journal of Applied Statistics 32, 685.

    Parameters
    ----------
    exponent : float
        At least 1.
    """

    exponent: float

    def __post_init__(self) -> None:
        check_number("exponent", self.exponent)
        if not 1 <= self.exponent < math.inf:
            message = f"exponent must be finite and at least 1, got {self.exponent!r}"
            raise InputError(message, parameter="exponent")

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log-density of each source separately, (samples, sources), nats."""
        beta = self.exponent
        scale = math.exp(0.5 * (math.lgamma(1 / beta) - math.lgamma(3 / beta)))
        normalizer = math.log(2 * scale / beta) + math.lgamma(1 / beta)
        return -(z / scale).abs().pow(beta) - normalizer


@dataclass(frozen=True)
class HyperbolicSecant:
    """Density ½ sech(πz/2) with unit variance: smooth, with exponential tails.

    Its logarithm is the log cosh contrast of FastICA, up to scale.
    """

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log-density of each source separately, (samples, sources), nats."""
        x = 0.5 * math.pi * z.abs()
        return -x - torch.log1p((-2 * x).exp())  # -log(2 cosh x) without overflow


@dataclass(frozen=True)
class GaussianSources:
    """Gaussian sources with known variances, which must all be different.

    They are identifiable only if the unmixing matrix is a rotation.

    Parameters
    ----------
    variances : sequence of float
        One per source.
    """

    variances: Sequence[float]

    def __post_init__(self) -> None:
        if isinstance(self.variances, str) or not isinstance(self.variances, Iterable):
            message = f"variances must be a sequence of numbers, one per source; got {self.variances!r}"
            raise InputError(message, parameter="variances")
        values = list(self.variances)
        for value in values:
            check_number("variances", value)
        if not values or not all(0 < v < math.inf for v in values):
            message = f"variances must be positive and finite, one per source; got {self.variances!r}"
            raise InputError(message, parameter="variances")
        if len(set(values)) < len(values):
            message = f"variances must all be different to identify the sources; got {self.variances!r}"
            raise InputError(message, parameter="variances")

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log-density of each source separately, (samples, sources), nats."""
        variance = torch.as_tensor(list(self.variances), dtype=z.dtype, device=z.device)
        return -0.5 * (z.square() / variance + (2 * math.pi * variance).log())


DENSITIES: dict[str, SourceDensity] = {
    "laplace": GeneralizedGaussian(1.0),
    "sech": HyperbolicSecant(),
    "sub-gaussian": GeneralizedGaussian(4.0),
}
"""Densities without parameters, by name."""


def make_density(density: str | SourceDensity) -> SourceDensity:
    """Return the density with the given name; a density is returned unchanged.

    Parameters
    ----------
    density : {"laplace", "sech", "sub-gaussian"} or SourceDensity

    Raises
    ------
    InputError
        If the name is unknown, or the object has no method `log_prob`.
    """
    if not isinstance(density, str):
        if isinstance(density, type) or not callable(getattr(density, "log_prob", None)):
            message = f"density must be a name or have a method log_prob(z), got {density!r}"
            raise InputError(message, parameter="density")
        return density
    if density not in DENSITIES:
        raise unknown_name_error("density", density, DENSITIES)
    return DENSITIES[density]


def check_density(density: SourceDensity, z: Tensor) -> None:
    """Raise `InputError` unless the log-density of sources (samples, sources) is finite and differentiable."""
    z = z.detach().requires_grad_()
    values = log_densities(density, z)
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        message = f"log_prob of {_describe(density)} is NaN or infinite for {bad} of {z.numel()} values of sources"
        raise InputError(message, parameter="density")
    slope = torch.autograd.grad(values.sum(), z, allow_unused=True)[0] if values.requires_grad else None
    if slope is None:
        raise InputError(
            f"log_prob of {_describe(density)} has no gradient with respect to z: compute it with torch, without "
            "detach, item or numpy",
            parameter="density",
        )


def log_densities(density: SourceDensity, z: Tensor) -> Tensor:
    """Return the log-density of each source separately, (samples, sources), nats.

    Raises
    ------
    InputError
        If the density does not return one value per source, for example if it returns sums over the sources.
    """
    values = density.log_prob(z)
    shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
    if shape != tuple(z.shape):
        raise InputError(
            f"log_prob of {_describe(density)} must return a tensor (samples, sources) of shape {tuple(z.shape)}, one "
            f"value per source, got {shape}",
            parameter="density",
        )
    return values


def _describe(density: SourceDensity) -> str:
    return f"the density {type(density).__name__}"
