"""Estimators of differential entropy from samples, in nats and with every constant.

Latent distribution matching maximises the log-probability of the latents under a model plus their entropy.
The log-probability is exact; the entropy has to be estimated from samples, and the estimators here differ in
what they assume and in how far off they are. To add one: write a frozen dataclass below with an `_entropy`
method and give it a line in `ENTROPIES`.

The biases given in the docstrings were measured on 2000 samples, averaged over seeds; `tests/test_entropy.py`
holds every estimator to them. All of them (the kernel density only if its bandwidth follows the data) obey
the law of scale, H[c z] = H[z] + D log c, in value *and* in gradient: with a learned noise covariance any
other factor shrinks the latents to zero or blows them up.

Source: Mikulasch & Zenke (2026), arXiv 2605.03517, "LDM paper" below.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from kalmanssl.errors import InputError

__all__ = [
    "ENTROPIES",
    "ConditionalPlugIn",
    "EntropyEstimator",
    "GaussianKDEEntropy",
    "KNNEntropy",
    "LogDetEntropy",
    "conditional_entropy",
    "make_entropy",
]

_CHUNK = 1024  # rows of the distance matrix held at once while neighbours are searched
_SPARE = 5  # neighbours searched beyond k, so that rounding in the search cannot change the k-th distance
_DUPLICATE = 1e-6  # distances below this fraction of the median distance count as a duplicate


@dataclass(frozen=True)
class EntropyEstimator(ABC):
    """Base of the sample estimators: checks the samples, takes a subset if asked, and calls `_entropy`.

    Parameters
    ----------
    max_samples : int, optional
        Use at most this many of the samples, drawn without replacement. The cost of kNN and KDE grows with
        the square of their number.
    """

    max_samples: int | None = field(default=None, kw_only=True)

    conditional: ClassVar[bool] = False
    """True for an estimator that needs the model's predictive distribution, see `ConditionalPlugIn`."""

    def __post_init__(self) -> None:
        if self.max_samples is not None and self.max_samples < 2:
            raise InputError(f"max_samples must be at least 2 or None, got {self.max_samples}")

    def __call__(self, v: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Estimate the entropy of the distribution that the rows of `v` were drawn from.

        Parameters
        ----------
        v : (samples, D)
            Samples; half precision is computed in float32. Sequences are pooled first: `z.flatten(0, 1)`.
        generator : torch.Generator, optional
            Source of the subset when there are more than `max_samples` rows. Without one the subset depends
            on the number of rows only, so that the same input gives the same estimate.

        Returns
        -------
        Tensor
            Scalar, nats, differentiable with respect to `v`.

        Raises
        ------
        InputError
            If `v` is not a matrix of finite floats, has too few rows, or all of its rows are the same.
        """
        _check_samples(v)
        v = self.subset(v, generator=generator)
        with torch.autocast(v.device.type, enabled=False):
            if v.dtype in (torch.float16, torch.bfloat16):
                v = v.float()
            # A large common offset would eat the digits of every difference and product below.
            return self._entropy(v - v.detach().mean(0))

    def subset(self, v: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return at most `max_samples` rows of `v`."""
        if self.max_samples is None or len(v) <= self.max_samples:
            return v
        generator = generator or torch.Generator().manual_seed(0)
        order = torch.randperm(len(v), generator=generator, device=generator.device)
        return v[order[: self.max_samples].to(v.device)]

    @abstractmethod
    def _entropy(self, v: Tensor) -> Tensor:
        """Entropy in nats of centred, finite float samples `v` (samples, D)."""


@dataclass(frozen=True)
class KNNEntropy(EntropyEstimator):
    """Kozachenko-Leonenko estimator from the distance r_i of each sample to its k-th nearest other sample.

    H = ψ(N) − ψ(k) + log V_D + (D/N) Σ_i log r_i, with V_D the volume of the unit ball (LDM paper, Eq. 33).
    It assumes only that the density is flat over the k-th neighbour's distance.

    In training, distances above the `clip_quantile` quantile are clipped there, so that outliers are not
    pushed out further. The clip level moves with the geometric mean of the other distances; a level held
    constant would take the clipped tenth out of the gradient and leave a change of scale with 0.9 of its
    weight. Duplicates (distance below 1e-6 of the median) count as 1e-6 of the median, tied to the scale of
    the others in the same way; the true entropy of a distribution with atoms is minus infinity.

    Bias at N = 2000, k = 3, unclipped, in nats for D = 1, 2, 4, 8, 16. Standard normal: −0.01, −0.01, −0.06,
    −0.04, +0.52; uniform: −0.01, +0.02, +0.22, +1.10, +3.45 (neighbourhoods that stick out over the edge
    count as full). With correlations of 0.5 the normal gives −0.01, −0.01, −0.06, +0.01, +0.75. It falls with
    N only as N^(−2/D). Clipping at 0.9 lowers the value by a further 0.08 to 0.11 on a normal (0.02 to 0.06
    on a uniform), so measure with `clip_quantile=None`.

    Samples on a sphere fill one dimension less than they have coordinates, and D is then that number. (The other
    estimators need no such setting there: a Gaussian kernel of fixed bandwidth b is on the sphere a von Mises-Fisher
    kernel of concentration 1/b², another constant aside, and the log-determinant is a stand-in that is greatest where
    all directions are equally spread.) Bias on 2000 uniform samples of the sphere in 3 dimensions: 0.00.

    Parameters
    ----------
    k : int
        Which neighbour. More neighbours: less variance, more bias.
    clip_quantile : float or None
        Quantile of the distances at which they are clipped, in (0, 1]; None (for measuring) keeps them all.
    sphere_dim : int or None
        For unit vectors of so many coordinates, or several such side by side: the entropy is by area of the sphere.
    """

    k: int = 3
    clip_quantile: float | None = 0.9
    sphere_dim: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k < 1:
            raise InputError(f"k must be at least 1, got {self.k}")
        if self.clip_quantile is not None and not 0 < self.clip_quantile <= 1:
            raise InputError(f"clip_quantile must lie in (0, 1] or be None, got {self.clip_quantile}")
        if self.sphere_dim is not None and self.sphere_dim < 2:
            raise InputError(f"sphere_dim must be at least 2 or None, got {self.sphere_dim}")

    def _entropy(self, v: Tensor) -> Tensor:
        n, dim = v.shape
        if self.sphere_dim is not None:
            if dim % self.sphere_dim:
                raise InputError(f"v has {dim} columns, not a multiple of sphere_dim={self.sphere_dim}")
            dim -= dim // self.sphere_dim
        if n <= self.k:
            raise InputError(
                f"v has {n} samples, but the k={self.k} nearest neighbour needs more than {self.k}: "
                "give more samples or a smaller k"
            )
        # Only the N distances that count are differentiated, not the N² that were searched.
        squared = (v - v[_kth_neighbour(v.detach(), self.k)]).square().sum(1)
        radius = squared.detach().sqrt()
        if not (radius > 0).any():
            raise _identical_error(n)
        median = radius[radius > 0].median()
        upper = radius.max() if self.clip_quantile is None else radius.sort().values[self._clip_index(n)]
        upper = torch.maximum(upper, median)
        floor = _DUPLICATE * median
        alive = (radius > floor) & (radius <= upper)
        anchor = 0.5 * squared[alive].log().mean()
        mean_log = anchor + (radius.clamp(floor, upper).log().mean() - anchor).detach()
        return _digamma(n) - _digamma(self.k) + _log_ball_volume(dim) + dim * mean_log

    def _clip_index(self, n: int) -> int:
        return max(math.ceil((self.clip_quantile or 1.0) * n) - 1, 0)


@dataclass(frozen=True)
class LogDetEntropy(EntropyEstimator):
    """Entropy of the Gaussian with the samples' covariance: ½ log det Σ + (D/2) log 2πe.

    LDM paper, Eq. 34. For samples that are not Gaussian it is an upper bound and stays one however many
    there are: on a uniform cube it is too high by ½ log(2πe/12) = 0.1765 nats in each dimension.

    Bias on Gaussian samples, any covariance: ½ [Σ_{i=1..D} ψ((N−i)/2) + D log(2/(N−1))], about −D(D+1)/(4N):
    −0.0003, −0.001, −0.003, −0.009, −0.034 nats at N = 2000 for D = 1, 2, 4, 8, 16.

    Parameters
    ----------
    ridge : float
        Added to the diagonal of the covariance, as a fraction of the mean variance, so that a latent that has
        lost a dimension keeps a finite entropy and a gradient. Being relative it does not disturb the law of
        scale.
    """

    ridge: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.ridge >= 0:
            raise InputError(f"ridge must not be negative, got {self.ridge}")

    def _entropy(self, v: Tensor) -> Tensor:
        n, dim = v.shape
        if n <= dim:
            raise InputError(
                f"v has {n} samples in {dim} dimensions, but a covariance needs more samples than dimensions: give "
                "more samples or fewer dimensions"
            )
        dtype = v.dtype
        if v.device.type != "mps":  # which has no float64
            v = v.double()
        v = v - v.mean(0)
        scale = v.square().sum() / ((n - 1) * dim)
        if not scale > 0:
            raise _identical_error(n)
        # Dividing by the scale keeps the determinant of very small or very large latents representable.
        cov = v.T @ v / ((n - 1) * scale) + self.ridge * torch.eye(dim, dtype=v.dtype, device=v.device)
        sign, logdet = torch.linalg.slogdet(cov)
        if not (sign > 0 and torch.isfinite(logdet)):
            raise InputError(
                f"the covariance of v is singular with ridge={self.ridge}: "
                "a dimension is constant or repeats others, give a larger ridge"
            )
        return (0.5 * (logdet + dim * scale.log()) + 0.5 * dim * math.log(2 * math.pi * math.e)).to(dtype)


@dataclass(frozen=True)
class GaussianKDEEntropy(EntropyEstimator):
    """Minus the mean log of a Gaussian kernel density at its own samples (LDM paper, Eq. 32).

    H = −(1/N) Σ_i log (1/M) Σ_j N(v_i; v_j, b² I). With a fixed bandwidth it is the contrastive estimator;
    the weight of the entropy then matters, since the law of scale holds only if the bandwidth follows the
    data.

    Bias at N = 2000 in nats for D = 1, 2, 4, 8, 16, with Scott's rule. Standard normal: 0.00, −0.03, −0.25,
    −1.80, −6.50, leaving each sample out of its own density +0.01, +0.01, +0.07, +0.35, +1.28; uniform:
    +0.06, +0.15, +0.32, −0.32, −3.66, left out +0.06, +0.16, +0.45, +1.34, +3.94. With itself, a sample's
    density cannot fall below 1/N of the kernel's peak, which bounds the entropy at log N + (D/2) log 2πb²;
    without, the kernel's width makes the estimate too high.

    Parameters
    ----------
    bandwidth : float or {"scott", "silverman"}
        Standard deviation b of the kernel in units of `v`, or a rule: σ N^(−1/(D+4)) with σ² the mean
        variance, times (4/(D+2))^(1/(D+4)) for Silverman's (Silverman 1986, Density Estimation, section 4.3).
    leave_one_out : bool
        Leave each sample out of its own density (M = N − 1).
    """

    bandwidth: float | str = "scott"
    leave_one_out: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.bandwidth, str):
            if self.bandwidth not in ("scott", "silverman"):
                raise InputError(f"bandwidth must be a number, 'scott' or 'silverman', got {self.bandwidth!r}")
        elif not (self.bandwidth > 0 and math.isfinite(self.bandwidth)):
            raise InputError(f"bandwidth must be positive, got {self.bandwidth}")

    def _entropy(self, v: Tensor) -> Tensor:
        n, dim = v.shape
        if n < 2:
            raise InputError(f"v has {n} sample, but a kernel density needs at least 2: give more samples")
        width = self._width(v)
        v = v / width
        norm = v.square().sum(1)
        # Rounding here is small beside the unit width of the kernel, unlike beside a neighbour's distance.
        exponent = -0.5 * (norm[:, None] + norm - 2 * v @ v.T).clamp_min(0)
        own = torch.eye(n, dtype=torch.bool, device=v.device)
        exponent = exponent.masked_fill(own, -math.inf if self.leave_one_out else 0.0)
        log_sum = exponent.logsumexp(1).mean()
        terms = n - 1 if self.leave_one_out else n
        return math.log(terms) + dim * (width.log() + 0.5 * math.log(2 * math.pi)) - log_sum

    def _width(self, v: Tensor) -> Tensor:
        n, dim = v.shape
        if not isinstance(self.bandwidth, str):
            return v.new_tensor(self.bandwidth)
        variance = (v - v.mean(0)).square().sum() / ((n - 1) * dim)
        if not variance > 0:
            raise _identical_error(n)
        rule = n ** (-1 / (dim + 4))
        if self.bandwidth == "silverman":
            rule *= (4 / (dim + 2)) ** (1 / (dim + 4))
        return rule * variance.sqrt()


