"""Linear independent component analysis as latent distribution matching.

The encoder is a matrix W, the latent model is a product of source densities, and the entropy of the latents is known
exactly: log|det W| plus the entropy of the data. The objective is then the log-likelihood of the data.
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
    GaussianSources,
    GeneralizedGaussian,
    SourceDensity,
    check_density,
    log_densities,
    make_density,
)
from kalmanssl.utils.arrays import as_floats, without_tensors
from kalmanssl.utils.validation import check_condition, check_integer, check_number

__all__ = ["LinearICA", "log_likelihood"]

_MIN_SINGULAR_RATIO = 1e-10  # data with a smaller ratio of singular values are rank-deficient
_KINK_WIDTH = 1e-3  # in standard deviations of a source


def log_likelihood(x: Tensor, unmixing: Tensor, density: SourceDensity) -> Tensor:
    """Mean log-density of data with independent sources ``x @ unmixing.T``.

    Σ_i <log p_i((W x)_i)> + log|det W|: the alignment with the latent model, plus the entropy of the latents up to that
    of the data. Source: LDM paper, Eq. 3.

    Parameters
    ----------
    x : (samples, dims)
        Data with mean zero.
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
        If the density does not return one value per source.
    """
    return log_densities(density, x @ unmixing.mT).sum(-1).mean() + torch.linalg.slogdet(unmixing).logabsdet


class LinearICA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Linear independent component analysis by maximum likelihood.

    Maximizes `log_likelihood` over the unmixing matrix with L-BFGS, in double precision on all samples. The sources are
    recovered up to order and sign if they are super-Gaussian (or sub-Gaussian) like the assumed density; the exact
    shape of the density only affects the precision.

    Order and sign are fixed by convention where the density does not determine them, so that they do not depend on the
    start or on the units of the features. Sources are sorted by <log p(z)> + log std(z), their mean log-density at unit
    variance, in decreasing order: the most peaked source comes first (with a flat density, the flattest). The sign of
    each source makes its correlation with the feature of largest absolute correlation positive; the sign of the last
    source of a rotation makes the determinant positive. `GaussianSources` are in the order of their variances.

    Parameters
    ----------
    density : {"laplace", "sech", "sub-gaussian"} or SourceDensity
        Density of the sources, see `make_density`.
    unmixing : {"free", "rotation"}
        Any invertible matrix, or a rotation of the data without whitening. Gaussian sources need "rotation".
    n_starts : int
        Number of random initial rotations of the whitened data; the result with the highest likelihood is used.
    max_iter : int
        Maximum number of L-BFGS iterations per start.
    tol : float
        Convergence threshold for the largest entry of the relative gradient: the change of the log-likelihood in nats
        per relative change of the unmixing matrix. Its sampling error is about 1 / sqrt(samples).
    random_state : int, RandomState or None
        Seed of the initial rotations.

    Attributes
    ----------
    unmixing_ : (sources, features)
        Unmixing matrix W.
    mixing_ : (features, sources)
        Inverse of W.
    mean_ : (features,)
    log_likelihood_ : float
        Mean log-density of the data, nats per sample, including all constants; comparable between densities.
    relative_gradient_ : float
        Largest entry of the relative gradient, see `tol`.
    n_iter_ : int
        Number of iterations of the best start.
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
        """Fit the unmixing matrix.

        Parameters
        ----------
        X : (samples, features)
        y : ignored

        Raises
        ------
        InputError
            If the data are not a finite dense matrix, there are not more samples than features, the features are
            linearly dependent, a setting is out of range, or the density does not match the data.

        Warns
        -----
        ConvergenceWarning
            If the final relative gradient is above `tol`.
        """
        X = self._check_data(X, reset=True)
        density = self._check_settings(X.shape[1])
        self.mean_ = X.mean(axis=0)
        centered = X - self.mean_
        whitening = _whitening(centered)
        if self.unmixing == "rotation":
            whitening = np.eye(X.shape[1])
        z = torch.from_numpy(centered @ whitening.T)
        check_density(density, z)
        rng = self._check_seed()
        starts = [_random_rotation(X.shape[1], rng) for _ in range(self.n_starts)]
        fits = (self._maximize_likelihood(z, start, density) for start in starts)
        likelihood, W, self.n_iter_ = max(fits, key=lambda fit: fit[0])
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

    def _maximize_likelihood(self, z: Tensor, start: np.ndarray, density: SourceDensity) -> tuple[float, Tensor, int]:
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
        return (self._check_data(X) - self.mean_) @ self.unmixing_.T

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """Return the data (samples, features) of sources (samples, sources)."""
        check_is_fitted(self)
        Z = as_floats("Z", Z)
        if Z.ndim != 2 or Z.shape[1] != len(self.unmixing_):
            raise InputError(f"Z must have shape (samples, {len(self.unmixing_)}), got {Z.shape}", parameter="Z")
        return Z @ self.mixing_.T + self.mean_

    def score(self, X: Any, y: None = None) -> float:
        """Return the mean log-density of data (samples, features) under the fitted model, nats per sample."""
        check_is_fitted(self)
        centered = torch.from_numpy(self._check_data(X) - self.mean_)
        return float(log_likelihood(centered, torch.from_numpy(self.unmixing_), make_density(self.density)))

    @property
    def _n_features_out(self) -> int:
        return len(self.unmixing_)

    def _check_data(self, X: Any, reset: bool = False) -> np.ndarray:
        """Return data as a float64 matrix; errors have one line and the phrases that scikit-learn's checks expect."""
        if issparse(X):
            raise InputError("X is sparse, but centering would make it dense: pass X.toarray()", parameter="X")
        X = without_tensors(X)
        try:
            values = np.asarray(X)
            # scikit-learn's own messages for these two cases print the data on several lines.
            if values.ndim != 2:
                raise InputError(
                    f"X must be 2D, (samples, features), got shape {values.shape}. Reshape your data; a single feature "
                    "is X.reshape(-1, 1)",
                    parameter="X",
                )
            if values.dtype.kind == "c":
                message = "Complex data not supported: pass X as real numbers, such as real and imaginary parts"
                raise InputError(message, parameter="X")
            return validate_data(self, X, reset=reset, dtype=np.float64, ensure_min_samples=2 if reset else 1)
        except InputError:
            raise
        except ValueError as error:
            first, *more = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
            if "NaN" in first or "infinity" in first:  # the next lines are advice about other estimators
                raise InputError(f"{first.rstrip('.')}: leave these samples out", parameter="X") from error
            raise InputError(" ".join([first, *more]), parameter="X") from error

    def _check_seed(self) -> np.random.RandomState:
        try:
            return check_random_state(self.random_state)
        except ValueError as error:
            raise InputError(
                f"random_state must be an integer of at least 0, a RandomState or None; got {self.random_state!r}",
                parameter="random_state",
            ) from error

    def _check_settings(self, dims: int) -> SourceDensity:
        if self.unmixing not in ("free", "rotation"):
            raise InputError(f"unmixing must be 'free' or 'rotation', got {self.unmixing!r}", parameter="unmixing")
        for name in ("n_starts", "max_iter"):
            check_integer(name, getattr(self, name), 1)
        check_number("tol", self.tol)
        check_condition("tol", self.tol, self.tol > 0, "above 0")
        density = make_density(self.density)
        if isinstance(density, GaussianSources):
            if self.unmixing == "free":
                message = "Gaussian sources are only identifiable under a rotation: use unmixing='rotation'"
                raise InputError(message, parameter="unmixing")
            if len(density.variances) != dims:
                message = f"density has {len(density.variances)} variances but X has {dims} features: give one for each"
                raise InputError(message, parameter="density")
        if isinstance(density, GeneralizedGaussian) and density.exponent == 2:
            message = "an exponent of 2 is a Gaussian, whose sources are not identifiable: use another exponent"
            raise InputError(message, parameter="density")
        return density


