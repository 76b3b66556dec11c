"""Entropy estimators by name.

Latent distribution matching maximizes the log-probability of the latents under a model plus their entropy. The
log-probability is exact. The entropy is estimated from samples, in nats including all constants:

* "knn": `KNNEntropy`, from distances to nearest neighbors;
* "kde": a kernel density estimate, as in contrastive methods, with a kernel for each space;
* "logdet": `LogDetEntropy`, the entropy of a Gaussian with the covariance of the samples;
* "vicreg": `VarianceCovarianceEntropy`, the variance and covariance terms of VICReg;
* "categorical": `CategoricalEntropy`, exact for categories;
* "stopgrad": `StopGradientEntropy`, from the model's own conditional distribution.

How to add an estimator. Write one frozen dataclass, and add it to `ENTROPIES` below:

    >>> import math
    >>> import torch
    >>> from dataclasses import dataclass
    >>> from kalmanssl.entropy import EntropyEstimator
    >>> @dataclass(frozen=True)
    ... class DiagonalGaussianEntropy(EntropyEstimator):
    ...     # Entropy of a Gaussian with the variances of the samples; ignores correlations.
    ...
    ...     def _entropy(self, v):  # (samples, D), finite and centered -> scalar, nats
    ...         return 0.5 * (2 * math.pi * math.e * v.var(0)).log().sum()
    >>> estimate = DiagonalGaussianEntropy()(torch.tensor([[-1.0, 0.0], [0.0, 1.0], [1.0, 2.0]]))
    >>> round(estimate.item(), 2)  # log(2πe), because both variances are 1
    2.84

`EntropyEstimator.__call__` checks the samples, draws a subset, and collects the samples of all processes. Set `spaces`
if the estimator is not for Euclidean space, and define `_check_space` to reject samples outside its space. The tests in
`tests/entropy` run for each entry of their table: add the new estimator there, with its bias.

The biases in the docstrings were measured on 2000 samples, averaged over seeds; the tests enforce them. In Euclidean
space, all estimators follow the scaling law H[c z] = H[z] + D log c in value and gradient, except the kernel density
with a fixed bandwidth and that of VICReg. With a learned noise covariance, any other factor than D makes the latents
shrink to zero or grow without bound.

Source: Mikulasch & Zenke (2026), arXiv 2605.03517, "LDM paper" below.
"""

from __future__ import annotations

from typing import Any

from kalmanssl.entropy._base import EntropyEstimator
from kalmanssl.entropy._categorical import CategoricalEntropy
from kalmanssl.entropy._gaussian import LogDetEntropy, VarianceCovarianceEntropy
from kalmanssl.entropy._kde import DirichletKDEEntropy, GaussianKDEEntropy, VonMisesFisherKDEEntropy
from kalmanssl.entropy._knn import KNNEntropy
from kalmanssl.entropy._stop_gradient import StopGradientEntropy
from kalmanssl.errors import InputError
from kalmanssl.utils.validation import unknown_name_error

__all__ = ["ENTROPIES", "SPACES", "make_entropy"]

SPACES = ("euclidean", "sphere", "simplex", "categories")
"""Spaces of latents: any vector; unit vectors; probability vectors; probabilities of a categorical latent."""

ENTROPIES: dict[str, tuple[type[EntropyEstimator] | type[StopGradientEntropy], ...]] = {
    "knn": (KNNEntropy,),
    "logdet": (LogDetEntropy,),
    "kde": (GaussianKDEEntropy, VonMisesFisherKDEEntropy, DirichletKDEEntropy),
    "vicreg": (VarianceCovarianceEntropy,),
    "categorical": (CategoricalEntropy,),
    "stopgrad": (StopGradientEntropy,),
}
"""Estimators by name; `make_entropy` uses the first one of a name that supports the space of the latents."""

