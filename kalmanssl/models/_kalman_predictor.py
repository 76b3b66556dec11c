"""Predictors: the distribution of a latent given the latents before it.

A predictor is an `nn.Module` that maps latents (batch, time, latent) and the features that the encoder saw
(batch, time, features) to a conditional distribution with one entry per time step (`kalmanssl.distributions`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kalmanssl.distributions import Conditional, FamilyConditional, GaussianConditional
from kalmanssl.errors import InputError
from kalmanssl.kalman import FilterResult, kalman_filter, kalman_smoother, kalman_step
from kalmanssl.networks import ErrorNoise, NoiseHead

__all__ = ["KalmanPrediction", "KalmanPredictor", "Posterior", "Prediction", "Predictor"]


class Prediction(Conditional, Protocol):
    """What a predictor says of latents (batch, time, latent): a conditional, one entry for each step."""

    @property
    def conditional(self) -> FamilyConditional:
        """The distribution of each latent given those before it, without whatever else the predictor found."""


class Predictor(Protocol):
    """What a `kalmanssl.models.SequenceModel` and its training ask of a predictor, beside being an `nn.Module`."""

    def __call__(self, latent: Tensor, features: Tensor, mask: Tensor | None = None) -> Prediction:
        """Predict each latent (batch, time, latent) from those before it."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by the rate at which training moves them: "dynamics", and "noise" for networks that predict it."""

    def after_step(self) -> None:
        """Bring the parameters back to where they must stay, after a step of the optimizer."""

    def diagnostics(self) -> dict[str, float]:
        """Numbers about the parameters that are worth a look in each epoch."""


@dataclass(frozen=True)
class KalmanPrediction:
    """One-step predictive distribution of the latents under the filter, with the filter's own result.

    Attributes
    ----------
    latent : (batch, time, latent), the latents that were filtered
    noise : (batch or 1, time or 1, latent), variance of the observation noise
    filtered : result of `kalmanssl.kalman.kalman_filter`
    """

    latent: Tensor
    noise: Tensor
    filtered: FilterResult

    @property
    def conditional(self) -> GaussianConditional:
        """The predictive distribution as a Gaussian over latents."""
        return GaussianConditional(self.latent - self.filtered.innovation, self.filtered.innovation_cov)

    def log_prob(self, latent: Tensor) -> Tensor:
        """Log-density of `latent` given the filtered latents before it, (batch, time), nats."""
        if latent is self.latent:  # the filter has it already
            return self.filtered.log_likelihood
        return self.conditional.log_prob(latent)

    def detach(self) -> GaussianConditional:
        """Return the predictive distribution without gradients to its parameters."""
        return self.conditional.detach()


@dataclass(frozen=True)
class Posterior:
    """Posterior of the state at every step, each distinct covariance stored once.

    Attributes
    ----------
    mean : (batch, time, state)
    covs : (distinct, state, state)
    cov_index : (batch, time), which of `covs` belongs to each step
    noise : (batch, time, latent), variance of the observation noise
    log_likelihood : (batch, time), one-step predictive log-density of the latents, nats
    """

    mean: Tensor
    covs: Tensor
    cov_index: Tensor
    noise: Tensor
    log_likelihood: Tensor


