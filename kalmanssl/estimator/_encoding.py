"""Latents from the encoder alone, of segments of any length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import nn

from kalmanssl.estimator._inputs import InterleavedActivity
from kalmanssl.networks import ResidualEncoder
from kalmanssl.utils.torch_ops import evaluating

__all__ = ["encode", "encode_apart", "encode_segments"]

_MAX_ENTRIES = 1 << 22  # of the input of the encoder at once


def encode(encoder: nn.Module, activity: InterleavedActivity) -> torch.Tensor:
    """Return the latents (sequences, steps, latent) of the sequences of a segment, from an encoder in float64.

    The activity of long sequences is computed in pieces to save memory. A custom encoder receives all of it at once,
    since it may use any steps.
    """
    if not isinstance(encoder, ResidualEncoder):
        return cast(torch.Tensor, encoder(activity.steps()))
    # In memory in order of time, as bins are.
    shape = (activity.n_steps, activity.bins_per_step, encoder.latent_dim)
    latents = torch.empty(shape, dtype=torch.float64).transpose(0, 1)
    _encode_into(latents, encoder, activity)
    return latents


def encode_apart(encoder: nn.Module, activity: InterleavedActivity) -> list[torch.Tensor]:
    """Return the latents (steps, latent) of each sequence as `encode`, in memory of their own."""
    if not isinstance(encoder, ResidualEncoder):
        return list(encode(encoder, activity))
    shape = (activity.n_steps, encoder.latent_dim)
    latents = [torch.empty(shape, dtype=torch.float64) for _ in range(activity.bins_per_step)]
    _encode_into(latents, encoder, activity)
    return latents


def _encode_into(
    latents: torch.Tensor | list[torch.Tensor], encoder: ResidualEncoder, activity: InterleavedActivity
) -> None:
    """Write the latents of sequences into `latents`, piece by piece."""
    steps = max(1, _MAX_ENTRIES // (len(latents) * encoder.n_features))
    for first in range(0, activity.n_steps, steps):
        last = min(first + steps, activity.n_steps)
        earlier = max(first - encoder.window + 1, 0)
        for latent, part in zip(latents, encoder(activity.steps(earlier, last)), strict=True):
            latent[first:last] = part[first - earlier :]


@torch.no_grad()
def encode_segments(
    encoder: nn.Module, segments: Sequence[np.ndarray], bins_per_step: int, normalization: str
) -> list[np.ndarray]:
    """Return float32 latents (time, latent) of segments of activity (time, features), from an encoder in float32."""
    latents = []
    with evaluating(encoder):
        for segment in segments:
            activity = InterleavedActivity(segment, bins_per_step, normalization, dtype=torch.float32)
            latents.append(activity.join(encode(encoder, activity).float().numpy().swapaxes(0, 1)))
    return latents
