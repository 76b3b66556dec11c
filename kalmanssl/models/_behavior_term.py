"""The behavior term of the objective: a readout of behavior from the state, trained together with a sequence model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from kalmanssl.errors import InputError
from kalmanssl.models._objective import Terms
from kalmanssl.models._trainable import Trainable

__all__ = ["BehaviorFit", "BehaviorReadout", "StateModel"]

_HIDDEN = 64  # units of the readout's hidden layer


class BehaviorReadout(nn.Module):
    """Distribution of the behavior given the state of the filter; a linear map plus a small network.

    Each column of the behavior has its own family: a Gaussian whose variance is learned for real numbers, a von Mises
    distribution whose concentration depends on the state for angles, and probabilities for labels. Columns are
    independent of each other given the state.

    Parameters
    ----------
    state_dim : int
    kinds : sequence of {"real", "angle"} or int
        Kind of each column; a number is the number of labels.

    Raises
    ------
    InputError
        If a kind is none of these.
    """

    def __init__(self, state_dim: int, kinds: Sequence[str | int]) -> None:
        super().__init__()
        for kind in kinds:
            if kind not in ("real", "angle") and not (isinstance(kind, int) and kind >= 2):
                raise InputError(f"kinds must be 'real', 'angle' or at least 2 labels, got {kind!r}", parameter="kinds")
        self.kinds = tuple(kinds)
        self.sizes = [kind if isinstance(kind, int) else {"real": 1, "angle": 2}[kind] for kind in self.kinds]
        self.linear = nn.Linear(state_dim, sum(self.sizes))
        self.network = nn.Sequential(
            nn.Linear(state_dim, _HIDDEN), nn.Tanh(), nn.Linear(_HIDDEN, sum(self.sizes), bias=False)
        )
        nn.init.zeros_(self.linear.bias)
        last = self.network[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        self.log_variance = nn.Parameter(torch.zeros(len(self.kinds)))  # only those of real columns are used

    def log_prob(self, state: Tensor, behavior: Tensor) -> Tensor:
        """Compute the mean log-density of the known behavior, summed over columns; nats.

        Parameters
        ----------
        state : (..., state)
        behavior : (..., columns)
            Real numbers, angles in radians and numbers of labels; NaN where they are unknown.

        Returns
        -------
        Tensor
            Scalar. Columns without any known value count zero.
        """
        outputs = (self.linear(state) + self.network(state)).split(self.sizes, dim=-1)
        total = state.new_zeros(())
        for number, (kind, output) in enumerate(zip(self.kinds, outputs, strict=True)):
            column = behavior[..., number]
            known = column.isfinite()
            value = torch.where(known, column, 0.0)
            if kind == "real":
                density = _gaussian(value, output[..., 0], self.log_variance[number])
            elif kind == "angle":
                density = _von_mises(value, output)
            else:
                density = functional.log_softmax(output, -1).gather(-1, value.long()[..., None])[..., 0]
            total = total + torch.where(known, density, 0.0).sum() / known.sum().clamp_min(1)
        return total


def _gaussian(value: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the log-density of a Gaussian."""
    return -0.5 * ((value - mean).square() * (-log_variance).exp() + log_variance + math.log(2 * math.pi))


def _von_mises(angle: Tensor, vector: Tensor) -> Tensor:
    """Return the log-density of angles; the vector (..., 2) has the mean direction, its norm is the concentration."""
    concentration = (vector.square().sum(-1) + 1e-12).sqrt()
    cosine = vector[..., 0] * angle.cos() + vector[..., 1] * angle.sin()
    return cosine - concentration - torch.special.i0e(concentration).log() - math.log(2 * math.pi)


class StateModel(Protocol):
    """A trainable model with a filter, such as `kalmanssl.models.SequenceModel`."""

    def evaluate(self, features: Tensor) -> tuple[Terms, list[Tensor]]:
        """Return the terms of the objective, and the filtered states (batch, time, state) of each encoder."""


class BehaviorFit(Trainable):
    """Fit of a sequence model whose latents also predict behavior.

    The objective is that of the model plus ``weight`` times the mean log-density of the behavior given the filtered
    state of its step. A model with several encoders has several states, and their log-densities are averaged.

    Parameters
    ----------
    model : SequenceModel or another Trainable with the method `evaluate`
        Its predictor is a `KalmanPredictor`.
    readout : BehaviorReadout
    weight : float
        At least zero.
    """

    score_name = "score"

    def __init__(self, model: Trainable, readout: BehaviorReadout, weight: float) -> None:
        super().__init__()
        self.model, self.readout, self.weight = model, readout, float(weight)

    def terms(self, batch: Tensor) -> Terms:
        """Evaluate the objective on windows (batch, time, features and behavior)."""
        features, behavior = self._split(batch)
        model: StateModel = self.model  # type: ignore[assignment]
        terms, states = model.evaluate(features)
        density = torch.stack([self.readout.log_prob(state, behavior) for state in states]).mean()
        return replace(terms, behavior=density, behavior_weight=self.weight)

    def held_out_scores(self, batch: Tensor, reference: Tensor) -> Tensor:
        """Return the mean held-out score of the model plus the weighted mean log-density of the behavior, a scalar."""
        scores = self.model.held_out_scores(self._split(batch)[0], self._split(reference)[0])
        behavior = self.terms(batch).behavior
        assert behavior is not None
        return scores.mean() + self.weight * behavior

    def diagnostics(self, batch: Tensor) -> dict[str, float]:
        """Compute the diagnostics of the model."""
        return self.model.diagnostics(self._split(batch)[0])

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by learning-rate group; the readout has the learning rate of the dynamics."""
        groups = self.model.parameter_groups()
        return {**groups, "dynamics": [*groups.get("dynamics", []), *self.readout.parameters()]}

    def after_step(self) -> None:
        """Project the parameters of the model onto their constraints, after each optimizer step."""
        self.model.after_step()

    def after_epoch(self, epochs: int) -> None:
        """Update the quantities of the model that follow a schedule, after each epoch."""
        self.model.after_epoch(epochs)

    def extra_repr(self) -> str:
        """Return the weight, for `repr`."""
        return f"weight={self.weight}"

    def _split(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features and the behavior, whose columns are the last ones."""
        return batch[..., : -len(self.readout.kinds)], batch[..., -len(self.readout.kinds) :]