_NOT_CONVERGING = "in the LDM paper it does not converge there: use 'kde', which uses Dirichlet kernels"
_REASONS = {
    ("knn", "simplex"): _NOT_CONVERGING,
    ("logdet", "simplex"): f"probabilities sum to one, so their covariance is singular, and {_NOT_CONVERGING}",
    ("vicreg", "sphere"): "unit vectors cannot have a standard deviation of one in every coordinate: use 'logdet'",
    ("vicreg", "simplex"): "probabilities cannot have a standard deviation of one: use 'kde'",
}
_OF_CATEGORIES = "the entropy of categories is known exactly: use 'categorical'"
_NOT_CATEGORIES = "these latents are not probabilities of categories: use 'knn', 'logdet' or 'kde'"


def make_entropy(
    entropy: str | EntropyEstimator | StopGradientEntropy,
    space: str = "euclidean",
    dim: int | None = None,
    **settings: Any,
) -> EntropyEstimator | StopGradientEntropy:
    """Return the estimator of that name for a space, constructed with `settings`; return an estimator unchanged.

    Parameters
    ----------
    entropy : {"knn", "logdet", "kde", "vicreg", "categorical", "stopgrad"} or estimator
    space : {"euclidean", "sphere", "simplex", "categories"}
        Space of the latents; it determines the kernel of "kde".
    dim : int, optional
        Number of coordinates of one latent, which separates the latents of a pair that are concatenated, [z, z'].
        Needed by some estimators outside Euclidean space.
    **settings
        Settings of the class, such as ``k`` or ``bandwidth``.

    Raises
    ------
    InputError
        If there is no estimator of that name, it has no such setting, or it does not support the space.
    """
    if space not in SPACES:
        raise unknown_name_error("space", space, SPACES)
    if not isinstance(entropy, str):
        return _passed_through(entropy, space, settings)
    if entropy not in ENTROPIES:
        raise unknown_name_error("entropy", entropy, ENTROPIES)
    chosen = next((one for one in ENTROPIES[entropy] if space in one.spaces), None)
    if chosen is None:
        message = f"entropy {entropy!r} does not support the space {space!r}: {_reason(entropy, space)}"
        raise InputError(message, parameter="entropy")
    if chosen.dim_setting and space != "euclidean" and chosen.dim_setting not in settings:
        if dim is None:
            raise InputError(
                f"entropy {entropy!r} for the space {space!r} needs dim, the number of coordinates of a latent",
                parameter="dim",
            )
        settings[chosen.dim_setting] = dim
    try:
        return chosen(**settings)
    except TypeError as error:
        raise InputError(f"entropy {entropy!r}: {error}") from error


def _passed_through(
    entropy: EntropyEstimator | StopGradientEntropy, space: str, settings: dict[str, Any]
) -> EntropyEstimator | StopGradientEntropy:
    if not isinstance(entropy, EntropyEstimator | StopGradientEntropy):
        known = ", ".join(map(repr, ENTROPIES))
        message = f"entropy must be a name or an EntropyEstimator, got {entropy!r}: use one of {known}"
        raise InputError(message, parameter="entropy")
    if settings:
        raise InputError(f"settings {sorted(settings)} can be given with a name, not with the estimator {entropy!r}")
    if space not in entropy.spaces:
        name = next((name for name, classes in ENTROPIES.items() if isinstance(entropy, classes)), "")
        message = f"{entropy!r} does not support the space {space!r}: {_reason(name, space)}"
        raise InputError(message, parameter="entropy")
    if space != "euclidean" and entropy.dim_setting and getattr(entropy, entropy.dim_setting) is None:
        raise InputError(
            f"{entropy!r} for the space {space!r} needs {entropy.dim_setting}, the number of coordinates of a latent",
            parameter="entropy",
        )
    return entropy


def _reason(entropy: str, space: str) -> str:
    if space == "categories":
        return _OF_CATEGORIES
    if entropy == "categorical":
        return _NOT_CATEGORIES
    if entropy == "kde":
        return "its kernel is that of another space: use the name 'kde', which selects the right one"
    return _REASONS.get((entropy, space), "use an estimator with that space among its `spaces`")
