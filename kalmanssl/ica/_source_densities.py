"""Densities of the sources of linear independent component analysis, normalized, with mean zero.

A density of your own is a class with ``log_prob(z)`` that takes and returns tensors (samples, sources), by operations
that PyTorch can differentiate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from kalmanssl.errors import InputError
from kalmanssl.utils.validation import check_number, unknown_name

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
    """What independent component analysis asks of the density of the sources."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density of every source by itself, (samples, sources), nats."""


@dataclass(frozen=True)
class GeneralizedGaussian:
    """Density proportional to exp(-|z / scale|^exponent), with the scale that makes the variance one.

    1 is the Laplace density, 2 the Gaussian (which no unmixing can be told from), and a large one is nearly uniform.
    For recordings and sounds, which are near zero most of the time, use 1; for sources that fill a range, such as the
    images of the LDM paper's Fig. 2, use 4. Source: Nadarajah (2005), Journal of Applied Statistics 32, 685.

    Parameters
    ----------
    exponent : float
        1 or larger.
    """

    exponent: float

    def __post_init__(self) -> None:
        check_number("exponent", self.exponent)
        if not 1 <= self.exponent < math.inf:
            raise InputError(f"exponent must be a number from 1 on, got {self.exponent!r}")

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density of every source by itself, (samples, sources), nats."""
        beta = self.exponent
        scale = math.exp(0.5 * (math.lgamma(1 / beta) - math.lgamma(3 / beta)))
        normalizer = math.log(2 * scale / beta) + math.lgamma(1 / beta)
        return -(z / scale).abs().pow(beta) - normalizer


@dataclass(frozen=True)
class HyperbolicSecant:
    """Density ½ sech(πz/2), of variance one: smooth, with the tails of a Laplace density.

    Its logarithm is the log cosh that other programs for independent component analysis use.
    """

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density of every source by itself, (samples, sources), nats."""
        x = 0.5 * math.pi * z.abs()
        return -x - torch.log1p((-2 * x).exp())  # -log(2 cosh x), which does not overflow


@dataclass(frozen=True)
class GaussianSources:
    """Gaussian sources of known variances, which must differ from each other to be told apart.

    They can be found under a rotation alone: any other map could be undone in the noise.

    Parameters
    ----------
    variances : sequence of float
        One for every source.
    """

    variances: Sequence[float]

    def __post_init__(self) -> None:
        if isinstance(self.variances, str) or not isinstance(self.variances, Iterable):
            raise InputError(f"variances must be a sequence of numbers, one for every source; got {self.variances!r}")
        values = list(self.variances)
        for value in values:
            check_number("variances", value)
        if not values or not all(0 < v < math.inf for v in values):
            raise InputError(f"variances must be positive and finite, one for every source; got {self.variances!r}")
        if len(set(values)) < len(values):
            raise InputError(f"variances must differ, as Gaussian sources have nothing else; got {self.variances!r}")

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density of every source by itself, (samples, sources), nats."""
        variance = torch.as_tensor(list(self.variances), dtype=z.dtype, device=z.device)
        return -0.5 * (z.square() / variance + (2 * math.pi * variance).log())


DENSITIES: dict[str, SourceDensity] = {
    "laplace": GeneralizedGaussian(1.0),
    "sech": HyperbolicSecant(),
    "sub-gaussian": GeneralizedGaussian(4.0),
}
"""The densities that need no numbers, by name."""


def make_density(density: str | SourceDensity) -> SourceDensity:
    """Return the density of that name; a density itself passes through.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    if not isinstance(density, str):
        if isinstance(density, type) or not callable(getattr(density, "log_prob", None)):
            raise InputError(f"density must be a name or have a method log_prob(z), got {density!r}")
        return density
    if density not in DENSITIES:
        raise unknown_name("density", density, DENSITIES)
    return DENSITIES[density]


def check_density(density: SourceDensity, z: Tensor) -> None:
    """Raise `InputError` unless a density gives every one of some sources (samples, sources) a value and a slope."""
    z = z.detach().requires_grad_()
    values = log_densities(density, z)
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        raise InputError(f"log_prob of {_named(density)} is NaN or infinite for {bad} of {z.numel()} values of sources")
    slope = torch.autograd.grad(values.sum(), z, allow_unused=True)[0] if values.requires_grad else None
    if slope is None:
        raise InputError(
            f"log_prob of {_named(density)} has no gradient with respect to z: compute it with torch, without detach, "
            "item or numpy"
        )


def log_densities(density: SourceDensity, z: Tensor) -> Tensor:
    """Log-density of every source by itself, (samples, sources), nats.

    Raises
    ------
    InputError
        If the density returns anything else, such as sums over the sources, which would be added up again.
    """
    values = density.log_prob(z)
    shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
    if shape != tuple(z.shape):
        raise InputError(
            f"log_prob of {_named(density)} must return a tensor (samples, sources) of shape {tuple(z.shape)}, one "
            f"value for every source, got {shape}"
        )
    return values


def _named(density: SourceDensity) -> str:
    return f"the density {type(density).__name__}"
