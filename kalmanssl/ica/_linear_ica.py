"""Linear independent component analysis as latent distribution matching.

The plainest case of the idea: the encoder is a matrix, the latent model a product of source densities, and the entropy
of the latents is known exactly, log|det W| plus that of the data. What is maximized is then the likelihood of the data.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, Self

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from kalmanssl.errors import InputError
from kalmanssl.ica._source_densities import (
    DENSITIES,
    GaussianSources,
    GeneralizedGaussian,
    HyperbolicSecant,
    SourceDensity,
    check_density,
    log_densities,
    make_density,
)
from kalmanssl.utils.arrays import as_floats, without_tensors
from kalmanssl.utils.validation import check_number, check_setting, check_whole

__all__ = [
    "DENSITIES",
    "GaussianSources",
    "GeneralizedGaussian",
    "HyperbolicSecant",
    "LinearICA",
    "SourceDensity",
    "log_likelihood",
]

_SINGULAR = 1e-10  # ratio of the smallest to the largest singular value below which data count as of lower rank
_KINK = 1e-3  # of the standard deviation of a source


def log_likelihood(x: Tensor, unmixing: Tensor, density: SourceDensity) -> Tensor:
    """Mean log-density of data whose sources ``x @ unmixing.T`` are independent.

    Σ_i <log p_i((W x)_i)> + log|det W|: alignment with the latent model plus the entropy that W adds to the data's.
    Source: LDM paper, Eq. 3.

    Parameters
    ----------
    x : (samples, dims)
        Data of mean zero.
    unmixing : (dims, dims)
        W.
    density : SourceDensity

    Returns
    -------
    Tensor
        Scalar, nats per sample.

    Raises
    ------
    InputError
        If the density does not give one value for every source.
    """
    return log_densities(density, x @ unmixing.mT).sum(-1).mean() + torch.linalg.slogdet(unmixing).logabsdet


class LinearICA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Find independent sources of which every channel of the data is a weighted sum.

    Maximizes `log_likelihood` over the unmixing matrix, in double precision with all samples at once. The sources are
    found up to their order and sign, if their densities are peaked or flat on the same side of a Gaussian as the one
    assumed; its exact shape matters for the precision alone.

    Where the density leaves order and sign open, they are fixed by convention, so that they do not depend on the start
    or on the units of the features. Sources come in the order of <log p(z)> + log std(z), their mean log-density at
    variance one, the greatest first: the most peaked, or with a flat density the flattest, come first. Each has the
    sign at which it correlates positively with the feature that it correlates with most; the last one of a rotation
    has the one at which no axis is mirrored. `GaussianSources` have an order of their own, that of their variances.

    Parameters
    ----------
    density : {"laplace", "sech", "sub-gaussian"} or SourceDensity
        Of the sources, see `kalmanssl.ica`.
    unmixing : {"free", "rotation"}
        Any invertible matrix, or a rotation of the data as they are. Gaussian sources need "rotation".
    n_starts : int
        Random rotations of the whitened data to start from; the end with the greatest likelihood is kept.
    max_iter : int
        Steps of L-BFGS from each start.
    tol : float
        Largest entry of the relative gradient, by which the likelihood changes in nats per relative change of the
        unmixing matrix, that counts as converged. Its sampling error is about one over the root of the number of
        samples.
    random_state : int, RandomState or None
        Seed of the starts.

    Attributes
    ----------
    unmixing_ : (sources, features)
        W.
    mixing_ : (features, sources)
        Its inverse.
    mean_ : (features,)
    log_likelihood_ : float
        Mean log-density of the data, nats per sample, with every constant; comparable between densities.
    relative_gradient_ : float
        What `tol` is compared with.
    n_iter_ : int
        Steps from the start that was kept.
    n_features_in_ : int
    """

    def __init__(
        self,
        density: str | SourceDensity = "sech",
        unmixing: Literal["free", "rotation"] = "free",
        n_starts: int = 3,
        max_iter: int = 500,
        tol: float = 1e-3,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.density = density
        self.unmixing = unmixing
        self.n_starts = n_starts
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: Any, y: None = None) -> Self:
        """Find the unmixing matrix of data.

        Parameters
        ----------
        X : (samples, features)
        y : ignored

        Raises
        ------
        InputError
            If the data are not a finite, dense matrix, there are not more samples than features, the features depend on
            one another, a setting is out of its range or the density does not go with the data.

        Warns
        -----
        ConvergenceWarning
            If the relative gradient is above `tol` at the end.
        """
        X = self._checked(X, reset=True)
        density = self._checked_settings(X.shape[1])
        self.mean_ = X.mean(axis=0)
        centered = X - self.mean_
        whitening = _whitening(centered)
        if self.unmixing == "rotation":
            whitening = np.eye(X.shape[1])
        z = torch.from_numpy(centered @ whitening.T)
        check_density(density, z)
        rng = self._checked_seed()
        starts = [_random_rotation(X.shape[1], rng) for _ in range(self.n_starts)]
        likelihood, W, self.n_iter_ = max((self._climb(z, start, density) for start in starts), key=lambda end: end[0])
        self.relative_gradient_ = _relative_gradient(z @ W.T, density, self.unmixing)
        if not self.relative_gradient_ <= self.tol:
            warnings.warn(
                f"LinearICA has a relative gradient of {self.relative_gradient_:.2g} after {self.n_iter_} steps, above "
                f"tol={self.tol:g}: raise max_iter, or try another density",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.unmixing_ = _canonical(W.numpy(), z.numpy(), centered, density, self.unmixing) @ whitening
        self.mixing_ = np.linalg.inv(self.unmixing_)
        self.log_likelihood_ = float(likelihood + np.linalg.slogdet(whitening).logabsdet)
        return self

    def _climb(self, z: Tensor, start: np.ndarray, density: SourceDensity) -> tuple[float, Tensor, int]:
        """Return the log-likelihood of `z`, the unmixing matrix and the number of steps from one start."""
        dims = len(start)
        first = torch.from_numpy(start)
        above = torch.triu_indices(dims, dims, offset=1)

        def matrix(flat: Tensor) -> Tensor:
            if self.unmixing == "free":
                return flat.view(dims, dims)
            half = torch.zeros(dims, dims, dtype=flat.dtype).index_put((above[0], above[1]), flat)
            return torch.linalg.matrix_exp(half - half.T) @ first

        def value_and_gradient(values: np.ndarray) -> tuple[float, np.ndarray]:
            flat = torch.from_numpy(values).requires_grad_()
            value = -log_likelihood(z, matrix(flat), density)
            (gradient,) = torch.autograd.grad(value, flat)
            return float(value.detach()), gradient.numpy()

        begin = start.ravel() if self.unmixing == "free" else np.zeros(above.shape[1])
        options = {"maxiter": self.max_iter, "ftol": 0.0, "gtol": 1e-9}
        end = minimize(value_and_gradient, begin, jac=True, method="L-BFGS-B", options=options)
        return -float(end.fun), matrix(torch.from_numpy(end.x)).detach(), int(end.nit)

    def transform(self, X: Any) -> np.ndarray:
        """Return the sources (samples, sources) of data (samples, features)."""
        check_is_fitted(self)
        return (self._checked(X) - self.mean_) @ self.unmixing_.T

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """Return the data (samples, features) of sources (samples, sources)."""
        check_is_fitted(self)
        Z = as_floats("Z", Z)
        if Z.ndim != 2 or Z.shape[1] != len(self.unmixing_):
            raise InputError(f"Z must have shape (samples, {len(self.unmixing_)}), got {Z.shape}")
        return Z @ self.mixing_.T + self.mean_

    def score(self, X: Any, y: None = None) -> float:
        """Mean log-density of data (samples, features) under the fitted model, nats per sample."""
        check_is_fitted(self)
        centered = torch.from_numpy(self._checked(X) - self.mean_)
        return float(log_likelihood(centered, torch.from_numpy(self.unmixing_), make_density(self.density)))

    @property
    def _n_features_out(self) -> int:
        return len(self.unmixing_)

    def _checked(self, X: Any, reset: bool = False) -> np.ndarray:
        if issparse(X):
            raise InputError("X is sparse, and centered it would not be: pass X.toarray()")
        X = without_tensors(X)
        try:
            values = np.asarray(X)
            # What scikit-learn says of these two shows the data on many lines; the phrases are those that its
            # `check_estimator` looks for.
            if values.ndim != 2:
                raise InputError(
                    f"X must be 2D, (samples, features), got shape {values.shape}. Reshape your data; one feature "
                    "alone is X.reshape(-1, 1)"
                )
            if values.dtype.kind == "c":
                raise InputError("Complex data not supported: give X as real numbers, such as real and imaginary parts")
            return validate_data(self, X, reset=reset, dtype=np.float64, ensure_min_samples=2 if reset else 1)
        except InputError:
            raise
        except ValueError as error:
            first, *more = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
            if "NaN" in first or "infinity" in first:  # what follows is advice on other estimators
                raise InputError(f"{first.rstrip('.')}: leave these samples out") from error
            raise InputError(" ".join([first, *more])) from error

    def _checked_seed(self) -> np.random.RandomState:
        try:
            return check_random_state(self.random_state)
        except ValueError as error:
            raise InputError(
                f"random_state must be a whole number, at least 0, a RandomState or None; got {self.random_state!r}"
            ) from error

    def _checked_settings(self, dims: int) -> SourceDensity:
        if self.unmixing not in ("free", "rotation"):
            raise InputError(f"unmixing must be 'free' or 'rotation', got {self.unmixing!r}")
        for name in ("n_starts", "max_iter"):
            check_whole(name, getattr(self, name), 1)
        check_number("tol", self.tol)
        check_setting("tol", self.tol, self.tol > 0, "above 0")
        density = make_density(self.density)
        if isinstance(density, GaussianSources):
            if self.unmixing == "free":
                raise InputError("Gaussian sources can be told apart under a rotation alone: use unmixing='rotation'")
            if len(density.variances) != dims:
                raise InputError(f"X has {dims} features and density {len(density.variances)} variances: one for each")
        if isinstance(density, GeneralizedGaussian) and density.exponent == 2:
            raise InputError("an exponent of 2 is a Gaussian, whose sources cannot be told apart: use another")
        return density


def _random_rotation(dims: int, rng: np.random.RandomState) -> np.ndarray:
    turn = np.linalg.qr(rng.standard_normal((dims, dims)))[0]
    turn[0] *= np.linalg.det(turn)
    return turn


def _whitening(centered: np.ndarray) -> np.ndarray:
    """Matrix that gives centered data unit covariance; on the way it brings every feature to variance one."""
    samples, dims = centered.shape
    size = np.abs(centered).max(axis=0)
    spread = size * (centered / np.where(size > 0, size, 1)).std(axis=0)  # whose squares stay in the range of floats
    singular = np.zeros(1)
    if samples > dims and spread.all():
        _, singular, axes = np.linalg.svd(centered / spread, full_matrices=False)
    if not singular[-1] > _SINGULAR * singular[0]:
        raise InputError(
            f"X of shape {centered.shape} has not got {dims} independent features, so no source density fits it: drop "
            "those that are constant or follow from others (or reduce X by PCA), and give more samples than features"
        )
    return np.sqrt(samples) * axes / singular[:, None] / spread


def _canonical(W: np.ndarray, z: np.ndarray, x: np.ndarray, density: SourceDensity, unmixing: str) -> np.ndarray:
    """Give the rows of W, of which the sources of data `x` are ``z @ W.T``, the order and signs of `LinearICA`.

    Only as far as the likelihood does not say them: a density of a caller's own may be lopsided, or another one for
    every source.
    """
    sources = torch.from_numpy(z @ W.T)
    each = density.log_prob(sources)
    even = torch.allclose(density.log_prob(-sources), each)
    order = torch.argsort(each.mean(0) + sources.std(0).log(), descending=True)
    if (even or unmixing == "free") and torch.allclose(density.log_prob(sources[:, order]), each[:, order]):
        W, sources = W[order], sources[:, order]
    if not even:
        return W
    features = x / np.abs(x).max(axis=0)
    correlation = (features / np.linalg.norm(features, axis=0)).T @ sources.numpy()  # times a number of each source
    strongest = np.abs(correlation).argmax(axis=0)
    W = W * np.where(correlation[strongest, range(len(W))] < 0, -1.0, 1.0)[:, None]
    if unmixing == "rotation":
        W[-1] *= np.sign(np.linalg.det(W))
    return W


def _relative_gradient(z: Tensor, density: SourceDensity, unmixing: str) -> float:
    """Largest entry of the gradient at W with respect to D in (1 + D) W, at D = 0; for rotations D is skew.

    Unlike the gradient with respect to W it does not depend on how the data were mixed. Source: Cardoso & Laheld
    (1996), IEEE Transactions on Signal Processing 44, 3017, Eq. 19.
    """
    z = z.detach().requires_grad_()
    (score,) = torch.autograd.grad(density.log_prob(z).sum() / len(z), z)
    z = z.detach()
    gradient = score.T @ z
    gradient = gradient - gradient.T if unmixing == "rotation" else gradient + torch.eye(len(gradient))
    # At the maximum some samples sit in the kink of a Laplace density, where their slope can be anything between those
    # of its two sides; a smooth density has no slope there.
    free = (score.abs() * (z.abs() < _KINK)).T @ z.abs()
    free = free + free.T if unmixing == "rotation" else free
    return float((gradient.abs() - free).clamp_min(0).max())