class Predictive(Protocol):
    """What the stop-gradient estimator asks of a predictive distribution."""

    def log_prob(self, latent: Tensor, /) -> Tensor:
        """Log-density of each latent, nats."""

    def detach(self) -> Predictive:
        """Return the same distribution without gradients to its parameters."""


class ConditionalPlugIn:
    """The stop-gradient loss: conditional entropy with the model's own prediction as the density.

    H[z_t | z_<t] = −⟨log P(z_t | z_<t)⟩ with the prediction and its parameters held fixed (LDM paper, Eq. 14,
    35). Added to the alignment ⟨log P(z_t | z_<t)⟩ it leaves exactly the gradient of ⟨log P(sg(z_t) | z_<t)⟩,
    the loss of BYOL, SimSiam and JEPA (Eq. 54). It has no mutual-information term.

    The *value* of the sum is zero at every step: watch the alignment instead. The estimate is an upper bound
    of the conditional entropy, too high by the Kullback-Leibler divergence of the truth from the prediction,
    so the predictor has to learn faster than the encoder; for residuals that are not Gaussian the bias stays.
    """

    conditional: ClassVar[bool] = True

    def __call__(self, latent: Tensor, conditional: Predictive) -> Tensor:
        """Return the mean over steps of −log P(latent), with the distribution P held fixed.

        Parameters
        ----------
        latent : (..., L)
            Encoder outputs; the gradient goes here and nowhere else.
        conditional
            Predictive distribution of each latent, with `log_prob(latent)` and `detach()`, see
            `kalmanssl.latent_models`.

        Returns
        -------
        Tensor
            Scalar, nats for each step.

        Raises
        ------
        InputError
            If `conditional` is no such distribution.
        """
        if not (hasattr(conditional, "detach") and hasattr(conditional, "log_prob")):
            raise InputError(
                f"the stop-gradient entropy needs the predictive distribution, got {type(conditional).__name__}: "
                "give one with log_prob and detach, or measure samples with 'knn', 'logdet' or 'kde'"
            )
        return -conditional.detach().log_prob(latent).mean()

    def __repr__(self) -> str:
        return "ConditionalPlugIn()"


