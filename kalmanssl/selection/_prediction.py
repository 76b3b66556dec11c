"""How well the latents predict the activity of the next bin, a score that can be compared between latent spaces."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from kalmanssl.data import Latents, Recording, infer_latents
from kalmanssl.errors import InputError
from kalmanssl.estimator import KalmanSSL

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
    state, target = _next_bin_pairs(infer_latents(model, training), training)
    held_out_state, held_out_target = _next_bin_pairs(infer_latents(model, held_out), held_out)
    every = math.ceil(len(state) / _MAX_FIT_BINS)
    state, target = state[::every], target[::every]
    mean, scale = state.mean(0), state.std(0).clamp_min(1e-9)
    features = (state - mean) / scale
    held_out_features = ((held_out_state - mean) / scale).clamp(-_MAX_FEATURE, _MAX_FEATURE)
    gain = _poisson_gain if training.kind == "counts" else _gaussian_gain
    return gain(features, target, held_out_features, held_out_target)


def _next_bin_pairs(latents: Latents, recording: Recording) -> tuple[Tensor, Tensor]:
    """Return the filtered state of each bin (pairs, state), and the activity of the bin after it (pairs, units)."""
    has_next = np.flatnonzero(np.diff(latents.segment) == 0)
    if len(has_next) == 0:
        raise InputError("a fold has no two neighboring bins: use fewer folds or a longer recording")
    pairs = latents.mean[has_next], recording.activity[has_next + 1]
    return torch.from_numpy(pairs[0]).float(), torch.from_numpy(pairs[1]).float()


def _poisson_gain(features: Tensor, counts: Tensor, held_out_features: Tensor, held_out_counts: Tensor) -> float:
    """Return the gain of a Poisson regression with a Gaussian prior of the weights."""
    log_mean_rate = counts.mean(0).clamp_min(_MIN_RATE).log()
    weights = torch.zeros(features.shape[1], counts.shape[1], requires_grad=True)
    offset = log_mean_rate.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weights, offset], max_iter=100, tolerance_change=1e-7, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        log_rate = features @ weights + offset
        negative = (_rate(log_rate) - counts * log_rate).sum() + weights.square().sum() / (2 * _PRIOR_VARIANCE)
        negative = negative / len(counts)
        negative.backward()
        return negative

    with torch.enable_grad():
        optimizer.step(loss)
    with torch.no_grad():
        log_rate = held_out_features @ weights + offset
        gain = held_out_counts * (log_rate - log_mean_rate) - (_rate(log_rate) - log_mean_rate.exp())
    return float(gain.sum(1).double().mean())


def _rate(log_rate: Tensor) -> Tensor:
    """Return the exponential, continued linearly above e^5, so that it cannot overflow."""
    limit = 5.0
    excess = (log_rate - limit).clamp_min(0)
    return log_rate.clamp_max(limit).exp() * (1 + excess)


def _gaussian_gain(features: Tensor, signal: Tensor, held_out_features: Tensor, held_out_signal: Tensor) -> float:
    """Return the gain of a ridge regression, with the prior variance in units of each channel's variance."""
    features, signal = features.double(), signal.double()
    mean, variance = signal.mean(0), signal.var(0).clamp_min(1e-12)
    n_samples, dim = features.shape
    gram = features.T @ features + torch.eye(dim, dtype=torch.float64) / _PRIOR_VARIANCE
    weights = torch.linalg.solve(gram, features.T @ (signal - mean))
    residual_variance = (signal - mean - features @ weights).square().sum(0) / max(n_samples - dim - 1, 1)
    residual_variance = residual_variance.clamp_min(1e-12 * variance)
    deviation = held_out_signal.double() - mean
    error = deviation - held_out_features.double() @ weights
    gain = (variance / residual_variance).log() + deviation.square() / variance - error.square() / residual_variance
    return float(0.5 * gain.sum(1).mean())
