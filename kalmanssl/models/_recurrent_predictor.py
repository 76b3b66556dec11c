"""The recurrent predictor, the counterpart of the Kalman predictor for nonlinear dynamics.

A recurrent network summarizes all earlier latents. A multilayer perceptron predicts the mean of the next latent and,
optionally, its variance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kalmanssl.distributions import GaussianConditional, VonMisesFisher
from kalmanssl.errors import InputError, NotFiniteError
from kalmanssl.models._trainable import predictor_groups
from kalmanssl.networks import ConstantNoise, NoiseContext, NoiseHead, StateNoise, mlp
from kalmanssl.utils.torch_ops import seeded_by
from kalmanssl.utils.validation import check_choice, check_integer, check_widths

__all__ = ["DISTRIBUTIONS", "RecurrentPrediction", "RecurrentPredictor"]

_CELLS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
DISTRIBUTIONS = ("gaussian", "von_mises_fisher")
_VARIANCES = ("fixed", "constant", "state")

_FLOOR = 1e-6  # smallest variance
_VARIANCE_HIDDEN = 20
_MAX_RATIO = 100.0  # of a variance that depends on the state, to its constant part


@dataclass(frozen=True)
class RecurrentPrediction:
    """Predictive distribution of every latent given those before it.

    Attributes
    ----------
    conditional : GaussianConditional or VonMisesFisher
        Means are (batch, time, latent).
    mask : (batch, time) or None
        True where a latent was observed.
    """

    conditional: GaussianConditional | VonMisesFisher
    mask: Tensor | None = None

    def log_prob(self, latent: Tensor) -> Tensor:
        """Return the log-density of `latent` given those before it, (batch, time), nats; 0 where none was observed."""
        if self.mask is None:
            return self.conditional.log_prob(latent)
        # What stands in for a missing latent must be finite, or its gradient is not.
        observed = torch.where(self.mask.unsqueeze(-1), latent, self.conditional.mean.detach())
        return torch.where(self.mask, self.conditional.log_prob(observed), 0.0)

    def detach(self) -> RecurrentPrediction:
        """Return the predictive distribution without gradients to its parameters."""
        return RecurrentPrediction(self.conditional.detach(), self.mask)


class RecurrentPredictor(nn.Module):
    """Recurrent network with a perceptron head that predicts the next latent from all latents before it.

    With ``o_t`` the output of the recurrent layer after ``z_1 .. z_t`` (from a state of zeros), the latent ``z_{t+1}``
    has the mean ``head(o_t)``, or for the von Mises-Fisher distribution that direction. Source: LDM paper, Eq. 15, 56
    and Fig. 5; the defaults are the network used there.

    The first latent has no past. Its distribution has its own parameters: the mean and covariance of a Gaussian, or a
    mean direction and a concentration. It therefore does not constrain the location or scale of the latents, and its
    term in the alignment balances one step of the entropy. Without such a term, or with the fixed variance for the
    first step, the scale of the latents would be biased toward one or, with a learned variance, grow without bound,
    because an entropy of T steps would be added to an alignment of T - 1 steps.

    Parameters
    ----------
    latent_dim : int
        Size of the latent.
    cell : {"lstm", "gru", "rnn"}
        Kind of recurrent layer ("rnn": with tanh).
    hidden : int
        Number of units of the recurrent layer.
    head : sequence of int
        Widths of the hidden layers (ReLU) between the recurrent layer and the mean.
    distribution : {"gaussian", "von_mises_fisher"}
        Gaussian in Euclidean space, or von Mises-Fisher for latents of length one (`kalmanssl.distributions.OnSphere`).
        The concentration of the latter is one over the variance below.
    variance : {"fixed", "constant", "state"}
        "fixed": one. "constant": learned for each latent dimension, 1e-6 + exp(v). "state": the same, times a factor
        between 0.01 and 100 that a multilayer perceptron with 20 ReLU units computes from ``o_t``. In Euclidean space a
        fixed variance only determines the scale of the latents; on the sphere the scale is fixed, so the variance
        should be learned. The identifiability theorem does not cover a variance that depends on the state.
    generator : torch.Generator, optional
        Generator for the initial weights.

    Raises
    ------
    InputError
        If a name is unknown, a size is not a whole number of at least one, or a sphere has fewer than two dimensions.
    """

    def __init__(
        self,
        latent_dim: int,
        *,
        cell: str = "lstm",
        hidden: int = 10,
        head: Sequence[int] = (20, 20),
        distribution: str = "gaussian",
        variance: str = "fixed",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_choice("cell", cell, tuple(_CELLS))
        check_choice("distribution", distribution, DISTRIBUTIONS)
        check_choice("variance", variance, _VARIANCES)
        self.latent_dim, self.on_sphere = latent_dim, distribution == "von_mises_fisher"
        check_integer("latent_dim", latent_dim, 2 if self.on_sphere else 1)
        check_integer("hidden", hidden, 1)
        check_widths("head", head)
        variances = 1 if self.on_sphere else latent_dim
        with seeded_by(generator):
            self.recurrent = _CELLS[cell](latent_dim, hidden, batch_first=True)
            self.head = mlp((hidden, *head, latent_dim))
            self.variance: NoiseHead | None = None
            if variance == "constant":
                self.variance = ConstantNoise(variances, floor=_FLOOR)
            elif variance == "state":
                self.variance = StateNoise(hidden, variances, _VARIANCE_HIDDEN, floor=_FLOOR, max_ratio=_MAX_RATIO)
            if self.on_sphere:
                self.first_mean = nn.Parameter(torch.randn(latent_dim))
                self.first_log_concentration = nn.Parameter(torch.zeros(()))
            else:
                self.first_mean = nn.Parameter(torch.zeros(latent_dim))
                self.first_root = nn.Parameter(torch.eye(latent_dim))

    def forward(self, latent: Tensor, features: Tensor, mask: Tensor | None = None) -> RecurrentPrediction:
        """Predict every latent from those before it.

        Parameters
        ----------
        latent : (batch, time, latent)
        features : (batch, time, features)
            Not used: this predictor sees latents alone.
        mask : (batch, time), optional
            True where a latent was observed. In place of a missing one the network reads its own prediction.

        Raises
        ------
        InputError
            If shapes do not fit.
        NotFiniteError
            If an observed latent is not finite (a subclass of `InputError`).
        """
        if latent.ndim != 3 or latent.shape[-1] != self.latent_dim:
            message = f"latent must have shape (batch, time, {self.latent_dim}), got {tuple(latent.shape)}"
            raise InputError(message, parameter="latent")
        if mask is not None and (mask.dtype != torch.bool or mask.shape != latent.shape[:2]):
            raise InputError(
                f"mask must be bool with shape {tuple(latent.shape[:2])}, got {mask.dtype} with {tuple(mask.shape)}",
                parameter="mask",
            )
        finite = torch.isfinite(latent).all(-1)
        if not bool((finite if mask is None else finite | ~mask).all()):
            raise NotFiniteError(
                "latent has NaN or infinity at steps that are observed: mask them, or check the encoder",
                parameter="latent",
            )
        outputs = self._outputs(latent, mask)[:, :-1]
        first = self.first_mean.expand(len(latent), 1, -1)
        mean = torch.cat([first, self.head(outputs)], 1)
        if self.on_sphere:
            direction = nn.functional.normalize(mean, dim=-1)
            first_k = self.first_log_concentration.exp().reshape(1, 1)
            later_k = 1 / self._variances(outputs).squeeze(-1)
            return RecurrentPrediction(VonMisesFisher(direction, _joined(first_k, later_k)), mask)
        floor = _FLOOR * torch.eye(self.latent_dim, dtype=mean.dtype, device=mean.device)
        first_cov = (self.first_root @ self.first_root.mT + floor)[None, None]
        later_cov = torch.diag_embed(self._variances(outputs))
        return RecurrentPrediction(GaussianConditional(mean, _joined(first_cov, later_cov)), mask)

    def _outputs(self, latent: Tensor, mask: Tensor | None) -> Tensor:
        """Return the output of the recurrent layer after each latent, (batch, time, hidden)."""
        if mask is None:
            return self.recurrent(latent)[0]
        expected, state, outputs = self.first_mean.expand(len(latent), -1), None, []
        for t in range(latent.shape[1]):
            expected = nn.functional.normalize(expected, dim=-1) if self.on_sphere else expected
            read = torch.where(mask[:, t, None], latent[:, t], expected)
            output, state = self.recurrent(read[:, None], state)
            outputs.append(output)
            expected = self.head(output[:, 0])
        return torch.cat(outputs, 1)

    def _variances(self, outputs: Tensor) -> Tensor:
        """Return the variances after each output, (batch or 1, time, latent or 1), stored once if all have the same."""
        if self.variance is None:
            variances = outputs.new_ones(1 if self.on_sphere else self.latent_dim)
        else:
            variances = self.variance(NoiseContext(state=outputs))
        return variances if variances.ndim == 3 else variances.expand(1, outputs.shape[1], -1)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by learning-rate group: "dynamics", and "noise" for networks that predict noise."""
        return predictor_groups(self, [] if self.variance is None else [self.variance])

    def after_step(self) -> None:
        """Do nothing: the parameters have no constraints."""

    def diagnostics(self) -> dict[str, float]:
        """Return an empty dict: single weights of a network have no meaning."""
        return {}


def _joined(first: Tensor, later: Tensor) -> Tensor:
    """Concatenate the parameter of the first step, (1, 1, …), and those of the others, (batch or 1, time - 1, …)."""
    return torch.cat([first.expand(len(later), *first.shape[1:]), later], 1)
