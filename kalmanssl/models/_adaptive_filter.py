"""The Kalman filter with noise that depends on its own earlier results, computed together with the noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from kalmanssl.errors import InputError
from kalmanssl.kalman import StepResult, kalman_step
from kalmanssl.networks import NoiseContext, NoiseHead

__all__ = ["AdaptiveFilterResult", "filter_with_adaptive_noise"]


@dataclass(frozen=True)
class AdaptiveFilterResult:
    """Moments of the state at every step, and the noise variances with which they were computed.

    The first eight attributes are those of `kalmanssl.kalman.FilterResult`.

    Attributes
    ----------
    predicted_mean, predicted_cov : (batch, time, state), (batch, time, state, state)
    filtered_mean, filtered_cov : (batch, time, state), (batch, time, state, state)
    log_likelihood : (batch, time), nats
    gain : (batch, time, state, latent)
    innovation, innovation_cov : (batch, time, latent), (batch, time, latent, latent)
    observation_noise, process_noise : (batch, time, latent), (batch, time, state)
        Variances.
    """

    predicted_mean: Tensor
    predicted_cov: Tensor
    filtered_mean: Tensor
    filtered_cov: Tensor
    log_likelihood: Tensor
    gain: Tensor
    innovation: Tensor
    innovation_cov: Tensor
    observation_noise: Tensor
    process_noise: Tensor


def filter_with_adaptive_noise(
    latent: Tensor,
    features: Tensor,
    dynamics: Mapping[str, Tensor],
    observation_noise: NoiseHead,
    process_noise: NoiseHead,
    mask: Tensor | None = None,
) -> AdaptiveFilterResult:
    """Filter latents step by step with noise variances that may depend on earlier results of the filter.

    The variances of step t depend on the features of step t, the filtered state of step t - 1 and the innovations up to
    step t - 1.

    Parameters
    ----------
    latent, features : (batch, time, latent), (batch, time, features)
    dynamics : mapping
        The other parameters of `kalmanssl.kalman.kalman_filter`: A, b, C, and m0 (state,) and P0 (state,).
    observation_noise, process_noise : NoiseHead
    mask : (batch, time, latent) or (batch, time), optional
        True where observed.

    Raises
    ------
    InputError
        If a noise head returns variances of another shape than (batch, dim) or (dim,).
    """
    parameters = dict(dynamics)
    m0, P0 = parameters.pop("m0"), parameters.pop("P0")
    batch, n_steps, latent_dim = latent.shape
    heads = (observation_noise, process_noise)
    whole = [None if head.is_sequential else _for_all_steps(head, features, n_steps) for head in heads]
    mean, cov = m0.expand(batch, -1), torch.diag_embed(P0).expand(batch, -1, -1)
    recent = latent.new_zeros(batch, max(head.history for head in heads), latent_dim)
    steps: list[StepResult] = []
    variances: list[list[Tensor]] = []
    for t in range(n_steps):
        noise = [
            _for_one_step(head, features[:, t], mean, recent) if known is None else known[:, t]
            for head, known in zip(heads, whole, strict=True)
        ]
        step = kalman_step(
            latent[:, t],
            mean,
            cov,
            **parameters,
            R=noise[0][:, None],
            Q=noise[1][:, None],
            mask=None if mask is None else mask[:, t],
            first=t == 0,
        )
        mean, cov = step.filtered_mean, step.filtered_cov
        if recent.shape[1]:  # some head uses innovations
            recent = torch.cat([recent, step.innovation[:, None]], 1)[:, 1:]
        steps.append(step)
        variances.append(noise)
    moments = {f.name: torch.stack([getattr(step, f.name) for step in steps], 1) for f in fields(StepResult)}
    R, Q = (torch.stack(column, 1) for column in zip(*variances, strict=True))
    return AdaptiveFilterResult(**moments, observation_noise=R, process_noise=Q)


def _for_all_steps(head: NoiseHead, features: Tensor, n_steps: int) -> Tensor:
    """Return the variances (batch, time, dim) of a head that does not depend on the filter."""
    return head(NoiseContext(features)).expand(len(features), n_steps, -1)


def _for_one_step(head: NoiseHead, features: Tensor, state: Tensor, recent: Tensor) -> Tensor:
    """Return the variances (batch, dim) of a head that depends on the filter; `recent` has at least its history."""
    context = NoiseContext(
        features,
        state if head.uses_state else None,
        recent[:, recent.shape[1] - head.history :] if head.history else None,
    )
    variances = head(context)
    if variances.shape not in ((len(state), head.dim), (head.dim,)):
        raise InputError(
            f"the noise head {type(head).__name__} must return ({len(state)}, {head.dim}) for one step, got "
            f"{tuple(variances.shape)}"
        )
    return variances.expand(len(state), -1)