class KalmanPredictor(nn.Module):
    """Kalman filter over a hidden linear state whose noise may depend on the input, the state or recent errors.

    The state follows ``h_t = A (h_{t-1} - c) + c + N(0, Q)`` around the learned center ``c`` and the latent is
    ``z_t = C h_t + N(0, R_t)``, with `C` the fixed rectangular identity: the first `latent_dim` coordinates of the
    state are the predicted latents, the others are hidden. Source: LDM paper, Eq. 15 and Fig. 4B.

    Parameters
    ----------
    latent_dim, state_dim : int
        Sizes of the latent and of the state; the state must be at least as large.
    observation_noise, process_noise : kalmanssl.networks.NoiseHead
        Give the diagonals of R (latent_dim) and Q (state_dim).
    max_spectral_radius : float
        Bound that `cap_spectral_radius` holds `A` to; slightly above one lets undamped oscillations form.
    generator : torch.Generator, optional
        Draws the initial `A`.

    Raises
    ------
    InputError
        If the sizes of state, latent and noise heads do not fit together.
    """

    def __init__(
        self,
        latent_dim: int,
        state_dim: int,
        observation_noise: NoiseHead,
        process_noise: NoiseHead,
        max_spectral_radius: float = 1.02,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if state_dim < latent_dim:
            raise InputError(f"state_dim must be at least latent_dim = {latent_dim}, got {state_dim}")
        for name, head, size in (("observation", observation_noise, latent_dim), ("process", process_noise, state_dim)):
            if head.dim != size:
                raise InputError(f"the {name} noise head gives {head.dim} variances where {size} are needed")
        self.observation_noise = observation_noise
        self.process_noise = process_noise
        self.max_spectral_radius = max_spectral_radius
        A = torch.eye(state_dim) + 0.1 * torch.randn(state_dim, state_dim, generator=generator)
        self.A = nn.Parameter(A / (1.1 * torch.linalg.eigvals(A).abs().max()))
        self.center = nn.Parameter(torch.zeros(state_dim))
        self.initial_mean = nn.Parameter(torch.zeros(state_dim))
        self.log_initial_variance = nn.Parameter(torch.zeros(state_dim))
        self.register_buffer("C", torch.eye(latent_dim, state_dim))

    C: Tensor

    @property
    def latent_dim(self) -> int:
        """Size of the latent."""
        return self.C.shape[0]

    @property
    def state_dim(self) -> int:
        """Size of the hidden state."""
        return self.C.shape[1]

    def dynamics(self) -> dict[str, Any]:
        """Return the parameters that never depend on the data, as keyword arguments of the filter."""
        return {
            "A": self.A,
            "b": self.center - self.A @ self.center,
            "C": self.C,
            "m0": self.initial_mean,
            "P0": self.log_initial_variance.exp(),
        }

    def forward(self, latent: Tensor, features: Tensor, mask: Tensor | None = None) -> KalmanPrediction:
        """Filter latents (batch, time, latent); `mask` as in `kalmanssl.kalman.kalman_filter`."""
        R, Q = self.noises(latent, features, mask)
        filtered = kalman_filter(latent, **self.dynamics(), Q=Q, R=R, mask=mask)
        return KalmanPrediction(latent, R if R.ndim == 3 else R[None, None], filtered)

    @torch.no_grad()
    def posterior(self, latent: Tensor, features: Tensor, smooth: bool = False) -> Posterior:
        """Posterior of the state given latents up to each step, or all of them; without derivatives.

        Parameters
        ----------
        latent : (batch, time, latent)
        features : (batch, time, features)
        smooth : bool
        """
        R, Q = self.noises(latent, features)
        noise = R.expand(latent.shape)
        if smooth:
            smoothed = kalman_smoother(latent, **self.dynamics(), Q=Q, R=R)
            covs, index = smoothed.distinct_smoothed_cov()
            return Posterior(smoothed.smoothed_mean, covs, index, noise, smoothed.filter.log_likelihood)
        filtered = kalman_filter(latent, **self.dynamics(), Q=Q, R=R)
        covs, index = filtered.distinct_filtered_cov()
        return Posterior(filtered.filtered_mean, covs, index, noise, filtered.log_likelihood)

    def noises(self, latent: Tensor, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the variances of observation and process noise, R and Q, in the form that the filter takes them."""
        heads = (self.observation_noise, self.process_noise)
        if all(head.needs in ("nothing", "input") for head in heads):
            R, Q = (head(features) if head.needs == "input" else head() for head in heads)
            return R, Q
        return self._noises_step_by_step(latent, features, mask)

    def _noises_step_by_step(self, latent: Tensor, features: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Noise that follows what the filter found at earlier steps: it has to walk along with the filter."""
        batch, steps, _ = latent.shape
        fixed = {
            head: (head(features) if head.needs == "input" else head().expand(batch, steps, -1))
            for head in (self.observation_noise, self.process_noise)
            if head.needs in ("nothing", "input")
        }
        parameters = self.dynamics()
        m0, P0 = parameters.pop("m0"), parameters.pop("P0")
        mean, cov = m0.expand(batch, -1), torch.diag_embed(P0).expand(batch, -1, -1)
        errors: list[Tensor] = []
        chosen: dict[NoiseHead, list[Tensor]] = {self.observation_noise: [], self.process_noise: []}
        for t in range(steps):
            for head, variances in chosen.items():
                if head in fixed:
                    variances.append(fixed[head][:, t])
                elif head.needs == "state":
                    variances.append(head(mean))
                elif isinstance(head, ErrorNoise):
                    past = torch.stack(errors, 1) if errors else latent.new_zeros(batch, 0, latent.shape[-1])
                    variances.append(head(head.before(past, t)))
            step = kalman_step(
                latent[:, t],
                mean,
                cov,
                **parameters,
                R=chosen[self.observation_noise][-1][:, None],
                Q=chosen[self.process_noise][-1][:, None],
                mask=None if mask is None else mask[:, t],
                first=t == 0,
            )
            mean, cov = step.filtered_mean, step.filtered_cov
            errors.append(step.innovation)
        R, Q = (torch.stack(variances, 1) for variances in chosen.values())
        return R, Q

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that training may move at different rates: dynamics, and networks that predict noise."""
        heads = (self.observation_noise, self.process_noise)
        networks = [p for head in heads if head.needs != "nothing" for p in head.parameters()]
        in_network = {id(p) for p in networks}
        return {"dynamics": [p for p in self.parameters() if id(p) not in in_network], "noise": networks}

    def after_step(self) -> None:
        """Hold the spectral radius to its bound; training calls this between steps."""
        self.cap_spectral_radius()

    @torch.no_grad()
    def diagnostics(self) -> dict[str, float]:
        """Spectral radius of the transition matrix."""
        return {"spectral_radius": float(torch.linalg.eigvals(self.A).abs().max())}

    @torch.no_grad()
    def cap_spectral_radius(self) -> None:
        """Scale `A` down to `max_spectral_radius` if it lies above."""
        radius = torch.linalg.eigvals(self.A).abs().max()
        if radius > self.max_spectral_radius:
            self.A.mul_(self.max_spectral_radius / radius)
