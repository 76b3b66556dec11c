"""A flexible density of each latent given those before it, for the entropy of stop-gradient objectives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kalmanssl.distributions import Mixture, PrecisionGaussian, VonMisesFisher
from kalmanssl.models._recurrent_predictor import DISTRIBUTIONS
from kalmanssl.networks import mlp
from kalmanssl.utils.torch_ops import seeded_by
from kalmanssl.utils.validation import check_choice, check_integer, check_widths

__all__ = ["MixtureDensity"]

_LARGEST_LOG = 8.0  # of a diagonal entry of a root, so that a component cannot become a point
_START = 2.0  # of the concentrations, before the softplus


class MixtureDensity(nn.Module):
    """Mixture density network: a recurrent network and a perceptron give the parameters of a mixture.

    Its components are Gaussians with full covariances, or von Mises-Fisher distributions on the sphere. Give it to
    `kalmanssl.models.SequenceModel` as `density`.

    Parameters
    ----------
    latent_dim : int
        Size of the latent.
    components : int
        Number of components of the mixture.
    hidden : int
        Number of units of the recurrent layer (LSTM).
    head : sequence of int
        Widths of the hidden layers (ReLU) between the recurrent layer and the parameters of the mixture.
    distribution : {"gaussian", "von_mises_fisher"}
        Family of the components; that of the predictor.
    generator : torch.Generator, optional
        Generator for the initial weights.

    Raises
    ------
    InputError
        If a size is not a whole number of at least one (`latent_dim` on the sphere: two), or the distribution is
        unknown.

    References
    ----------
    Bishop (1994), Mixture density networks. LDM paper, appendix A.6.2 (a separate, less constrained predictor for the
    entropy).
    """

    def __init__(
        self,
        latent_dim: int,
        *,
        components: int = 8,
        hidden: int = 32,
        head: Sequence[int] = (64, 64),
        distribution: str = "gaussian",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_choice("distribution", distribution, DISTRIBUTIONS)
        self.on_sphere = distribution == "von_mises_fisher"
        check_integer("latent_dim", latent_dim, 2 if self.on_sphere else 1)
        check_integer("components", components, 1)
        check_integer("hidden", hidden, 1)
        check_widths("head", head)
        self.latent_dim, self.components = latent_dim, components
        shape = 1 if self.on_sphere else latent_dim * (latent_dim + 1) // 2
        self.sizes = (1, latent_dim, shape)  # weight, mean, concentration or root
        with seeded_by(generator):
            self.recurrent = nn.LSTM(latent_dim, hidden, batch_first=True)
            self.head = mlp((hidden, *head, components * sum(self.sizes)))
            self.first = nn.Parameter(0.1 * torch.randn(hidden))  # in place of an output before the first latent

    def forward(self, latent: Tensor) -> Mixture:
        """Return the density of each latent (batch, time, latent) given those before it."""
        outputs = self.recurrent(latent)[0][:, :-1]
        outputs = torch.cat([self.first.expand(len(latent), 1, -1), outputs], 1)
        weight, mean, shape = self.head(outputs).unflatten(-1, (self.components, -1)).split(self.sizes, -1)
        log_weights = weight.squeeze(-1).log_softmax(-1)
        if self.on_sphere:
            concentration = nn.functional.softplus(shape.squeeze(-1) + _START)
            return Mixture(log_weights, VonMisesFisher(nn.functional.normalize(mean, dim=-1), concentration))
        rows, columns = torch.tril_indices(self.latent_dim, self.latent_dim, device=latent.device)
        on_diagonal = rows == columns
        entries = torch.where(on_diagonal, shape.clamp(-_LARGEST_LOG, _LARGEST_LOG).exp(), shape)
        root = entries.new_zeros(*entries.shape[:-1], self.latent_dim, self.latent_dim)
        root[..., rows, columns] = entries
        return Mixture(log_weights, PrecisionGaussian(mean, root))
