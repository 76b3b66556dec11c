"""Sequence models of two views: two encoders into one latent space, where each view predicts the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kalmanssl.models._kalman_predictor import KalmanPredictor
from kalmanssl.models._objective import Terms
from kalmanssl.models._sequence import SequenceModel, SequenceOutput
from kalmanssl.models._trainable import Trainable

__all__ = ["TwoViewModel"]


class TwoViewModel(Trainable):
    """Two encoders with one predictor: the past of each view predicts the present of the other.

    For latents z of the first view and z' of the second one, the objective is the mean of both directions,

    ``⟨log P(z'_t | z_<t)⟩ / 2 + ⟨log P(z_t | z'_<t)⟩ / 2 + entropy``,

    where P is the predictive distribution of the filter. It is the objective of pairs (the past of one view, the
    present of the other) with the empirical prior of the past (LDM paper, Eq. 19 and 20). With mutual information the
    entropy is (H[z_t] + H[z'_t]) / 2, and the objective is a lower bound on the information between the past of one
    view and the present of the other (Barber & Agakov 2003). Processes that only one view has do not increase it.
    Without mutual information the entropies are those given the past of the other view, H[z'_t | z_<t] and
    H[z_t | z'_<t]. If both views and encoders are the same, this is the objective of one view.

    Parameters
    ----------
    first, second : SequenceModel
        The models of the views, with the same predictor object and the same objective.
    n_first : int
        Number of features of the first view; batches have the features of both views, (batch, time, features).
    """

    score_name = "gain"

    def __init__(
        self, first: SequenceModel[KalmanPredictor], second: SequenceModel[KalmanPredictor], n_first: int
    ) -> None:
        super().__init__()
        assert first.predictor is second.predictor
        self.first, self.second, self.n_first = first, second, n_first

    def forward(self, features: Tensor) -> tuple[SequenceOutput, SequenceOutput]:
        """Encode and predict each view by itself."""
        return self.first(features[..., : self.n_first]), self.second(features[..., self.n_first :])

    def terms(self, features: Tensor) -> Terms:
        """Evaluate the objective on the features of both views, side by side."""
        return self.evaluate(features)[0]

    def evaluate(self, features: Tensor) -> tuple[Terms, list[Tensor]]:
        """Evaluate the objective; return it and the filtered states (batch, time, state) of each view."""
        first, second = self(features)
        parts = [
            self.first.objective(target.latent, source.prediction, given=source.latent)
            for source, target in ((first, second), (second, first))
        ]
        terms = Terms(
            (parts[0].alignment + parts[1].alignment) / 2,
            (parts[0].entropy + parts[1].entropy) / 2,
        )
        return terms, [output.prediction.filtered.filtered_mean for output in (first, second)]

    @torch.no_grad()
    def held_out_scores(self, batch: Tensor, reference: Tensor) -> Tensor:
        """Compute how much better the past of one view predicts the other than its marginal distribution does.

        See `SequenceModel.predictive_gain`; the mean of both directions in each window, (batch,), nats per step.
        """
        outputs, references = self(batch), self(reference)
        gains = []
        for source, target in ((0, 1), (1, 0)):
            prediction, latent = outputs[source].prediction.conditional, outputs[target].latent
            marginal = prediction.fitted(references[target].latent.flatten(0, 1))
            gains.append((prediction.log_prob(latent) - marginal.log_prob(latent)).mean(1))
        return (gains[0] + gains[1]) / 2

    @torch.no_grad()
    def diagnostics(self, batch: Tensor) -> dict[str, float]:
        """Compute `latent_statistics`, the smaller ones of the two views, and the diagnostics of the predictor."""
        parts = batch[..., : self.n_first], batch[..., self.n_first :]
        found = [model.diagnostics(part) for model, part in zip((self.first, self.second), parts, strict=True)]
        return found[0] | {name: min(one[name] for one in found) for name in ("latent_scale", "effective_dimension")}

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by learning-rate group."""
        encoders = [*self.first.encoder.parameters(), *self.second.encoder.parameters()]
        return {"encoder": encoders, **self.first.predictor.parameter_groups()}

    def after_step(self) -> None:
        """Project the parameters of the predictor onto their constraints, after each optimizer step."""
        self.first.after_step()
