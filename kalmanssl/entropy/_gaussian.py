"""Entropy from means and covariances: what is right for a Gaussian, and its cheaper stand-ins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from kalmanssl.entropy._base import EntropyEstimator, check_not_identical, identical_error, rescale
from kalmanssl.errors import InputError
from kalmanssl.utils.torch_ops import gram
from kalmanssl.utils.validation import check_integer, check_number

__all__ = ["LogDetEntropy", "PublishedLogDetEntropy", "VarianceCovarianceEntropy"]

_VARIANCE_FLOOR = 1e-4  # added to the variance before the root, by which its gradient stays finite; VICReg's
_PUBLISHED_RIDGE, _PUBLISHED_FLOOR = 1e-6, 1e-9


@dataclass(frozen=True)
class LogDetEntropy(EntropyEstimator):
    """Entropy of the Gaussian with the samples' covariance: ½ log det Σ + (D/2) log 2πe.

    LDM paper, Eq. 34. For samples that are not Gaussian it is an upper bound and stays one however many
    there are: on a uniform cube it is too high by ½ log(2πe/12) = 0.1765 nats in each dimension. On a sphere it is
    a stand-in that is greatest where all directions are equally spread.

    Bias on Gaussian samples, any covariance: ½ [Σ_{i=1..D} ψ((N−i)/2) + D log(2/(N−1))], about −D(D+1)/(4N):
    −0.0003, −0.001, −0.003, −0.009, −0.034 nats at N = 2000 for D = 1, 2, 4, 8, 16.

    Parameters
    ----------
    ridge : float
        Added to the diagonal of the covariance, as a fraction of the mean variance, so that a latent that has
        lost a dimension keeps a finite entropy and a gradient. Being relative it does not disturb the law of
        scale.
    expansion : bool
        Expand the log-determinant to second order in the correlations ρ, log det Σ ≈ Σ_i log Σ_ii − ½ Σ_{i≠j} ρ_ij²
        (LDM paper, Eq. 42). It needs no more samples than dimensions and no decomposition. The error is of third
        order, the bias about that of the exact form.
    """

    ridge: float = 1e-6
    expansion: bool = False

    spaces: ClassVar[tuple[str, ...]] = ("euclidean", "sphere")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("ridge", self.ridge)
        if not 0 <= self.ridge < math.inf:
            raise InputError(f"ridge must be finite and not negative, got {self.ridge}")

    def _entropy(self, v: Tensor) -> Tensor:
        n, dim = v.shape
        if n <= dim and not self.expansion:
            raise InputError(
                f"v has {n} samples in {dim} dimensions, but a covariance needs more samples than dimensions: give "
                "more samples or fewer dimensions, or use expansion=True"
            )
        _check_two(n)
        dtype = v.dtype
        if not self.expansion and v.device.type != "mps":  # which has no float64
            v = v.double()
        v, log_scale = rescale(v - v.mean(0))
        scale = v.square().sum() / ((n - 1) * dim)
        if not scale > 0:
            raise identical_error(n)
        # Dividing by the scale keeps the determinant of very small or very large latents representable.
        logdet = self._expanded(v, scale) if self.expansion else self._exact(v, scale)
        value = 0.5 * (logdet + dim * scale.log()) + dim * (log_scale + 0.5 * math.log(2 * math.pi * math.e))
        return value.to(dtype)

    def _exact(self, v: Tensor, scale: Tensor) -> Tensor:
        n, dim = v.shape
        cov = gram(v.T) / ((n - 1) * scale) + self.ridge * torch.eye(dim, dtype=v.dtype, device=v.device)
        sign, logdet = torch.linalg.slogdet(cov)
        if not (sign > 0 and torch.isfinite(logdet)):
            raise self._singular()
        return logdet

    def _expanded(self, v: Tensor, scale: Tensor) -> Tensor:
        variance = v.square().sum(0) / ((len(v) - 1) * scale) + self.ridge
        if not (variance > 0).all():
            raise self._singular()
        return variance.log().sum() - 0.5 * _off_diagonal_squares(v / (scale * variance).sqrt())

    def _singular(self) -> InputError:
        return InputError(
            f"the covariance of v is singular with ridge={self.ridge}: "
            "a dimension is constant or repeats others, give a larger ridge"
        )


@dataclass(frozen=True)
class PublishedLogDetEntropy(EntropyEstimator):
    """What the LDM paper's published code computes for the log-determinant on the sphere, to repeat its results with.

    (1/dim) [Σ_i log V_i − ½ Σ_{i≠j} (S_ij² / (V_i V_j + 1e-9))²], S the covariance plus 1e-6 and V_i = S_ii + 1e-9.
    It is no entropy, and differs from Eq. 42 of the paper, which is ``LogDetEntropy(expansion=True)``, in five ways:

    * correlations count by their fourth powers instead of their squares, one of 0.1 a hundredth of what it should, so
      that hardly anything but the variances is left;
    * a pair [z, z'] is taken for two samples of one latent, each view centered by itself and the divisor 2 samples − 1:
      covariances *between* the views are not in it. With mutual information each view has a covariance, and a value, of
      its own;
    * it is divided by dim and not halved, 2 / dim of what would be nats: ``Sphere(5.0)`` goes with it where
      ``Sphere(2.5 * dim)`` goes with these;
    * 1e-6 is added to all covariances, not to the variances alone;
    * 1e-9 is added to the variances and to their products.

    Parameters
    ----------
    dim : int
        Coordinates of one latent, by which pairs are told from single latents.
    """

    dim: int

    spaces: ClassVar[tuple[str, ...]] = ("sphere",)
    joint: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("dim", self.dim, 2)

    def _entropy(self, v: Tensor) -> Tensor:
        if v.shape[1] not in (self.dim, 2 * self.dim):
            raise InputError(f"v has {v.shape[1]} columns, but must have dim={self.dim}, or twice that for pairs")
        _check_two(len(v))
        check_not_identical(v)
        pooled = torch.cat(v.split(self.dim, dim=1))  # centered column by column, thus each view by itself
        cov = gram(pooled.T) / (len(pooled) - 1) + _PUBLISHED_RIDGE
        variance = cov.diagonal() + _PUBLISHED_FLOOR
        fourth = (cov.square() / (torch.outer(variance, variance) + _PUBLISHED_FLOOR)).square()
        return (variance.log().sum() - 0.5 * (fourth - fourth.diagonal().diag()).sum()) / self.dim


@dataclass(frozen=True)
class VarianceCovarianceEntropy(EntropyEstimator):
    """VICReg's stand-in for the log-determinant, no entropy in nats: minus its variance and covariance penalties.

    −variance · (1/D) Σ_j max(0, target − s_j) − covariance · (1/D) Σ_{i≠j} C_ij², with s_j = √(C_jj + 1e-4) and C the
    covariance of the samples (LDM paper, Eq. 43; Bardes, Ponce & LeCun 2022, arXiv 2105.04906, Eq. 1 to 4). The sum of
    this over both views, beside `Euclidean.from_precision(25, dim)` as the latent model, is VICReg's loss with its
    coefficients 25, 25, 1. On a pair [z, z'] side by side D is 2 dim, and the covariances between the views count too.

    It is bounded by zero, reached wherever all dimensions are uncorrelated with standard deviations of `target` or
    more, and does not follow the law of scale: below the target it pushes, above it does not.

    Parameters
    ----------
    variance, covariance : float
        Coefficients of the penalties.
    target : float
        Standard deviation, in units of the latents, from which on there is no penalty.
    pooled_dim : int, optional
        For a pair [z, z'] of latents of so many coordinates: the variance penalty of each, and the covariance penalty
        of the samples of both together, each centered by itself. It ignores covariances between the two, unlike
        Eq. 9, but is what the paper's code takes for the objective without mutual information, with coefficients 17.5
        and 0.75.
    """

    variance: float = 25.0
    covariance: float = 1.0
    target: float = 1.0
    pooled_dim: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("variance", "covariance", "target"):
            value = getattr(self, name)
            check_number(name, value)
            if not 0 <= value < math.inf or (value == 0 and name == "target"):
                wanted = "positive" if name == "target" else "not negative"
                raise InputError(f"{name} must be finite and {wanted}, got {value}")
        if self.pooled_dim is not None:
            check_integer("pooled_dim", self.pooled_dim, 1)

    def _entropy(self, v: Tensor) -> Tensor:
        _check_two(len(v))
        if self.pooled_dim is None:
            return -self._spread(v) - self._correlation(v)
        if v.shape[1] != 2 * self.pooled_dim:
            raise InputError(f"v has {v.shape[1]} columns, but pairs with pooled_dim={self.pooled_dim} have twice that")
        z, other = v.split(self.pooled_dim, dim=1)
        return -self._spread(z) - self._spread(other) - self._correlation(torch.cat([z, other]))

    # Samples come centered, by a mean that is held fixed; their squares have the right gradient all the same.
    def _spread(self, v: Tensor) -> Tensor:
        check_not_identical(v)
        variance = v.square().sum(0) / (len(v) - 1)
        return self.variance * (self.target - (variance + _VARIANCE_FLOOR).sqrt()).clamp_min(0).mean()

    def _correlation(self, v: Tensor) -> Tensor:
        return self.covariance * _off_diagonal_squares(v) / v.shape[1]


def _check_two(n: int) -> None:
    if n < 2:
        raise InputError(f"v has {n} sample, but a variance needs at least 2: give more samples")


def _off_diagonal_squares(v: Tensor) -> Tensor:
    """Sum of squares of the covariances, without the variances, of centered samples `v` (samples, D)."""
    n, dim = v.shape
    # V'V and VV' have the same sum of squares: take the smaller.
    product = gram(v.T) if dim <= n else gram(v)
    return (product.square().sum() - v.square().sum(0).square().sum()) / (n - 1) ** 2
