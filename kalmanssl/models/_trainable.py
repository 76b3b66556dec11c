"""The interface between models and training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from kalmanssl.models._objective import Terms
from kalmanssl.networks import NoiseHead

__all__ = ["Trainable", "predictor_groups"]


class Trainable(nn.Module, ABC):
    """A model that `kalmanssl.training.train` can fit.

    A subclass defines `terms` and `diagnostics`; the other methods have defaults. A batch is what the data source
    yields and `terms` accepts, for example windows (batch, time, features) or a pair of views.

    Attributes
    ----------
    stage : str
        Name of the training on its progress bar.
    score_name : str
        What the held-out score is called there; empty if it is minus the loss.
    bins_per_step : int or None
        Bins of a recording in a step; the score is then shown in nats per bin, as in `KalmanSSL.history_`.
    """

    stage = "fit"
    score_name = ""
    bins_per_step: int | None = None

    @abstractmethod
    def terms(self, batch: Any) -> Terms:
        """Evaluate the objective on a batch, with gradients."""

    @abstractmethod
    def diagnostics(self, batch: Any) -> dict[str, float]:
        """Compute numbers that distinguish healthy latents from collapsed ones.

        Returns
        -------
        dict
            Must contain "latent_scale" and "effective_dimension" (see `kalmanssl.models.SequenceModel.diagnostics`).
            All entries are recorded in the history of the training.
        """

    def held_out_scores(self, batch: Any, reference: Any) -> Tensor:
        """Score a held-out batch; training keeps the weights of the epoch with the highest mean score.

        The default is the negative loss. A model whose loss has a constant value (stop-gradient entropy) must override
        it. Training calls this method in evaluation mode and without gradients.

        Parameters
        ----------
        batch
            A held-out batch.
        reference
            A batch of the training part, for scores that compare with typical data.

        Returns
        -------
        Tensor
            (samples, ...) with the scores of each sample of the batch, such as those of each step of a window, from
            which training also computes a standard error; or a scalar. Higher is better.
        """
        return -self.terms(batch).loss

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by learning-rate group.

        The groups are "encoder", "dynamics", "noise", and "constant_lr" for parameters with the learning rate of the
        dynamics but without a schedule. By default all parameters belong to "encoder".
        """
        return {"encoder": list(self.parameters())}

    def after_step(self) -> None:
        """Project the parameters onto their constraints and update moving averages, after each optimizer step."""

    def after_epoch(self, epochs: int) -> None:
        """Update quantities that follow a schedule over all `epochs` epochs, after each epoch."""


def predictor_groups(predictor: nn.Module, heads: Iterable[NoiseHead]) -> dict[str, list[nn.Parameter]]:
    """Return the parameters of a predictor by learning-rate group.

    The networks of its noise heads are the group "noise", and all other parameters the group "dynamics".
    """
    networks = [p for head in heads for p in head.network_parameters()]
    in_network = {id(p) for p in networks}
    return {"dynamics": [p for p in predictor.parameters() if id(p) not in in_network], "noise": networks}
