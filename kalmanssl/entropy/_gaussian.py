"""Entropy of a Gaussian with the covariance of the samples, and approximations that are used in its place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from kalmanssl.entropy._base import EntropyEstimator, check_not_identical, identical_error, rescale
from kalmanssl.errors import InputError
from kalmanssl.utils.precision import finest_dtype
from kalmanssl.utils.torch_ops import gram
from kalmanssl.utils.validation import check_integer, check_not_negative, check_positive

__all__ = ["LogDetEntropy", "PublishedLogDetEntropy", "VarianceCovarianceEntropy"]

_VARIANCE_FLOOR = 1e-4  # of VICReg: added to variances before the square root, so that its gradient is finite
_PUBLISHED_RIDGE, _PUBLISHED_FLOOR = 1e-6, 1e-9


@dataclass(frozen=True)
class LogDetEntropy(EntropyEstimator):
    """Entropy of a Gaussian with the covariance Σ of the samples: ½ log det Σ + (D/2) log 2πe (LDM paper, Eq. 34).

    For other distributions it is an upper bound of the entropy, also with infinitely many samples. For example, it is
    too high by ½ log(2πe/12) = 0.1765 nats per dimension on a uniform cube. For unit vectors it is not the entropy on
    the sphere, but it has its maximum where the variance is the same in all directions.

    Bias for Gaussian samples with any covariance: ½ [Σ_{i=1..D} ψ((N−i)/2) + D log(2/(N−1))], about −D(D+1)/(4N). At
    N = 2000 it is −0.0003, −0.001, −0.003, −0.009, −0.034 nats for D = 1, 2, 4, 8, 16.

    Parameters
    ----------
    ridge : float
        Number that is added to the diagonal of the covariance, as a fraction of the mean variance. It keeps the entropy
        and its gradient finite if a dimension has no variance. Because it is relative, the scaling law still holds.
    expansion : bool
        Use the expansion of the log-determinant to second order in the correlations ρ,
        log det Σ ≈ Σ_i log Σ_ii − ½ Σ_{i≠j} ρ_ij² (LDM paper, Eq. 42). It also works with fewer samples than
        dimensions, and needs no matrix decomposition. Its error is of third order; its bias is about the same.
    """

    ridge: float = 1e-6
    expansion: bool = False

    spaces: ClassVar[tuple[str, ...]] = ("euclidean", "sphere")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative("ridge", self.ridge)

    def _entropy(self, v: Tensor) -> Tensor:
        n, dim = v.shape
        if n <= dim and not self.expansion:
            raise InputError(
                f"v has {n} samples in {dim} dimensions, but a covariance needs more samples than dimensions: give "
                "more samples or fewer dimensions, or use expansion=True",
                parameter="v",
            )
        _check_two(n)
        dtype = v.dtype
        if not self.expansion:
            v = v.to(finest_dtype(v))
        v, log_scale = rescale(v - v.mean(0))
        scale = v.square().sum() / ((n - 1) * dim)
        if not scale > 0:
            raise identical_error(n)
        # Without the division by the scale, the determinant could overflow or underflow.
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
            "a dimension is constant or a linear combination of others, give a larger ridge",
            parameter="ridge",
        )


@dataclass(frozen=True)
class PublishedLogDetEntropy(EntropyEstimator):
    """Formula for the log-determinant on the sphere in the published code of the LDM paper, to reproduce its results.

    (1/dim) [Σ_i log V_i − ½ Σ_{i≠j} (S_ij² / (V_i V_j + 1e-9))²], where S is the covariance with 1e-6 added to each
    entry, and V_i = S_ii + 1e-9. It is not an entropy in nats. It differs from Eq. 42 of the paper, which is
    ``LogDetEntropy(expansion=True)``, as follows:

    * Correlations enter with their fourth power instead of their square. A correlation of 0.1 has a hundredth of its
      effect in Eq. 42, so that the value depends almost only on the variances.
    * The latents of a pair [z, z'] count as two samples of one latent: each is centered by its own mean, both are
      pooled, and the sum of products is divided by 2 samples − 1. Covariances between z and z' have no influence. (In
      the objective with mutual information, the function is called for z and z' separately.)
    * The sum is divided by dim instead of 2, so that the value is 2 / dim times that of Eq. 42 (apart from its
      constant). The matching concentration of the latent model is smaller by this factor: ``Sphere(5.0)`` instead of
      ``Sphere(2.5 * dim)``.
    * 1e-6 is added to all entries of the covariance, not only to its diagonal.
    * 1e-9 is added to the variances and to the products of two variances.

    Parameters
    ----------
    dim : int
        Number of coordinates of one latent. Samples with twice as many columns are pairs.
    """

    dim: int

    spaces: ClassVar[tuple[str, ...]] = ("sphere",)
    joint: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("dim", self.dim, 2)

    def _entropy(self, v: Tensor) -> Tensor:
        if v.shape[1] not in (self.dim, 2 * self.dim):
            message = f"v has {v.shape[1]} columns, but must have dim={self.dim}, or twice that for pairs"
            raise InputError(message, parameter="v")
        _check_two(len(v))
        check_not_identical(v)
        pooled = torch.cat(v.split(self.dim, dim=1))  # columns are already centered, and so is each view
        cov = gram(pooled.T) / (len(pooled) - 1) + _PUBLISHED_RIDGE
        variance = cov.diagonal() + _PUBLISHED_FLOOR
        fourth = (cov.square() / (torch.outer(variance, variance) + _PUBLISHED_FLOOR)).square()
        return (variance.log().sum() - 0.5 * (fourth - fourth.diagonal().diag()).sum()) / self.dim


@dataclass(frozen=True)
class VarianceCovarianceEntropy(EntropyEstimator):
    """Minus the variance and covariance penalties of VICReg, which replace the log-determinant there.

    −variance · (1/D) Σ_j max(0, target − s_j) − covariance · (1/D) Σ_{i≠j} C_ij², with s_j = √(C_jj + 1e-4) and C the
    covariance of the samples (LDM paper, Eq. 43; Bardes, Ponce & LeCun 2022, arXiv 2105.04906, Eq. 1 to 4). The sum
    over both views, with `Euclidean.from_precision(25, dim)` as the latent model, gives VICReg's loss with its
    coefficients 25, 25, 1. For a concatenated pair [z, z'], D is 2 dim, and covariances between the views are included.

    It is not an entropy in nats and does not follow the scaling law. Its maximum is zero, for uncorrelated dimensions
    with standard deviations of at least `target`.

    Parameters
    ----------
    variance, covariance : float
        Coefficients of the penalties.
    target : float
        Standard deviation in units of the latents. Larger standard deviations have no penalty.
    pooled_dim : int, optional
        Number of coordinates of one latent of a pair [z, z']. If given, the value has the variance penalties of z and
        of z', and one covariance penalty of the pooled samples of both, each centered by its own mean. Unlike in Eq. 9,
        covariances between z and z' are ignored. The paper's code does this for the objective without mutual
        information, with the coefficients 17.5 and 0.75.
    """

    variance: float = 25.0
    covariance: float = 1.0
    target: float = 1.0
    pooled_dim: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative("variance", self.variance)
        check_not_negative("covariance", self.covariance)
        check_positive("target", self.target)
        if self.pooled_dim is not None:
            check_integer("pooled_dim", self.pooled_dim, 1)

    def _entropy(self, v: Tensor) -> Tensor:
        _check_two(len(v))
        if self.pooled_dim is None:
            return -self._variance_penalty(v) - self._covariance_penalty(v)
        if v.shape[1] != 2 * self.pooled_dim:
            message = f"v has {v.shape[1]} columns, but pairs with pooled_dim={self.pooled_dim} have twice that"
            raise InputError(message, parameter="v")
        z, other = v.split(self.pooled_dim, dim=1)
        variances = self._variance_penalty(z) + self._variance_penalty(other)
        return -variances - self._covariance_penalty(torch.cat([z, other]))

    # The samples are centered by a detached mean. The gradients of variances and covariances are the same as with the
    # gradient of the mean, because the derivative of a sum of squares with respect to the mean is zero.
    def _variance_penalty(self, v: Tensor) -> Tensor:
        check_not_identical(v)
        variance = v.square().sum(0) / (len(v) - 1)
        return self.variance * (self.target - (variance + _VARIANCE_FLOOR).sqrt()).clamp_min(0).mean()

    def _covariance_penalty(self, v: Tensor) -> Tensor:
        return self.covariance * _off_diagonal_squares(v) / v.shape[1]


def _check_two(n: int) -> None:
    if n < 2:
        raise InputError(f"v has {n} sample, but a variance needs at least 2: give more samples", parameter="v")


def _off_diagonal_squares(v: Tensor) -> Tensor:
    """Sum the squares of all off-diagonal covariances of centered samples `v` (samples, D)."""
    n, dim = v.shape
    # The matrices V'V and VV' have the same sum of squares; the smaller one is faster.
    product = gram(v.T) if dim <= n else gram(v)
    return (product.square().sum() - v.square().sum(0).square().sum()) / (n - 1) ** 2