def conditional_entropy(
    estimator: EntropyEstimator, v: Tensor, given: Tensor, *, generator: torch.Generator | None = None
) -> Tensor:
    """Entropy of `v` given another variable: H[v | given] = H[(v, given)] − H[given].

    The two terms have different dimensions and hence different biases, which do not cancel; with many
    dimensions of `given` the result is dominated by them.

    Parameters
    ----------
    estimator : EntropyEstimator
        A sample estimator; for measuring, one that does not clip.
    v : (samples, D)
        The variable.
    given : (samples, E)
        What is known, row by row.
    generator : torch.Generator, optional
        As for the estimator; both terms use the same subset.

    Returns
    -------
    Tensor
        Scalar, nats.

    Raises
    ------
    InputError
        If the numbers of rows differ, or for what the estimator refuses.
    """
    for name, samples in (("v", v), ("given", given)):
        _check_samples(samples, name)
    if len(v) != len(given):
        raise InputError(f"v has {len(v)} samples and given {len(given)}: they must be paired row by row")
    if estimator.conditional:
        raise InputError("conditional_entropy needs a sample estimator: 'knn', 'logdet' or 'kde'")
    joint = estimator.subset(torch.cat([v, given], dim=1), generator=generator)
    return estimator(joint) - estimator(joint[:, v.shape[1] :])


