"""Encoders of several sessions with one predictor, and the fit of one encoder to a predictor that does not change."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import chain
from typing import Generic

import torch
from torch import Tensor, nn

from kalmanssl.models._objective import LDM, Terms
from kalmanssl.models._sequence import PredictorT, SequenceModel
from kalmanssl.models._trainable import Trainable

__all__ = ["EncoderFit", "SharedDynamicsModel"]


class SharedDynamicsModel(Trainable, Generic[PredictorT]):
    """Sequence models of several sessions that share the predictor.

    The objective is the mean over the sessions. The entropy is that of each session by itself: an entropy of all
    sessions together would reward latents that differ between sessions.

    Parameters
    ----------
    encoders : sequence of nn.Module
        One for each session.
    predictor : Predictor
    objective : LDM
    """

    score_name = "gain"

    def __init__(self, encoders: Sequence[nn.Module], predictor: PredictorT, objective: LDM) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.predictor = predictor
        self.objective = objective

    def session(self, number: int) -> SequenceModel[PredictorT]:
        """Return the model of one session, which shares its modules with this one."""
        return SequenceModel(self.encoders[number], self.predictor, self.objective)

    def sessions(self) -> list[SequenceModel[PredictorT]]:
        """Return the models of all sessions."""
        return [self.session(number) for number in range(len(self.encoders))]

    def terms(self, batch: Sequence[Tensor]) -> Terms:
        """Evaluate the objective on windows (batch, time, features) of every session."""
        found = [model.terms(windows) for model, windows in zip(self.sessions(), batch, strict=True)]
        return Terms(torch.stack([t.alignment for t in found]).mean(), torch.stack([t.entropy for t in found]).mean())

    def held_out_scores(self, batch: Sequence[Tensor], reference: Sequence[Tensor]) -> Tensor:
        """Return the mean predictive gain over the sessions."""
        pairs = zip(self.sessions(), batch, reference, strict=True)
        return torch.stack([model.predictive_gain(windows, other) for model, windows, other in pairs]).mean()

    def diagnostics(self, batch: Sequence[Tensor]) -> dict[str, float]:
        """Compute the mean over the sessions of the diagnostics of `SequenceModel`."""
        found = [model.diagnostics(windows) for model, windows in zip(self.sessions(), batch, strict=True)]
        return {name: sum(one[name] for one in found) / len(found) for name in found[0]}

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by learning-rate group: "encoder", "dynamics" and "noise"."""
        return {"encoder": list(self.encoders.parameters()), **self.predictor.parameter_groups()}

    def after_step(self) -> None:
        """Project the parameters of the predictor onto their constraints, after each optimizer step."""
        self.predictor.after_step()


class EncoderFit(Trainable, Generic[PredictorT]):
    """Fit of the encoder of a sequence model to its predictor, which does not change.

    Parameters
    ----------
    model : SequenceModel
        Its encoder changes. The predictor is copied.
    """

    score_name = "gain"

    def __init__(self, model: SequenceModel[PredictorT]) -> None:
        super().__init__()
        self.model = SequenceModel(model.encoder, copy.deepcopy(model.predictor), model.objective)
        for parameter in chain.from_iterable(self.model.predictor.parameter_groups().values()):
            parameter.requires_grad_(False)

    def terms(self, batch: Tensor) -> Terms:
        """Evaluate the objective on features (batch, time, features)."""
        return self.model.terms(batch)

    def held_out_scores(self, batch: Tensor, reference: Tensor) -> Tensor:
        """Return the predictive gains of the model."""
        return self.model.held_out_scores(batch, reference)

    def diagnostics(self, batch: Tensor) -> dict[str, float]:
        """Compute the diagnostics of the model on features (batch, time, features)."""
        return self.model.diagnostics(batch)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters of the encoder."""
        return {"encoder": list(self.model.encoder.parameters())}
