"""Forecasts of latents from a fitted `KalmanSSL`, and free-running samples of its dynamics."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from scipy.special import ndtri
from sklearn.utils.validation import check_is_fitted

from kalmanssl.data import Covariances, Latents
from kalmanssl.errors import InputError
from kalmanssl.kalman import forecast
from kalmanssl.networks import BoundedNoise, ConstantNoise
from kalmanssl.utils.arrays import as_floats
from kalmanssl.utils.memory import check_memory
from kalmanssl.utils.segments import is_gap
from kalmanssl.utils.validation import (
    check_bool,
    check_condition,
    check_integer,
    check_number,
    check_positive,
    check_seed,
)

if TYPE_CHECKING:
    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = ["Forecast", "ForecastMixin"]

_MAX_VALUES = 2**28  # of the covariances of a forecast, 2 GB


@dataclass(frozen=True, eq=False)
class Forecast:
    """Predictive distribution of the state and of the encoder output in the steps after given bins.

    Each origin is a bin from which the forecast starts. Steps are filter steps of `bins_per_step` bins.

    Attributes
    ----------
    origin : (origins,) int
        Index of the bin in the latents.
    time : (origins, steps)
        Times of the forecast, seconds.
    mean : (origins, steps, state)
        Mean of the state.
    latent_mean : (origins, steps, latent)
        Mean of the encoder output.
    """

    origin: np.ndarray
    time: np.ndarray
    mean: np.ndarray
    latent_mean: np.ndarray
    _start: tuple[np.ndarray, Covariances]  # filtered moments of the origins
    _cov: np.ndarray  # (distinct, steps, state, state), one for each matrix of the covariances of the origins
    _noise: np.ndarray  # variance of the observation noise (origins, latent)
    _dynamics: dict[str, np.ndarray]  # A, b, C, and the variances Q

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def cov(self) -> np.ndarray:
        """Covariance of the state, (origins, steps, state, state); a copy, large for many origins."""
        return self._cov[self._start[1].index]

    @property
    def latent_cov(self) -> np.ndarray:
        """Covariance of the encoder output with its noise, (origins, steps, latent, latent); a copy."""
        C, diagonal = self._dynamics["C"], np.arange(self._noise.shape[1])
        cov = (C @ self._cov @ C.T)[self._start[1].index]
        cov[..., diagonal, diagonal] += self._noise[:, None]
        return cov

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower and upper end of the central interval of each encoder output, (origins, steps, latent).

        Parameters
        ----------
        level : float
            Nominal level, between 0 and 1.
        """
        check_number("level", level)
        check_condition("level", level, 0 < level < 1, "a number between 0 and 1")
        variance = np.diagonal(self._dynamics["C"] @ self._cov @ self._dynamics["C"].T, axis1=-2, axis2=-1)
        sd = np.sqrt(variance[self._start[1].index] + self._noise[:, None])
        half = ndtri((1 + level) / 2) * sd
        return self.latent_mean - half, self.latent_mean + half

    def sample(self, n_samples: int, observed: bool = False, random_state: int | None = None) -> np.ndarray:
        """Draw trajectories: states from the posterior at the origin that then follow the dynamics with their noise.

        Parameters
        ----------
        n_samples : int
        observed : bool
            Return the encoder output, with observation noise, instead of the state.
        random_state : int or None
            Seed.

        Returns
        -------
        (n_samples, origins, steps, state) or (n_samples, origins, steps, latent)
        """
        check_integer("n_samples", n_samples, 1)
        check_bool("observed", observed)
        check_seed(random_state)
        need = 3.0 * 8 * n_samples * self.mean.size
        advice = "draw fewer samples, or from fewer origins"
        check_memory(need, f"n_samples={n_samples}: drawing them", advice, "n_samples")
        rng = np.random.default_rng(random_state)
        A, b, C, Q = (self._dynamics[name] for name in "AbCQ")
        mean, covariances = self._start
        root = covariances.square_roots()[covariances.index]
        shape = (n_samples, *mean.shape)
        state = mean + np.einsum("oij,noj->noi", root, rng.standard_normal(shape))
        states = []
        for _ in range(self.mean.shape[1]):
            state = state @ A.T + b + np.sqrt(Q) * rng.standard_normal(shape)
            states.append(state)
        trajectories = np.stack(states, axis=2)
        if not observed:
            return trajectories
        latent = trajectories @ C.T
        return latent + np.sqrt(self._noise[:, None]) * rng.standard_normal(latent.shape)


class ForecastMixin:
    """The method `forecast` of `KalmanSSL`."""

    def forecast(
        self, latents: Latents, steps: int | None = None, at: Any = None, *, horizon: float | None = None
    ) -> Forecast:
        """Compute the distribution of the state and of the encoder output in the steps after given bins.

        The dynamics are applied to the filtered state of each bin, without the later activity. Give either `horizon` or
        `steps`; `Forecast.time` has the times of the steps in seconds.

        Parameters
        ----------
        latents : Latents
            Filtered latents of this model.
        steps : int, optional
            Number of filter steps ahead, of `bins_per_step_` bins each.
        at : float or (origins,), optional
            Times from which to forecast, seconds: from the last bin at or before each. By default from every bin.
        horizon : float, optional
            How far ahead to forecast, seconds: as many filter steps as are needed to reach it.

        Returns
        -------
        Forecast
            Means, covariances and intervals; `Forecast.sample` draws trajectories. The observation noise is that of the
            bin from which the forecast starts.

        Raises
        ------
        InputError
            If not exactly one of `horizon` and `steps` is given, latents are smoothed or of another model, a time has
            no bin, or the process noise varies.

        References
        ----------
        Särkkä & Svensson, Bayesian Filtering and Smoothing, 2nd ed. (2023), Chapter 6.
        """
        check_is_fitted(self, "model_")
        model = cast("KalmanSSL", self)
        return _forecast(model, latents, _number_of_steps(model, steps, horizon), at)


