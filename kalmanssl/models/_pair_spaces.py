"""Latent models of pairs: how likely the latents z, z' of two views are.

The four spaces of the LDM paper, one class each: Euclidean space, the unit sphere, the simplex of probabilities, and
categories. A pair has the log-density log P(z) + log P(z' | z), in nats including all constants::

    model = Sphere(concentration=5.0)
    z, z_other = model.project(u), model.project(u_other)  # from outputs of a network to the space
    alignment = (model.log_prior(z) + model.conditional(z).log_prob(z_other)).mean()

How to add one. Derive from `PairLatentModel`: name the `space` (one that the entropy estimators support), and define
`conditional` and `log_prior`; `project` and `check` too if the space is not Euclidean:

    >>> @dataclass(frozen=True)
    ... class GaussianPrior(PairLatentModel):
    ...     variance: float = 1.0
    ...     space: ClassVar[str] = "euclidean"
    ...
    ...     def conditional(self, z):  # (..., dim) -> distribution with log_prob and detach
    ...         return IsotropicGaussian(z, self.variance)
    ...
    ...     def log_prior(self, z):  # (..., dim) -> (...), nats
    ...         return IsotropicGaussian(torch.zeros_like(z), 1.0).log_prob(z)
    >>> z = torch.zeros(5, 2)
    >>> GaussianPrior().conditional(z).log_prob(z).shape
    torch.Size([5])

No registration is needed: pass an instance to `PairModel`. Source: Mikulasch & Zenke (2026), arXiv 2605.03517, "LDM
paper" below.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from kalmanssl.distributions import (
    Conditional,
    Dirichlet,
    VonMisesFisher,
    check_probabilities,
    check_unit_length,
    log_area,
)
from kalmanssl.errors import InputError
from kalmanssl.utils.precision import to_float32
from kalmanssl.utils.torch_ops import unit_vectors
from kalmanssl.utils.validation import check_integer, check_number, check_positive

__all__ = ["Categories", "CategoryMatch", "Euclidean", "IsotropicGaussian", "PairLatentModel", "Simplex", "Sphere"]

_ANNEALING = 4.0  # in each of E epochs the temperature changes by this / E of its difference from the final one


class PairLatentModel(ABC):
    """Base class of the latent models of pairs; see the example in the documentation of this module."""

    space: ClassVar[str]
    """Space of the latents, see `kalmanssl.entropy.make_entropy`."""
    symmetric: ClassVar[bool] = True
    """Whether P(z, z') = P(z', z). If not, the alignment is the mean over both orders."""

    def project(self, u: Tensor) -> Tensor:
        """Map outputs `u` (..., dim) of a network to the space, same shape."""
        return u

    @abstractmethod
    def conditional(self, z: Tensor) -> Conditional:
        """Return the distribution of the other latent of the pair given `z` (..., dim)."""

    @abstractmethod
    def log_prior(self, z: Tensor) -> Tensor:
        """Return the log-density of `z` (..., dim) alone, shape (...), nats."""

    def check(self, z: Tensor) -> None:
        """Raise InputError if latents `z` (..., dim) are not in the space."""
        bad = int((~z.detach().isfinite()).any(-1).sum())
        if bad:
            raise InputError(
                f"z has {bad} of {z[..., 0].numel()} latents with NaN or infinity: leave them out", parameter="z"
            )

    def after_epoch(self, epochs: int) -> None:  # noqa: B027 (most models are not annealed)
        """Anneal parameters after one of `epochs` epochs of training."""


@dataclass(frozen=True)
class IsotropicGaussian:
    """Gaussian in Euclidean space with the same variance in all directions, N(mean, variance I).

    Attributes
    ----------
    mean : (..., dim)
    variance : float
    """

    mean: Tensor
    variance: float

    def log_prob(self, latent: Tensor) -> Tensor:
        """Return the log-density of `latent` (..., dim), shape (...), nats."""
        squared = (to_float32(latent) - to_float32(self.mean)).square().sum(-1)
        return -0.5 * squared / self.variance - 0.5 * latent.shape[-1] * math.log(2 * math.pi * self.variance)

    def detach(self) -> IsotropicGaussian:
        """Return the same distribution without gradients to its parameters."""
        return IsotropicGaussian(self.mean.detach(), self.variance)


@dataclass(frozen=True)
class Euclidean(PairLatentModel):
    """Latents in Euclidean space, Gaussian around each other: P(z' | z) = N(z, variance I), P(z) flat.

    The flat prior is improper with log-density zero, so the objective is defined up to a constant. With an entropy that
    follows the scale (k-nearest neighbors, log-determinant) the variance determines only the scale of the latents.
    Source: LDM paper, Eq. 7 and 39.

    Parameters
    ----------
    variance : float
        Variance of each coordinate of z' around z.
    """

    variance: float = 1.0

    space: ClassVar[str] = "euclidean"

    def __post_init__(self) -> None:
        check_positive("variance", self.variance)

    @classmethod
    def from_precision(cls, precision: float, dim: int) -> Euclidean:
        """Return the model with alignment -precision * mean_i (z_i - z'_i)^2 + const: variance = dim / (2 precision).

        The paper's code and VICReg define precisions this way, with squares averaged over the `dim` coordinates.
        """
        check_positive("precision", precision)
        return cls(dim / (2 * precision))

    def conditional(self, z: Tensor) -> IsotropicGaussian:
        """Return the distribution of the other latent of the pair given `z` (..., dim)."""
        return IsotropicGaussian(z, self.variance)

    def log_prior(self, z: Tensor) -> Tensor:
        """Return zero for every `z` (..., dim), shape (...): the prior is flat and improper."""
        return to_float32(z).new_zeros(z.shape[:-1])


@dataclass(frozen=True)
class Sphere(PairLatentModel):
    """Latents of length one: P(z' | z) von Mises-Fisher around z, P(z) uniform (LDM paper, Eq. 10, 44 and 45).

    Parameters
    ----------
    concentration : float
        Concentration of z' around z; about the inverse of the variance along each direction of the sphere.
    """

    concentration: float = 5.0

    space: ClassVar[str] = "sphere"

    def __post_init__(self) -> None:
        check_positive("concentration", self.concentration)

    def project(self, u: Tensor) -> Tensor:
        """Divide `u` (..., dim) by its length."""
        return unit_vectors(u)

    def conditional(self, z: Tensor) -> VonMisesFisher:
        """Return the distribution of the other latent of the pair given `z` (..., dim), of length one."""
        z = to_float32(z)
        return VonMisesFisher(z, z.new_tensor(self.concentration))

    def log_prior(self, z: Tensor) -> Tensor:
        """Return minus the log of the sphere's area for every `z` (..., dim), shape (...)."""
        return to_float32(z).new_full(z.shape[:-1], -log_area(z.shape[-1]))

    def check(self, z: Tensor) -> None:
        """Raise InputError if a latent of `z` (..., dim) is not finite or not of length one."""
        super().check(z)
        check_unit_length(z)


@dataclass(frozen=True)
class Simplex(PairLatentModel):
    """Latents that are probabilities: P(z' | z) = Dirichlet(1 + precision z), P(z) flat (LDM paper, Eq. 49 and 50).

    The mode of z' is at z. Its log-density has the cross-entropy of DINO, precision * sum_i z_i log z'_i, and a
    normalizer that depends on z. The model is not symmetric in z and z'.

    Parameters
    ----------
    precision : float
        The larger it is, the closer z' is to z; with 0, z' would be uniform on the simplex.
    """

    precision: float = 10.0

    space: ClassVar[str] = "simplex"
    symmetric: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive("precision", self.precision)

    def project(self, u: Tensor) -> Tensor:
        """Return the softmax of `u` (..., dim)."""
        return u.softmax(-1)

    def conditional(self, z: Tensor) -> Dirichlet:
        """Return the distribution of the other latent of the pair given `z` (..., dim), which sums to one."""
        return Dirichlet(1 + self.precision * to_float32(z))

    def log_prior(self, z: Tensor) -> Tensor:
        """Return log Gamma(dim) for every `z` (..., dim), shape (...)."""
        return to_float32(z).new_full(z.shape[:-1], math.lgamma(z.shape[-1]))

    def check(self, z: Tensor) -> None:
        """Raise InputError if a latent of `z` (..., dim) is not finite, negative somewhere or does not sum to one."""
        super().check(z)
        check_probabilities(z)


@dataclass(frozen=True)
class CategoryMatch:
    """The other category of a pair: the same with probability p, else any other with the same probability.

    With b = log((n - 1) p / (1 - p)) and Z = e^b + n - 1, P(c' | c) is e^b / Z if c' = c and 1 / Z if not.

    Attributes
    ----------
    probabilities : (..., n)
        q, of the category c that is known; the latent of the encoder is not c but how likely each c is.
    log_odds : ()
        b.
    """

    probabilities: Tensor
    log_odds: Tensor

    def log_prob(self, latent: Tensor) -> Tensor:
        """Return the mean of log P(c' | c) over c drawn from q and c' from `latent` = q' (..., n), shape (...), nats.

        The encoder returns probabilities, and the categories of both views are independent draws from them. The
        mean is b sum_c q_c q'_c - log Z, without drawing (LDM paper, Eq. 80). It is not the logarithm of the
        mean probability, because the entropy of the objective is that of the drawn categories.
        """
        others, log_odds = math.log(latent.shape[-1] - 1), to_float32(self.log_odds)
        log_sum = torch.logaddexp(log_odds, log_odds.new_tensor(others))
        return log_odds * (to_float32(self.probabilities) * to_float32(latent)).sum(-1) - log_sum

    def detach(self) -> CategoryMatch:
        """Return the same distribution without gradients to its parameters."""
        return CategoryMatch(self.probabilities.detach(), self.log_odds.detach())


class Categories(PairLatentModel, nn.Module):
    """One of n categories, the same in both views with probability p, all equally frequent (LDM paper, Eq. 79-80).

    The latent is the vector of probabilities of the categories given the view. Training may begin with a lower p, at
    which views change their category more easily, and end at the true one: the temperature 1 / log((n - 1) p / (1 - p))
    then goes from that of `match_probability` to that of `final`. Each of E epochs reduces the difference from the
    final one by the share 4/E, so that (1 - 4/E)^e of it remains after e epochs, about 2 % at the end.

    Parameters
    ----------
    n : int
        Number of categories, at least 2.
    match_probability : float
        p, larger than chance, 1/n, and below one.
    final : float, optional
        p at the end of training; None leaves it as it is.
    """

    space: ClassVar[str] = "categories"
    temperature: Tensor

    def __init__(self, n: int, match_probability: float = 0.8, final: float | None = None) -> None:
        super().__init__()
        check_integer("n", n, 2)
        self.n = n
        self.match_probability = match_probability
        self.final = final
        # A buffer, so that it is saved in checkpoints.
        self.register_buffer("temperature", torch.tensor(1 / self._log_odds("match_probability", match_probability)))
        self._final_temperature = None if final is None else 1 / self._log_odds("final", final)

    def _log_odds(self, name: str, p: float) -> float:
        check_number(name, p)
        if not 1 / self.n < p < 1:
            raise InputError(f"{name} must be between chance, 1/{self.n}, and 1, got {p}", parameter=name)
        return math.log((self.n - 1) * p / (1 - p))

    def project(self, u: Tensor) -> Tensor:
        """Return the softmax of `u` (..., n)."""
        return u.softmax(-1)

    def conditional(self, z: Tensor) -> CategoryMatch:
        """Return the distribution of the other category given probabilities `z` (..., n) of this one."""
        return CategoryMatch(z, 1 / self.temperature)

    def log_prior(self, z: Tensor) -> Tensor:
        """Return minus log n for every `z` (..., n), shape (...)."""
        return to_float32(z).new_full(z.shape[:-1], -math.log(self.n))

    def check(self, z: Tensor) -> None:
        """Raise InputError if `z` (..., n) does not have probabilities of the n categories."""
        if z.shape[-1] != self.n:
            message = f"z has {z.shape[-1]} columns, but there are n={self.n} categories: they must be equal"
            raise InputError(message, parameter="z")
        super().check(z)
        check_probabilities(z)

    def after_epoch(self, epochs: int) -> None:
        """Reduce the difference of the temperature from the final one by the share 4 / `epochs`."""
        if self._final_temperature is not None:
            self.temperature.lerp_(self.temperature.new_tensor(self._final_temperature), min(_ANNEALING / epochs, 1.0))

    def extra_repr(self) -> str:
        """Return the settings, for `repr`."""
        return f"n={self.n}, match_probability={self.match_probability}, final={self.final}"
