"""Fit of a predictor to the latents of a fixed encoder, for noise that varies."""

from __future__ import annotations

import torch
from torch import Tensor

from kalmanssl.models._kalman_predictor import KalmanPredictor
from kalmanssl.models._objective import Terms
from kalmanssl.models._sequence import SequenceModel
from kalmanssl.models._trainable import Trainable
from kalmanssl.networks import BoundedNoise, NoiseContext
from kalmanssl.utils.torch_ops import evaluating

__all__ = ["PredictorFit", "start_varying_noise"]


class PredictorFit(Trainable):
    """Fit of the predictor of a sequence model by maximum likelihood of its latents, with the encoder fixed.

    The latents do not change, so that their mean log-density is a likelihood. If the encoder were trained as well, this
    objective would increase with smaller latents, and with latents that the input of the noise head predicts. Noise
    that depends on the input is therefore fitted with a fixed encoder.

    Parameters
    ----------
    model : SequenceModel
        Only its predictor changes.
    """

    stage = "fit dynamics"
    score_name = "gain"

    def __init__(self, model: SequenceModel[KalmanPredictor]) -> None:
        super().__init__()
        self.model = model
        self.bins_per_step = model.bins_per_step

    def terms(self, batch: Tensor) -> Terms:
        """Return the mean log-density of the latents of `batch` (batch, time, features); the entropy is left out."""
        with torch.no_grad(), evaluating(self.model.encoder):
            latent = self.model.encoder(batch)
        alignment = self.model.predictor(latent, batch).log_prob(latent).mean()
        return Terms(alignment, torch.zeros_like(alignment))

    def held_out_scores(self, batch: Tensor, reference: Tensor) -> Tensor:
        """Return the predictive gains of the model, nats per step, on the scale of the fit of the whole model.

        Their mean differs from that of the log-density of the latents by that under their marginal distribution, which
        is fixed.
        """
        return self.model.held_out_scores(batch, reference)

    def diagnostics(self, batch: Tensor) -> dict[str, float]:
        """Compute the diagnostics of the model on features (batch, time, features)."""
        return self.model.diagnostics(batch)

    def parameter_groups(self) -> dict[str, list[torch.nn.Parameter]]:
        """Return the parameters of the predictor by learning-rate group."""
        return self.model.predictor.parameter_groups()

    def after_step(self) -> None:
        """Project the parameters of the predictor onto their constraints, after each optimizer step."""
        self.model.predictor.after_step()


@torch.no_grad()
def start_varying_noise(model: SequenceModel[KalmanPredictor], features: Tensor) -> None:
    """Let the bounded noise heads of a model vary; at first they return the same variances as before.

    The inputs of the heads are standardized by their moments on a sample of the data.

    Parameters
    ----------
    model : SequenceModel
        Its noise is constant.
    features : (batch, time, features)
        Sample of the training data.
    """
    with evaluating(model):
        latent = model.encoder(features)
        filtered = model.predictor(latent, features).filtered
    context = NoiseContext(*(x.flatten(0, 1) for x in (features, filtered.filtered_mean, filtered.innovation)))
    for head in model.predictor.noise_heads:
        if isinstance(head, BoundedNoise):
            head.fit_inputs(context)
            head.set_varying(True)