ENTROPIES: dict[str, Callable[..., EntropyEstimator | ConditionalPlugIn]] = {
    "knn": KNNEntropy,
    "logdet": LogDetEntropy,
    "kde": GaussianKDEEntropy,
    "stopgrad": ConditionalPlugIn,
}
"""Name of each estimator and how to make it."""


def make_entropy(
    entropy: str | EntropyEstimator | ConditionalPlugIn, **settings: Any
) -> EntropyEstimator | ConditionalPlugIn:
    """Return the estimator of that name, made with `settings`; an estimator itself passes through.

    Raises
    ------
    InputError
        If there is no estimator of that name, or it does not know a setting.
    """
    if not isinstance(entropy, str):
        if not isinstance(entropy, EntropyEstimator | ConditionalPlugIn):
            raise InputError(f"entropy must be a name or an EntropyEstimator, got {entropy!r}: use one of {_known()}")
        if settings:
            raise InputError(f"settings {sorted(settings)} go with a name, not with the estimator {entropy!r}")
        return entropy
    if entropy not in ENTROPIES:
        close = get_close_matches(entropy.lower(), ENTROPIES, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise InputError(f"there is no entropy estimator {entropy!r}: {hint}use one of {_known()}")
    try:
        return ENTROPIES[entropy](**settings)
    except TypeError as error:
        raise InputError(f"entropy {entropy!r}: {error}") from error


def _known() -> str:
    return ", ".join(repr(name) for name in ENTROPIES)


def _check_samples(v: Tensor, name: str = "v") -> None:
    if not isinstance(v, Tensor) or not v.is_floating_point():
        kind = v.dtype if isinstance(v, Tensor) else type(v).__name__
        raise InputError(f"{name} must be a tensor of floats, got {kind}: use torch.as_tensor({name}).float()")
    if v.ndim != 2 or v.shape[1] == 0:
        raise InputError(
            f"{name} must have shape (samples, D), got {tuple(v.shape)}: pool sequences by {name}.flatten(0, -2)"
        )
    bad = int((~torch.isfinite(v)).any(1).sum())
    if bad:
        raise InputError(f"{name} has {bad} of {len(v)} rows with NaN or infinity: leave them out")


def _identical_error(n: int) -> InputError:
    return InputError(
        f"the {n} samples of v lie on one point, so their entropy is minus infinity: "
        "the latents have collapsed, or too few of the samples are distinct"
    )


@torch.no_grad()
def _kth_neighbour(v: Tensor, k: int) -> Tensor:
    """Index of the k-th nearest other row of each row of centred samples `v`, searched in blocks of rows."""
    n = len(v)
    count = min(k + _SPARE, n - 1)
    found = []
    for start in range(0, n, _CHUNK):
        rows = v[start : start + _CHUNK]
        here = torch.arange(start, start + len(rows), device=v.device)
        distance = torch.cdist(rows, v, compute_mode="use_mm_for_euclid_dist")
        distance[here - start, here] = math.inf
        near = distance.topk(count, largest=False).indices
        exact = (rows[:, None] - v[near]).square().sum(2)
        found.append(near.gather(1, exact.argsort(1)[:, k - 1 : k])[:, 0])
    return torch.cat(found)


def _digamma(x: int) -> float:
    return float(torch.digamma(torch.tensor(float(x), dtype=torch.float64)))


def _log_ball_volume(dim: int) -> float:
    return 0.5 * dim * math.log(math.pi) - math.lgamma(1 + dim / 2)
