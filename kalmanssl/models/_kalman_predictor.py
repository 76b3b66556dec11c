"""Predictors: the distribution of a latent given the latents before it.

A predictor is an `nn.Module` that maps latents (batch, time, latent) and the features that the encoder received
(batch, time, features) to a conditional distribution with one entry per time step (`kalmanssl.distributions`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kalmanssl.distributions import Conditional, FamilyConditional, GaussianConditional
from kalmanssl.errors import InputError
from kalmanssl.kalman import FilterResult, kalman_filter, kalman_smoother
from kalmanssl.models._adaptive_filter import AdaptiveFilterResult, filter_with_adaptive_noise
from kalmanssl.models._trainable import predictor_groups
from kalmanssl.networks import ConstantNoise, NoiseContext, NoiseHead

__all__ = ["KalmanPrediction", "KalmanPredictor", "Posterior", "Prediction", "Predictor"]

# Start of the dynamics: bounds of the autoregressive coefficient and of the signal's fraction of the variance; the
# coefficient and process noise of hidden coordinates; the standard deviation of couplings in A.
_COEFFICIENTS = (0.3, 0.99)
_SIGNAL_FRACTIONS = (0.05, 0.95)
_HIDDEN_COEFFICIENT = 0.9
_HIDDEN_VARIANCE = 0.2
_COUPLING = 0.02
_POWER = 256  # of `A`: its norm bounds the spectral radius


class Prediction(Conditional, Protocol):
    """Result of a predictor: the conditional distribution of latents (batch, time, latent), one entry per step."""

    @property
    def conditional(self) -> FamilyConditional:
        """The distribution of each latent given those before it, without other results of the predictor."""


class Predictor(Protocol):
    """Interface of the predictors that `kalmanssl.models.SequenceModel` accepts, in addition to `nn.Module`."""

    def __call__(self, latent: Tensor, features: Tensor, mask: Tensor | None = None) -> Prediction:
        """Predict each latent (batch, time, latent) from those before it."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by learning-rate group: "dynamics", and "noise" for networks that predict noise."""

    def after_step(self) -> None:
        """Project the parameters onto their constraints, after each optimizer step."""

    def diagnostics(self) -> dict[str, float]:
        """Return numbers about the parameters that are recorded in each epoch."""


@dataclass(frozen=True)
class KalmanPrediction:
    """One-step predictive distribution of the latents under the Kalman filter, and the result of the filter.

    Attributes
    ----------
    latent : (batch, time, latent)
        The latents that were filtered.
    observation_noise : (batch or 1, time or 1, latent)
        Variances R.
    process_noise : (batch or 1, time or 1, state)
        Variances Q.
    filtered : kalmanssl.kalman.FilterResult or AdaptiveFilterResult
        Moments of the state; an `AdaptiveFilterResult` if the noise depends on earlier results of the filter.
    """

    latent: Tensor
    observation_noise: Tensor
    process_noise: Tensor
    filtered: FilterResult | AdaptiveFilterResult

    @property
    def conditional(self) -> GaussianConditional:
        """The predictive distribution as a Gaussian over latents."""
        return GaussianConditional(self.latent - self.filtered.innovation, self.filtered.innovation_cov)

    def log_prob(self, latent: Tensor) -> Tensor:
        """Return the log-density of `latent` given the filtered latents before it, (batch, time), nats."""
        if latent is self.latent:  # already computed by the filter
            return self.filtered.log_likelihood
        return self.conditional.log_prob(latent)

    def detach(self) -> GaussianConditional:
        """Return the predictive distribution without gradients to its parameters."""
        return self.conditional.detach()


@dataclass(frozen=True)
class Posterior:
    """Posterior of the state at every step. Each distinct covariance is stored once.

    Attributes
    ----------
    mean : (batch, time, state)
    covs : (distinct, state, state)
    cov_index : (batch, time)
        Index into `covs` for each step.
    noise : (batch, time, latent)
        Variances of the observation noise.
    log_likelihood : (batch, time)
        One-step predictive log-density of the latents, nats.
    """

    mean: Tensor
    covs: Tensor
    cov_index: Tensor
    noise: Tensor
    log_likelihood: Tensor


