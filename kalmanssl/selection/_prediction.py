"""How well the latents predict the activity of the next bin, a score that can be compared between latent spaces."""

from __future__ import annotations

import math

import numpy as np

from kalmanssl.data import Latents, Recording, infer_latents
from kalmanssl.errors import InputError
from kalmanssl.estimator import KalmanSSL
from kalmanssl.utils.poisson import poisson_regression

__all__ = ["activity_gain"]

_MAX_FIT_BINS = 20_000  # the readout is fitted on at most this many bins, evenly distributed over the training part
_PRIOR_VARIANCE = 0.1  # of the readout's weights, for features of variance one
_MAX_FEATURE = 5.0  # held-out features are clipped at this many standard deviations
_MIN_RATE = 1e-4  # events per bin


def activity_gain(model: KalmanSSL, training: Recording, held_out: Recording) -> float:
    """Compute how much better the latents predict the activity of the next bin than its mean does, in nats per bin.

    The readout is a generalized linear model from the filtered state of a bin to the activity of the bin after it:
    Poisson with a logarithmic link for counts, Gaussian with constant variance for a signal. It is fitted on the
    training part, like the mean. The score is the difference of the held-out log-likelihoods per bin, summed over
    units.

    Parameters
    ----------
    model : KalmanSSL
        Fitted on the training part.
    training, held_out : Recording

    Returns
    -------
    float
        Negative if the readout predicts worse than the mean.

    Raises
    ------
    InputError
        If a part has no two neighboring bins.
    """
    state, target = _next_bin_pairs(infer_latents(model, training), training, _MAX_FIT_BINS)
    held_out_state, held_out_target = _next_bin_pairs(infer_latents(model, held_out), held_out)
    mean, scale = state.mean(axis=0), np.maximum(state.std(axis=0, ddof=1), 1e-9)
    features = (state - mean) / scale
    held_out_features = np.clip((held_out_state - mean) / scale, -_MAX_FEATURE, _MAX_FEATURE)
    gain = _poisson_gain if training.kind == "counts" else _gaussian_gain
    return gain(features, target, held_out_features, held_out_target)


def _next_bin_pairs(latents: Latents, recording: Recording, most: float = math.inf) -> tuple[np.ndarray, np.ndarray]:
    """Return the filtered state of each bin (pairs, state), and the activity of the bin after it (pairs, units).

    If there are more than `most` pairs, evenly distributed ones are kept.
    """
    has_next = np.flatnonzero(np.diff(latents.segment) == 0)
    if len(has_next) == 0:
        raise InputError("a fold has no two neighboring bins: use fewer folds or a longer recording")
    if len(has_next) > most:
        has_next = has_next[:: math.ceil(len(has_next) / most)]
    return latents.mean[has_next].astype(float), recording.activity[has_next + 1].astype(float)


def _poisson_gain(
    features: np.ndarray, counts: np.ndarray, held_out_features: np.ndarray, held_out_counts: np.ndarray
) -> float:
    """Return the gain of a Poisson regression with a Gaussian prior of the weights."""
    log_mean_rate = np.log(np.maximum(counts.mean(axis=0), _MIN_RATE))
    x, held_out_x = (np.column_stack([part, np.ones(len(part))]) for part in (features, held_out_features))
    coefficients = poisson_regression(x, counts, 1 / (_PRIOR_VARIANCE * len(counts)), _MIN_RATE)
    log_rate = held_out_x @ coefficients
    gain = held_out_counts * (log_rate - log_mean_rate) - (_rate(log_rate) - np.exp(log_mean_rate))
    return float(gain.sum(axis=1).mean())


def _rate(log_rate: np.ndarray) -> np.ndarray:
    """Return the exponential, continued linearly above e^5, so that it cannot overflow."""
    limit = 5.0
    return np.asarray(np.exp(np.minimum(log_rate, limit)) * (1 + np.maximum(log_rate - limit, 0)))


def _gaussian_gain(
    features: np.ndarray, signal: np.ndarray, held_out_features: np.ndarray, held_out_signal: np.ndarray
) -> float:
    """Return the gain of a ridge regression, with the prior variance in units of each channel's variance."""
    mean, variance = signal.mean(axis=0), np.maximum(signal.var(axis=0, ddof=1), 1e-12)
    n_samples, dim = features.shape
    gram = features.T @ features + np.eye(dim) / _PRIOR_VARIANCE
    weights = np.linalg.solve(gram, features.T @ (signal - mean))
    residual_variance = ((signal - mean - features @ weights) ** 2).sum(axis=0) / max(n_samples - dim - 1, 1)
    residual_variance = np.maximum(residual_variance, 1e-12 * variance)
    deviation = held_out_signal - mean
    error = deviation - held_out_features @ weights
    gain = np.log(variance / residual_variance) + deviation**2 / variance - error**2 / residual_variance
    return float(0.5 * gain.sum(axis=1).mean())
