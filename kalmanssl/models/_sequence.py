"""Sequence models: an encoder, a predictor and an objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from kalmanssl.entropy import StopGradientEntropy
from kalmanssl.errors import InputError
from kalmanssl.models._kalman_predictor import KalmanPrediction, Prediction, Predictor
from kalmanssl.models._mixture_density import MixtureDensity
from kalmanssl.models._objective import LDM, Terms
from kalmanssl.models._trainable import Trainable
from kalmanssl.utils.distributed import all_gather
from kalmanssl.utils.torch_ops import evaluating

__all__ = ["PredictorT", "SequenceModel", "SequenceOutput", "latent_statistics"]

PredictorT = TypeVar("PredictorT", bound=Predictor)


@dataclass(frozen=True)
class SequenceOutput:
    """Output of a sequence model: latents (batch, time, latent) and their predictive distribution."""

    latent: Tensor
    prediction: Prediction


class SequenceModel(Trainable, Generic[PredictorT]):
    """Encoder followed by a predictor: the pair model whose pair is (the past, the present).

    Parameters
    ----------
    encoder : nn.Module
        Maps features (batch, time, features) to latents (batch, time, latent).
    predictor : Predictor
        A module such as `kalmanssl.models.KalmanPredictor` or `kalmanssl.models.RecurrentPredictor`.
    objective : LDM
    density : MixtureDensity, optional
        For the stop-gradient entropy only: the density whose mean negative logarithm is the conditional entropy, in
        place of the predictive distribution. It learns from latents without gradients. It and the predictor have
        the rate of the dynamics without a schedule.

        With the predictive distribution itself, the gradient of the encoder is zero wherever the predictor is optimal
        and the past latents determine the conditional mean, whether or not the latents match the distribution: almost
        every injective encoder is a stationary point. A density that can take the shape of the true one gives the
        gradient of the Kullback-Leibler divergence, as long as it is close to its optimum: otherwise the encoder moves
        away from its errors. It helps to train with a high `dynamics_lr_factor`, a long warm-up, little `momentum` and
        without clipping of the gradient (`kalmanssl.training.TrainingSettings`).

    Raises
    ------
    InputError
        If a density is given and the entropy is not the stop-gradient entropy.
    """

    score_name = "gain"

    def __init__(
        self, encoder: nn.Module, predictor: PredictorT, objective: LDM, density: MixtureDensity | None = None
    ) -> None:
        super().__init__()
        if density is not None and not isinstance(objective.entropy, StopGradientEntropy):
            raise InputError(
                f"a separate density belongs to the stop-gradient entropy, the objective has {objective.entropy!r}: "
                "use StopGradientEntropy, or no density",
                parameter="density",
            )
        self.encoder = encoder
        self.predictor = predictor
        self.objective = objective
        self.density = density

    def forward(self, features: Tensor) -> SequenceOutput:
        """Encode and predict features (batch, time, features)."""
        latent = self.encoder(features)
        return SequenceOutput(latent, self.predictor(latent, features))

    def terms(self, features: Tensor) -> Terms:
        """Evaluate the objective on features (batch, time, features)."""
        output = self(features)
        if self.density is None:
            return self.objective(output.latent, output.prediction)
        latent = output.latent
        density = self.density(latent.detach())
        fit = density.log_prob(latent.detach()).mean()
        entropy = -density.detach().log_prob(latent).mean()
        # The fit of the density adds its gradient, and no value.
        return Terms(output.prediction.log_prob(latent).mean(), entropy + (fit - fit.detach()))

    def evaluate(self, features: Tensor) -> tuple[Terms, list[Tensor]]:
        """Evaluate the objective; return it and the filtered states (batch, time, state) of a Kalman predictor."""
        output = self(features)
        assert isinstance(output.prediction, KalmanPrediction)
        return self.objective(output.latent, output.prediction), [output.prediction.filtered.filtered_mean]

    @torch.no_grad()
    def standardize_latents(self, features: Tensor) -> None:
        """Rescale the encoder's last linear layer so that its outputs for these features have mean 0 and variance 1.

        This is the scale at which the dynamics are initialized. Later layers (`OnSphere`) do not change. An encoder
        without a linear layer does not change either.
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
        """Return the objective, which is not a module, for `repr`."""
        return f"objective={self.objective}"

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by learning-rate group: "encoder", "dynamics" and "noise"."""
        groups = {"encoder": list(self.encoder.parameters()), **self.predictor.parameter_groups()}
        if self.density is not None:
            groups["constant_lr"] = [*groups.pop("dynamics"), *self.density.parameters()]
        return groups

    def after_step(self) -> None:
        """Project the parameters of the predictor onto their constraints, after each optimizer step."""
        self.predictor.after_step()

    @torch.no_grad()
    def predictive_gain(self, features: Tensor, reference: Tensor) -> Tensor:
        """Compute how much better the past predicts the latents than their marginal distribution does, nats per step.

        ⟨log P(z_t | z_<t) - log P(z_t)⟩, where P(z_t) is the distribution of the same family that is fitted to the
        latents of `reference` (for a Gaussian, by their moments). It needs no entropy estimate, which would be biased
        downward by the few independent samples of a held-out part.

        Parameters
        ----------
        features, reference : (batch, time, features)
            Data to score, and a sample of the training data.
        """
        return self.held_out_scores(features, reference).mean()

    @torch.no_grad()
    def held_out_scores(self, batch: Tensor, reference: Tensor) -> Tensor:
        """Return the gain of each step, (batch, time), whose mean is the `predictive_gain`."""
        output = self(batch)
        marginal = output.prediction.conditional.fitted(self.encoder(reference).flatten(0, 1))
        return output.prediction.log_prob(output.latent) - marginal.log_prob(output.latent)

    @torch.no_grad()
    def diagnostics(self, features: Tensor) -> dict[str, float]:
        """Compute `latent_statistics` on features (batch, time, features), and the diagnostics of the predictor.

        The diagnostic of the Kalman predictor is spectral_radius.
        """
        with evaluating(self):
            latent = self.encoder(features).flatten(0, 1)
        return {**latent_statistics(latent), **self.predictor.diagnostics()}


def latent_statistics(latent: Tensor) -> dict[str, float]:
    """Compute the scale and the effective dimension of latents (samples, dim), over the samples of all processes.

    Returns
    -------
    dict
        latent_scale, the geometric mean of the standard deviations, and effective_dimension, the participation ratio of
        the correlation matrix: 1 if all coordinates are proportional, dim if they are uncorrelated.
    """
    latent = all_gather(latent)  # all processes must reach the same conclusion
    scale = latent.std(0)
    standardized = (latent - latent.mean(0)) / scale.clamp_min(1e-12)
    correlation = standardized.T @ standardized / (len(latent) - 1)
    return {
        "latent_scale": float(scale.clamp_min(1e-12).log().mean().exp()),
        "effective_dimension": float(correlation.trace() ** 2 / correlation.square().sum().clamp_min(1e-12)),
    }