class KalmanPredictor(nn.Module):
    """Kalman filter over a linear state whose noise may depend on the input, the state or earlier innovations.

    The state follows ``h_t = A (h_{t-1} - c) + c + N(0, Q_t)`` around the learned center ``c``. The latent is
    ``z_t = C h_t + N(0, R_t)``, where `C` is the fixed rectangular identity: the first `latent_dim` coordinates of the
    state predict the latents, the others are hidden. Source: LDM paper, Eq. 15 and Fig. 4B.

    If neither noise head uses the state or innovations, the whole sequence is filtered with compiled code. Otherwise
    the filter and the noise are computed together, step by step.

    Parameters
    ----------
    latent_dim, state_dim : int
        Dimensions of the latent and of the state; `state_dim` must be at least `latent_dim`.
    observation_noise, process_noise : kalmanssl.networks.NoiseHead
        Models of the diagonals of R (latent_dim) and Q (state_dim). Any subclass of `NoiseHead` can be used.
    max_spectral_radius : float
        Upper bound of the spectral radius of `A`, enforced by `cap_spectral_radius`. A value slightly above one allows
        undamped oscillations.
    generator : torch.Generator, optional
        Generator for the initial `A`.

    Raises
    ------
    InputError
        If the dimensions of state, latent and noise heads do not match.
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
            raise InputError(
                f"state_dim must be at least latent_dim = {latent_dim}, got {state_dim}", parameter="state_dim"
            )
        for name, head, size in (("observation", observation_noise, latent_dim), ("process", process_noise, state_dim)):
            if head.dim != size:
                raise InputError(
                    f"the {name} noise head returns {head.dim} variances, but {size} are needed",
                    parameter=f"{name}_noise",
                )
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

    @property
    def noise_heads(self) -> tuple[NoiseHead, NoiseHead]:
        """The heads of the observation noise and of the process noise."""
        return self.observation_noise, self.process_noise

    def dynamics(self) -> dict[str, Any]:
        """Return the parameters that do not depend on the data, as keyword arguments of `kalman_filter`."""
        return {
            "A": self.A,
            "b": self.center - self.A @ self.center,
            "C": self.C,
            "m0": self.initial_mean,
            "P0": self.log_initial_variance.exp(),
        }

    @torch.no_grad()
    def match_autocovariance(
        self,
        mean: Tensor,
        variance: Tensor,
        lag_1: Tensor,
        lag_2: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        """Start the dynamics of each latent as a first-order autoregression plus white noise with given moments.

        Its autocovariance at lag k is ``s a^k`` for k > 0, and s + R at lag 0, which gives the coefficient a, the
        variance s of the signal and R. The coupling between coordinates of the state stays small and random, and the
        hidden coordinates stay as they are. Noise heads of the classes `ConstantNoise` and `BoundedNoise` get the
        matching constant variances; other heads do not change.

        Parameters
        ----------
        mean, variance : (latent,)
            Moments of the latents.
        lag_1, lag_2 : (latent,)
            Autocovariance of each latent at lags of one and two steps.
        generator : torch.Generator, optional
            Generator for the coupling; by default the global one of torch.
        """
        n = self.latent_dim
        variance = variance.clamp_min(1e-8)
        coefficient = (lag_2 / lag_1.clamp_min(1e-3 * variance)).clamp(*_COEFFICIENTS)
        signal = (lag_1 / coefficient / variance).clamp(*_SIGNAL_FRACTIONS) * variance
        coupling = torch.randn(self.state_dim, self.state_dim, generator=generator)
        A = _HIDDEN_COEFFICIENT * torch.eye(self.state_dim) + _COUPLING * coupling
        A[:n, :n] += torch.diag(coefficient - torch.diagonal(A)[:n])
        self.A.copy_(A)
        self.cap_spectral_radius()
        self.center[:n] = mean
        self.initial_mean[:n] = mean
        self.log_initial_variance[:n] = signal.log()
        if isinstance(self.observation_noise, ConstantNoise):
            self.observation_noise.set_variance(variance - signal)
        if isinstance(self.process_noise, ConstantNoise):
            Q = torch.full((self.state_dim,), _HIDDEN_VARIANCE)
            Q[:n] = signal * (1 - coefficient**2)
            self.process_noise.set_variance(Q)

    def forward(self, latent: Tensor, features: Tensor, mask: Tensor | None = None) -> KalmanPrediction:
        """Predict each latent from those before it.

        Parameters
        ----------
        latent, features : (batch, time, latent), (batch, time, features)
        mask : (batch, time, latent) or (batch, time), optional
            True where observed, as for `kalmanssl.kalman.kalman_filter`. Steps that the noise head reports as not
            observed are missing, too; their log-density is zero.
        """
        heads = self.noise_heads
        mask = self._observed(features, mask)
        if any(head.is_sequential for head in heads):
            adaptive = filter_with_adaptive_noise(latent, features, self.dynamics(), *heads, mask)
            return KalmanPrediction(latent, adaptive.observation_noise, adaptive.process_noise, adaptive)
        R, Q = (head(NoiseContext(features)) for head in heads)
        filtered = kalman_filter(latent, **self.dynamics(), Q=Q, R=R, mask=mask)
        R, Q = (noise if noise.ndim == 3 else noise[None, None] for noise in (R, Q))
        return KalmanPrediction(latent, R, Q, filtered)

    @torch.no_grad()
    def posterior(self, latent: Tensor, features: Tensor, smooth: bool = False) -> Posterior:
        """Compute the posterior of the state, without gradients.

        Parameters
        ----------
        latent : (batch, time, latent)
        features : (batch, time, features)
        smooth : bool
            Whether to condition each state on all latents instead of those up to its step.
        """
        heads = self.noise_heads
        if not smooth:
            prediction = self(latent, features)
            filtered = prediction.filtered
            covs, index = _distinct_filtered_cov(filtered)
            noise = prediction.observation_noise.expand(latent.shape)
            return Posterior(filtered.filtered_mean, covs, index, noise, filtered.log_likelihood)
        mask = self._observed(features)
        if any(head.is_sequential for head in heads):
            adaptive = filter_with_adaptive_noise(latent, features, self.dynamics(), *heads, mask)
            R, Q = adaptive.observation_noise, adaptive.process_noise
        else:
            R, Q = (head(NoiseContext(features)) for head in heads)
        smoothed = kalman_smoother(latent, **self.dynamics(), Q=Q, R=R, mask=mask)
        covs, index = smoothed.distinct_smoothed_cov()
        return Posterior(smoothed.smoothed_mean, covs, index, R.expand(latent.shape), smoothed.filter.log_likelihood)

    def _observed(self, features: Tensor, mask: Tensor | None = None) -> Tensor | None:
        """Return the mask without the steps that have no observation according to the head of the noise."""
        observed = self.observation_noise.observed(NoiseContext(features))
        if observed is None or mask is None:
            return mask if observed is None else observed
        return mask & (observed if mask.ndim == 2 else observed[..., None])

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by learning-rate group: "dynamics", and "noise" for networks that predict noise."""
        return predictor_groups(self, self.noise_heads)

    def after_step(self) -> None:
        """Enforce the bound of the spectral radius, after each optimizer step."""
        self.cap_spectral_radius()

    @torch.no_grad()
    def diagnostics(self) -> dict[str, float]:
        """Return the spectral radius of the transition matrix."""
        return {"spectral_radius": float(torch.linalg.eigvals(self.A).abs().max())}

    @torch.no_grad()
    def cap_spectral_radius(self) -> None:
        """Scale `A` so that its spectral radius is at most `max_spectral_radius`."""
        # The norm of a power bounds that of the radius, and takes a tenth of the time of the eigenvalues.
        powers = torch.linalg.matrix_power(self.A / self.max_spectral_radius, _POWER)
        if bool(torch.linalg.vector_norm(powers) < 1 - 1e-4):
            return
        radius = torch.linalg.eigvals(self.A).abs().max()
        if radius > self.max_spectral_radius:
            self.A.mul_(self.max_spectral_radius / radius)


def _distinct_filtered_cov(filtered: FilterResult | AdaptiveFilterResult) -> tuple[Tensor, Tensor]:
    """Return the distinct filtered covariances (distinct, state, state) and the index of each step (batch, time)."""
    if isinstance(filtered, FilterResult):
        return filtered.distinct_filtered_cov()
    covs = filtered.filtered_cov.flatten(0, 1)
    return covs, torch.arange(len(covs), device=covs.device).reshape(filtered.filtered_cov.shape[:2])