def _random_rotation(dims: int, rng: np.random.RandomState) -> np.ndarray:
    rotation = np.linalg.qr(rng.standard_normal((dims, dims)))[0]
    rotation[0] *= np.linalg.det(rotation)
    return rotation


def _whitening(centered: np.ndarray) -> np.ndarray:
    """Compute the whitening matrix of centered data; features are first scaled to unit variance."""
    samples, dims = centered.shape
    size = np.abs(centered).max(axis=0)
    std = size * (centered / np.where(size > 0, size, 1)).std(axis=0)  # scaled first, so that squares do not overflow
    singular = np.zeros(1)
    if samples > dims and std.all():
        _, singular, axes = np.linalg.svd(centered / std, full_matrices=False)
    if not singular[-1] > _MIN_SINGULAR_RATIO * singular[0]:
        raise InputError(
            f"X of shape {centered.shape} does not have {dims} linearly independent features: remove features that are "
            "constant or depend on others (or reduce X by PCA), and give more samples than features",
            parameter="X",
        )
    return np.sqrt(samples) * axes / singular[:, None] / std


def _canonical(W: np.ndarray, z: np.ndarray, x: np.ndarray, density: SourceDensity, unmixing: str) -> np.ndarray:
    """Sort the rows of W and choose their signs by the convention of `LinearICA`; the sources are ``z @ W.T``.

    Order and sign stay as they are if the likelihood depends on them: a custom density can be asymmetric, or different
    for each source.
    """
    sources = torch.from_numpy(z @ W.T)
    log_prob = density.log_prob(sources)
    symmetric = torch.allclose(density.log_prob(-sources), log_prob)
    order = torch.argsort(log_prob.mean(0) + sources.std(0).log(), descending=True)
    if (symmetric or unmixing == "free") and torch.allclose(density.log_prob(sources[:, order]), log_prob[:, order]):
        W, sources = W[order], sources[:, order]
    if not symmetric:
        return W
    features = x / np.abs(x).max(axis=0)
    correlation = (features / np.linalg.norm(features, axis=0)).T @ sources.numpy()  # up to a factor for each source
    strongest = np.abs(correlation).argmax(axis=0)
    W = W * np.where(correlation[strongest, range(len(W))] < 0, -1.0, 1.0)[:, None]
    if unmixing == "rotation":
        W[-1] *= np.sign(np.linalg.det(W))
    return W


def _relative_gradient(z: Tensor, density: SourceDensity, unmixing: str) -> float:
    """Return the largest entry of the gradient with respect to D in (1 + D) W at D = 0; D is skew for rotations.

    Unlike the gradient with respect to W, it does not depend on the mixing matrix. Source: Cardoso & Laheld (1996),
    IEEE Transactions on Signal Processing 44, 3017, Eq. 19.
    """
    z = z.detach().requires_grad_()
    (score,) = torch.autograd.grad(density.log_prob(z).sum() / len(z), z)
    z = z.detach()
    gradient = score.T @ z
    gradient = gradient - gradient.T if unmixing == "rotation" else gradient + torch.eye(len(gradient))
    # At the maximum, some samples lie in the kink of a Laplace density, where any slope between those of the two sides
    # is a valid subgradient. The score of a smooth density is zero there.
    slack = (score.abs() * (z.abs() < _KINK_WIDTH)).T @ z.abs()
    slack = slack + slack.T if unmixing == "rotation" else slack
    return float((gradient.abs() - slack).clamp_min(0).max())
