"""An encoder with a linear path parallel to the perceptron, which can start from components found in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kalmanssl.networks._encoders import WindowEncoder
from kalmanssl.utils.torch_ops import evaluating

__all__ = ["ResidualEncoder"]

_CORRECTION_GAIN = 0.1  # of the perceptron for latents that start at given components


class ResidualEncoder(WindowEncoder):
    """Linear map of the normalized features, plus a multilayer perceptron as a correction.

    ``z = W (f - m) + g * mlp((f - m) / s)``, where f are the features of `WindowEncoder.features`, m is their mean and
    s their scale. The linear path can start at components that linear methods find in the data (`start_from`). The
    perceptron then learns only a nonlinear correction. The gain g slows its training down, which reduces overfitting.

    Parameters
    ----------
    in_features, latent_dim, window, hidden, **settings
        As for `WindowEncoder`.

    Attributes
    ----------
    linear : nn.Linear
        The linear path, (latent_dim, n_features), without a bias.
    feature_mean : (n_features,)
        The mean m, zero before `start_from`.
    feature_scale : ()
        The scale s, one before `start_from`.
    gain : (latent_dim,)
        The gain g of each coordinate, one before `start_from`.
    """

    def __init__(
        self, in_features: int, latent_dim: int, window: int = 1, hidden: Sequence[int] = (100,), **settings: Any
    ) -> None:
        super().__init__(in_features, latent_dim, window, hidden, **settings)
        self.linear = nn.Linear(self.n_features, latent_dim, bias=False)
        self.register_buffer("feature_mean", torch.zeros(self.n_features))
        self.register_buffer("feature_scale", torch.ones(()))
        self.register_buffer("gain", torch.ones(latent_dim))

    feature_mean: Tensor
    feature_scale: Tensor
    gain: Tensor

    @torch.no_grad()
    def start_from(self, features: Tensor, components: Tensor) -> None:
        """Set the linear path to given components; the perceptron adds nothing to them before training.

        If there are fewer components than latents, the other latents start as random functions of the features, given
        by the perceptron with gain 1. They have mean zero and the variance of the weakest component.

        Parameters
        ----------
        features : (samples, n_features)
            Sample of the training data, as `features` returns it.
        components : (count, n_features)
            Weights of the linear path for the first `count` latents, at most `latent_dim`.
        """
        count = len(components)
        mean = features.mean(0)
        centered = features - mean
        self.feature_mean.copy_(mean)
        self.feature_scale.copy_(centered.square().mean().sqrt().clamp_min(1e-6))
        self.linear.weight.zero_()
        self.linear.weight[:count] = components.to(self.linear.weight)
        self.gain.fill_(1.0)
        self.gain[:count] = _CORRECTION_GAIN
        last = self.network[-1]
        assert isinstance(last, nn.Linear)
        last.weight[:count] = 0.0
        last.bias.zero_()
        if count < self.latent_dim:
            weakest = (centered @ self.linear.weight[:count].T).std(0).min() if count else torch.ones(())
            with evaluating(self):
                random = self.network(centered / self.feature_scale)[:, count:]
            scale = weakest.clamp_min(1e-6) / random.std(0).clamp_min(1e-6)
            last.weight[count:] *= scale[:, None]
            last.bias[count:] = -random.mean(0) * scale

    @torch.no_grad()
    def transform_latents(self, matrix: Tensor, offset: Tensor) -> None:
        """Change the weights so that latents z become ``matrix @ z + offset``.

        Parameters
        ----------
        matrix : (latent_dim, latent_dim)
        offset : (latent_dim,)
        """
        last = self.network[-1]
        assert isinstance(last, nn.Linear)
        matrix, offset = matrix.to(self.linear.weight), offset.to(self.linear.weight)
        self.linear.weight.copy_(matrix @ self.linear.weight)
        scaled = matrix * self.gain / self.gain[:, None]
        last.weight.copy_(scaled @ last.weight)
        last.bias.copy_(scaled @ last.bias + offset / self.gain)

    def forward(self, x: Tensor) -> Tensor:
        """Encode `x` (batch, time, in_features) as latents (batch, time, latent_dim)."""
        centered = self.features(x) - self.feature_mean
        return self.linear(centered) + self.gain * self.network(centered / self.feature_scale)