def _forecast(model: KalmanSSL, latents: Latents, steps: int, at: Any) -> Forecast:
    """Return the forecast from some bins of filtered latents; see `KalmanSSL.forecast`."""
    if not isinstance(latents, Latents):
        raise InputError(
            f"latents must be those of `transform`, got {type(latents).__name__}: give one trial at a time",
            parameter="latents",
        )
    if latents.smoothed:
        raise InputError(
            "latents are smoothed, so that they depend on later bins: use smooth=False", parameter="latents"
        )
    dynamics = _dynamics(model)
    if latents.mean.shape[1] != len(dynamics["A"]):
        message = f"latents have {latents.mean.shape[1]} dimensions and the state {len(dynamics['A'])}: use this model"
        raise InputError(message, parameter="latents")
    width = 1.0 if np.isnan(model.bin_size_) else model.bin_size_
    origin = _origins(latents, at, width)
    covariances = latents.covariances[origin].used()
    table = covariances.table.astype(float)
    if table.size * steps > _MAX_VALUES:
        message = f"forecasts of {steps} steps from {len(origin)} bins need too much memory: give fewer times in `at`"
        raise InputError(message, parameter="at")
    parameters = {name: torch.from_numpy(value) for name, value in dynamics.items()}
    R = torch.ones(len(dynamics["C"]), dtype=torch.float64)
    # Covariances do not depend on the mean, so each distinct matrix is propagated once.
    state_mean = torch.zeros(table.shape[:2], dtype=torch.float64)
    cov = forecast(state_mean, torch.from_numpy(table), steps, **parameters, R=R).state_cov.numpy()
    start = latents.mean[origin].astype(float)
    mean, means = start, []
    for _ in range(steps):
        mean = mean @ dynamics["A"].T + dynamics["b"]
        means.append(mean)
    stacked = np.stack(means, axis=1)
    time = latents.time[origin][:, None] + width * model.bins_per_step_ * np.arange(1, steps + 1)
    noise = latents.noise[origin].astype(float)
    return Forecast(
        origin=origin,
        time=time,
        mean=stacked,
        latent_mean=stacked @ dynamics["C"].T,
        _start=(start, Covariances(table, covariances.index)),
        _cov=cov,
        _noise=noise,
        _dynamics=dynamics,
    )


def _number_of_steps(model: KalmanSSL, steps: int | None, horizon: float | None) -> int:
    """Return the number of filter steps of a forecast, from this number itself or from a horizon in seconds."""
    if (steps is None) == (horizon is None):
        message = "horizon (seconds) or steps (filter steps) must be given, and not both"
        raise InputError(message, parameter="horizon")
    if horizon is None:
        check_integer("steps", steps, 1)
        return int(cast("int", steps))
    check_positive("horizon", horizon)
    if np.isnan(model.bin_size_):
        message = "horizon needs bins with a known size, and the model was fitted on an array: give steps instead"
        raise InputError(message, parameter="horizon")
    return max(1, math.ceil(horizon / (model.bin_size_ * model.bins_per_step_) - 1e-6))


def _dynamics(model: KalmanSSL) -> dict[str, np.ndarray]:
    """Return A, b, C and the variances Q of a model with constant process noise, in float64."""
    predictor = copy.deepcopy(model.model_.predictor).cpu().double().eval()
    head = predictor.process_noise
    if not isinstance(head, ConstantNoise) or (isinstance(head, BoundedNoise) and head.varies):
        raise InputError(
            "process_noise varies with the data, which are not known in advance: fit with process_noise='constant'",
            parameter="process_noise",
        )
    with torch.no_grad():
        values = {name: value for name, value in predictor.dynamics().items() if name in "AbC"}
        values["Q"] = head()
        return {name: value.detach().numpy() for name, value in values.items()}


def _origins(latents: Latents, at: Any, width: float) -> np.ndarray:
    """Return the indices of the last bins at or before the times `at`, or of all bins."""
    if at is None:
        return np.arange(len(latents))
    times = np.atleast_1d(as_floats("at", at))
    if times.ndim != 1 or times.size == 0 or not np.isfinite(times).all():
        raise InputError("at must be one or more finite times in seconds", parameter="at")
    origin = np.searchsorted(latents.time, times + 1e-6 * width, side="right") - 1
    outside = (origin < 0) | is_gap(times - latents.time[origin], width)
    if outside.any():
        message = (
            f"at has {int(outside.sum())} times without a bin, such as {times[outside][0]:g} s; the latents cover "
            f"{latents.time[0]:g} to {latents.time[-1]:g} s"
        )
        raise InputError(message, parameter="at")
    return origin
