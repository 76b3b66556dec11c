"""Entropy from a kernel density estimate, evaluated at its own samples, as in contrastive methods.

There is one estimator for each space. Its kernel has the same form as the latent model for that space. For concatenated
latents v = [z, z'], the kernel is the product of the kernels of z and z'. The exponents of all pairs of samples are
computed by one matrix product, so that no array (samples, samples, dim) is needed.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from kalmanssl.distributions import check_probabilities, check_unit_length, log_normalizer, log_of_probabilities
from kalmanssl.entropy._base import EntropyEstimator, check_not_identical, identical_error, rescale, split_latents
from kalmanssl.errors import InputError
from kalmanssl.utils.precision import finest_dtype
from kalmanssl.utils.torch_ops import gram
from kalmanssl.utils.validation import check_integer, check_positive

__all__ = ["DirichletKDEEntropy", "GaussianKDEEntropy", "VonMisesFisherKDEEntropy"]

_RULES = ("scott", "silverman")
_ROUNDING = 0.01  # largest rounding error of an exponent for which the fast matrix product is used
_FAR = 1e18  # distance in kernel widths whose square is still finite in single precision
_SMALL = 100.0  # up to this concentration, rounding of cosines in single precision changes exponents by at most 1e-5


@dataclass(frozen=True)
class _KernelDensityEntropy(EntropyEstimator):
    """Base class of kernel density estimators: H = −(1/N) Σ_i log (1/M) Σ_j K(v_i; v_j) (LDM paper, Eq. 32).

    Parameters
    ----------
    leave_one_out : bool
        Exclude j = i from the sum, with M = N − 1, as in SimCLR's NT-Xent loss. Otherwise M = N, as in the paper's
        code; the estimate then saturates if the distances between samples are larger than the kernel width.
    """

    leave_one_out: bool = field(default=False, kw_only=True)

    def _entropy(self, v: Tensor) -> Tensor:
        n = len(v)
        if n < 2:
            message = f"v has {n} sample, but a kernel density needs at least 2: give more samples"
            raise InputError(message, parameter="v")
        check_not_identical(v)
        exponent, constant = self._log_kernel(v)
        if self.leave_one_out:
            exponent = exponent + torch.full((n,), -math.inf, dtype=v.dtype, device=v.device).diag()
        return math.log(n - 1 if self.leave_one_out else n) - constant - exponent.logsumexp(1).mean()

    @abstractmethod
    def _log_kernel(self, v: Tensor) -> tuple[Tensor, Tensor | float]:
        """Compute log K(v_i; v_j) without its constant, (samples, samples), and the constant."""


@dataclass(frozen=True)
class GaussianKDEEntropy(_KernelDensityEntropy):
    """Entropy from a kernel density estimate with Gaussian kernels (LDM paper, Eq. 32).

    H = −(1/N) Σ_i log (1/M) Σ_j N(v_i; v_j, b² I). With a fixed bandwidth b it is the entropy term of contrastive
    methods. The scaling law holds only with a bandwidth by rule, which is proportional to the samples. With a fixed
    bandwidth, the weight of the entropy in the objective therefore changes the scale of the latents.

    Bias in nats at N = 2000 with Scott's rule:

    ===============================  ======  ======  ======  ======  ======
    D                                1       2       4       8       16
    ===============================  ======  ======  ======  ======  ======
    standard normal                  0.00    −0.03   −0.25   −1.80   −6.50
    standard normal, leave-one-out   +0.01   +0.01   +0.07   +0.35   +1.28
    uniform                          +0.06   +0.15   +0.32   −0.32   −3.66
    uniform, leave-one-out           +0.06   +0.16   +0.45   +1.34   +3.94
    ===============================  ======  ======  ======  ======  ======

    Without leave-one-out, the density at a sample is at least 1/N of the maximum of its own kernel, so the entropy is
    at most log N + (D/2) log 2πb². With leave-one-out, the width of the kernels makes the estimate too high.

    Parameters
    ----------
    bandwidth : float or {"scott", "silverman"}
        Standard deviation b of the kernel in units of `v`, or a rule. Scott's rule is σ N^(−1/(D+4)) with σ² the mean
        variance; Silverman's has the additional factor (4/(D+2))^(1/(D+4)) (Silverman 1986, Density Estimation,
        section 4.3).
    leave_one_out : bool
        Exclude j = i from the sum, with M = N − 1; otherwise M = N.
    """

    bandwidth: float | str = "scott"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_width("bandwidth", self.bandwidth)

    def _log_kernel(self, v: Tensor) -> tuple[Tensor, Tensor]:
        dim, log_scale = v.shape[1], 0.0
        if isinstance(self.bandwidth, str):
            v, log_scale = rescale(v)
            width = _rule(self.bandwidth, v, dim)
        else:
            width = v.new_tensor(self.bandwidth)
        constant = -dim * (width.log() + log_scale + 0.5 * math.log(2 * math.pi))
        return _minus_half_squared_distances(v / width), constant


@dataclass(frozen=True)
class VonMisesFisherKDEEntropy(_KernelDensityEntropy):
    """Entropy of unit vectors from a kernel density estimate with von Mises-Fisher kernels (LDM paper, Eq. 48).

    H = −(1/N) Σ_i log (1/M) Σ_j C(γ) exp(γ z_i·z_j), with respect to the area of the sphere. For pairs of unit vectors,
    the kernel is C(γ)² exp(γ (z_i·z_j + z'_i·z'_j)), Eq. 47. With `leave_one_out` and γ the inverse temperature, it is
    the denominator of SimCLR's loss, with negatives from the same view only. The concentration γ determines up to which
    distance samples repel each other.

    Bias in nats for 2000 uniform samples on the sphere with Scott's rule:

    ==================  ======  ======  ======  ======  ======
    coordinates         2       3       4       8       16
    ==================  ======  ======  ======  ======  ======
    all samples         0.00    −0.02   −0.07   −1.50   −6.99
    leave-one-out       0.00    +0.01   +0.02   +0.16   +0.89
    ==================  ======  ======  ======  ======  ======

    Parameters
    ----------
    concentration : float or {"scott", "silverman"}
        γ of the kernel, or a rule: 1/b², with b as in `GaussianKDEEntropy`. For this, D is the dimension of the sphere,
        the number of coordinates minus one (twice that for pairs), and σ² is the variance per dimension,
        (1 − |⟨z⟩|²) / D for single latents.
    sphere_dim : int, optional
        Number of coordinates of one unit vector, if several are concatenated.
    leave_one_out : bool
        Exclude j = i from the sum, with M = N − 1; otherwise M = N.
    """

    concentration: float | str = "scott"
    sphere_dim: int | None = None

    spaces: ClassVar[tuple[str, ...]] = ("sphere",)
    dim_setting: ClassVar[str | None] = "sphere_dim"
    shift_invariant: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_width("concentration", self.concentration)
        if self.sphere_dim is not None:
            check_integer("sphere_dim", self.sphere_dim, 2)

    def _check_space(self, v: Tensor) -> None:
        check_unit_length(split_latents(v, self.sphere_dim or v.shape[1], "sphere_dim"), "v")

    def _log_kernel(self, v: Tensor) -> tuple[Tensor, Tensor]:
        dim = self.sphere_dim or v.shape[1]
        count = v.shape[1] // dim
        if isinstance(self.concentration, str):
            concentration = _rule(self.concentration, v, count * (dim - 1)) ** -2
        else:
            concentration = v.new_tensor(self.concentration)
        precise = concentration.to(finest_dtype(v))
        constant = count * log_normalizer(dim, precise)
        if concentration <= _SMALL:
            return gram(concentration.sqrt() * v), constant.to(v.dtype)
        # z·z' = 1 − |z − z'|²/2 avoids the rounding error of a cosine close to one, times a large concentration.
        exponent = _minus_half_squared_distances(concentration.sqrt() * (v - v.detach().mean(0)))
        return exponent, (constant + count * precise).to(v.dtype)


@dataclass(frozen=True)
class DirichletKDEEntropy(_KernelDensityEntropy):
    """Entropy of probability vectors from a kernel density estimate with Dirichlet kernels (LDM paper, Eq. 51).

    H = −(1/N) Σ_i log (1/M) Σ_j Dir(z_i; 1 + β z_j); for pairs, the kernel is the product of two such densities. The
    normalization depends on the center z_j of the kernel. Kernels near the corners of the simplex are much narrower
    than those in the middle.

    There is no rule for the precision. Training moves most samples to the corners of the simplex, and there the
    variance of the samples does not indicate how wide the kernels should be.

    Bias in nats for 2000 uniform samples on the simplex:

    =======================  ======  ======  ======
    coordinates              3       4       8
    =======================  ======  ======  ======
    β = 50                   0.00    −0.06   −1.88
    β = 50, leave-one-out    +0.02   +0.06   +0.58
    β = 10                   +0.05   +0.07   +0.11
    β = 10, leave-one-out    +0.05   +0.08   +0.21
    =======================  ======  ======  ======

    Parameters
    ----------
    precision : float
        β of the kernel.
    simplex_dim : int, optional
        Number of coordinates of one probability vector, if several are concatenated.
    leave_one_out : bool
        Exclude j = i from the sum, with M = N − 1; otherwise M = N.
    """

    precision: float = 10.0
    simplex_dim: int | None = None

    spaces: ClassVar[tuple[str, ...]] = ("simplex",)
    dim_setting: ClassVar[str | None] = "simplex_dim"
    shift_invariant: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("precision", self.precision)
        if self.simplex_dim is not None:
            check_integer("simplex_dim", self.simplex_dim, 2)

    def _check_space(self, v: Tensor) -> None:
        check_probabilities(split_latents(v, self.simplex_dim or v.shape[1], "simplex_dim"), "v")

    def _log_kernel(self, v: Tensor) -> tuple[Tensor, float]:
        dim = self.simplex_dim or v.shape[1]
        center = self.precision * v
        exponent = log_of_probabilities(v) @ center.T - (1 + center).lgamma().sum(1)
        return exponent, v.shape[1] // dim * math.lgamma(self.precision + dim)


def _check_width(name: str, value: float | str) -> None:
    if not isinstance(value, str):
        check_positive(name, value)
    elif value not in _RULES:
        raise InputError(f"{name} must be a number, 'scott' or 'silverman', got {value!r}", parameter=name)


def _rule(name: str, v: Tensor, dim: int) -> Tensor:
    """Compute the bandwidth by Scott's or Silverman's rule, for samples `v` that vary in `dim` dimensions."""
    n = len(v)
    variance = (v - v.mean(0)).square().sum() / ((n - 1) * dim)
    if not variance > 0:
        raise identical_error(n)
    factor = float(n ** (-1 / (dim + 4)))
    if name == "silverman":
        factor *= (4 / (dim + 2)) ** (1 / (dim + 4))
    return factor * variance.sqrt()


def _minus_half_squared_distances(v: Tensor) -> Tensor:
    """Compute minus half the squared distances between the rows of `v`, (samples, samples)."""
    half_norm = 0.5 * v.square().sum(1)
    if not half_norm.max() * torch.finfo(v.dtype).eps < _ROUNDING:
        # Samples are hundreds of kernel widths from the mean. Kernels vanish at much shorter distances than the limit.
        return -0.5 * torch.cdist(v, v, compute_mode="donot_use_mm_for_euclid_dist").clamp_max(_FAR).square()
    # Rounding errors could make squared distances negative, or the distance of a sample to itself positive.
    exponent = gram(v) - half_norm - half_norm[:, None]
    return exponent.clamp_max(0.0).masked_fill(torch.eye(len(v), dtype=torch.bool, device=v.device), 0.0)
