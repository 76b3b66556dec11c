"""Models of sequences: an encoder, a predictor and an objective, put together; those of pairs are in `pair_model`.

A model is a plain `torch.nn.Module` with one method that training needs, ``terms(batch)``; how it is trained is in
`kalmanssl.training`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from kalmanssl.models._kalman_predictor import Prediction, Predictor
from kalmanssl.models._objective import LDM, Terms
from kalmanssl.models._trainable import Trainable
from kalmanssl.utils.distributed import all_gather
from kalmanssl.utils.torch_ops import evaluating

__all__ = ["SequenceModel", "SequenceOutput", "spread"]

P = TypeVar("P", bound=Predictor)


@dataclass(frozen=True)
class SequenceOutput:
    """What a sequence model makes of a batch: latents (batch, time, latent) and their predictive distribution."""

    latent: Tensor
    prediction: Prediction


class SequenceModel(Trainable, Generic[P]):
    """Encoder followed by a predictor: the pair model whose pair is (the past, the present).

    Parameters
    ----------
    encoder : nn.Module
        Maps features (batch, time, features) to latents (batch, time, latent).
    predictor : Predictor
        A module such as `kalmanssl.models.KalmanPredictor` or `kalmanssl.models.RecurrentPredictor`.
    objective : LDM
    """

    def __init__(self, encoder: nn.Module, predictor: P, objective: LDM) -> None:
        super().__init__()
        self.encoder = encoder
        self.predictor = predictor
        self.objective = objective

    def forward(self, features: Tensor) -> SequenceOutput:
        """Encode and predict features (batch, time, features)."""
        latent = self.encoder(features)
        return SequenceOutput(latent, self.predictor(latent, features))

    def terms(self, features: Tensor) -> Terms:
        """Evaluate the objective on features (batch, time, features)."""
        output = self(features)
        return self.objective(output.latent, output.prediction)

    @torch.no_grad()
    def standardize_latents(self, features: Tensor) -> None:
        """Scale the encoder's last linear layer so that what it makes of these features has mean 0 and variance 1.

        The dynamics start at that scale. What comes after that layer (`OnSphere`) is left as it is, and so is an
        encoder without one.
        """
        linear = [module for module in self.encoder.modules() if isinstance(module, nn.Linear)]
        if not linear:
            return
        last, seen = linear[-1], []
        hook = last.register_forward_hook(lambda module, inputs, output: seen.append(output))
        with evaluating(self):
            self.encoder(features)
        hook.remove()
        latent = seen[-1].flatten(0, -2)
        scale = latent.std(0).clamp_min(1e-6)
        last.weight.div_(scale[:, None])
        last.bias.sub_(latent.mean(0)).div_(scale)

    def extra_repr(self) -> str:
        """What the parts that are modules do not tell."""
        return f"objective={self.objective}"

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that training may move at different rates: encoder, dynamics, and networks that predict noise."""
        return {"encoder": list(self.encoder.parameters()), **self.predictor.parameter_groups()}

    def after_step(self) -> None:
        """Bring the parameters back to where they must stay, after a step of the optimizer."""
        self.predictor.after_step()

    def after_epoch(self, epochs: int) -> None:
        """Nothing changes over the epochs."""

    def held_out_score(self, batch: Tensor, reference: Tensor) -> Tensor:
        """Return the predictive gain (`predictive_gain`), which training maximizes over the epochs."""
        return self.predictive_gain(batch, reference)

    @torch.no_grad()
    def predictive_gain(self, features: Tensor, reference: Tensor) -> Tensor:
        """How much better the past predicts the latents than knowing only how latents are spread, nats per step.

        ⟨log P(z_t | z_<t) - log P(z_t)⟩ with the one distribution of the same family (a Gaussian: that with their
        moments) that fits the latents of `reference`. It needs no estimate of an entropy, which on the few independent
        samples of a held-out part would be far too low.

        Parameters
        ----------
        features, reference : (batch, time, features)
            What is scored, and typical data (a part of what the model was trained on).
        """
        output = self(features)
        marginal = output.prediction.conditional.fitted(self.encoder(reference).flatten(0, 1))
        return (output.prediction.log_prob(output.latent) - marginal.log_prob(output.latent)).mean()

    @torch.no_grad()
    def diagnostics(self, features: Tensor) -> dict[str, float]:
        """Numbers that tell healthy latents from collapsed ones, on features (batch, time, features).

        Those of `spread`, and those of the predictor (spectral_radius of the Kalman one).
        """
        with evaluating(self):
            latent = self.encoder(features).flatten(0, 1)
        return {**spread(latent), **self.predictor.diagnostics()}


def spread(latent: Tensor) -> dict[str, float]:
    """How far latents (samples, dim) spread, and in how many directions.

    Returns
    -------
    dict
        latent_scale, the geometric mean of their standard deviations, and effective_dimension, the participation ratio
        of their correlation matrix, from 1 (all copies of one) to dim (none correlated).
    """
    latent = all_gather(latent)  # of all processes: all of them must come to the same verdict
    scale = latent.std(0)
    standardized = (latent - latent.mean(0)) / scale.clamp_min(1e-12)
    correlation = standardized.T @ standardized / (len(latent) - 1)
    return {
        "latent_scale": float(scale.clamp_min(1e-12).log().mean().exp()),
        "effective_dimension": float(correlation.trace() ** 2 / correlation.square().sum().clamp_min(1e-12)),
    }
