"""Whitening of the input of an encoder, so that directions of small variance are learned as fast as those of large."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from kalmanssl.errors import InputError
from kalmanssl.utils.validation import check_fraction

__all__ = ["Whitening"]

_SMALLEST = 1e-6  # variance of the components that are kept, relative to the largest


class Whitening(nn.Module):
    """Principal components of the features, each divided by its standard deviation (with a ridge).

    ``f = V' (x - m) / sqrt(v + ridge * v_1)``, where m is the mean of the features and V and v are the eigenvectors and
    eigenvalues of their covariance, v_1 the largest. Components with a variance below 1e-6 of the largest are left out.

    Gradient descent learns directions of the input with a small variance slowly (LeCun et al. 1998, "Efficient
    BackProp", section 4.3). If only these directions tell two states apart, an encoder of features that are not
    whitened can end with the same latent for both. Whitening also amplifies noise in these directions: it suits
    features with little noise, and the ridge limits it.

    Parameters
    ----------
    mean : (features,)
        The mean m.
    weight : (components, features)
        The components, divided as above.

    Examples
    --------
    >>> import torch
    >>> from kalmanssl.networks import MLPEncoder, Whitening
    >>> x = torch.randn(200, 20, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.logspace(0, -2, 20))
    >>> whitening = Whitening.fit(x)
    >>> encoder = torch.nn.Sequential(whitening, MLPEncoder(whitening.n_components, 3))
    >>> encoder(x[None]).shape
    torch.Size([1, 200, 3])
    """

    mean: Tensor
    weight: Tensor

    def __init__(self, mean: Tensor, weight: Tensor) -> None:
        super().__init__()
        if mean.ndim != 1 or weight.ndim != 2 or weight.shape[1] != len(mean):
            raise InputError(
                "mean and weight must have the shapes (features,) and (components, features), "
                f"got {tuple(mean.shape)} and {tuple(weight.shape)}"
            )
        self.register_buffer("mean", mean)
        self.register_buffer("weight", weight)

    @classmethod
    @torch.no_grad()
    def fit(cls, features: Tensor, ridge: float = 1e-3) -> Self:
        """Compute the components of a sample of the training data.

        Parameters
        ----------
        features : (..., features)
            At least two samples.
        ridge : float
            Variance that is added to that of each component, as a fraction of the largest; at least 0 and below 1.

        Raises
        ------
        InputError
            If the ridge is out of its range, there are fewer than two samples, a feature is NaN or infinite, or all are
            constant.
        """
        check_fraction("ridge", ridge)
        samples = features.flatten(0, -2).double()
        if len(samples) < 2 or not bool(samples.isfinite().all()):
            raise InputError(
                f"whitening needs two samples of finite features or more, got {len(samples)}: leave out NaN, infinity",
                parameter="features",
            )
        mean = samples.mean(0)
        centered = samples - mean
        variance, directions = torch.linalg.eigh(centered.T @ centered / (len(samples) - 1))
        largest = variance[-1]
        if largest <= 0:
            raise InputError("all features are constant: there is nothing to whiten", parameter="features")
        kept = (variance > _SMALLEST * largest).flip(0)
        scale = (variance + ridge * largest).clamp_min(0).sqrt().flip(0)[kept]
        weight = directions.T.flip(0)[kept] / scale[:, None]
        return cls(mean.to(features), weight.to(features))

    @property
    def n_components(self) -> int:
        """Number of components."""
        return len(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the components (..., components) of features (..., features)."""
        return (x - self.mean) @ self.weight.T

    def extra_repr(self) -> str:
        """Return the sizes for printing."""
        return f"n_features={len(self.mean)}, n_components={self.n_components}"
