"""The posterior over the latent state in the segments of a recording, from a fitted model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kalmanssl.data import Covariances, no_observations
from kalmanssl.estimator._encoding import encode, encode_apart
from kalmanssl.estimator._inputs import InterleavedActivity
from kalmanssl.estimator._model import network_threads
from kalmanssl.models import Posterior, SequenceModel
from kalmanssl.networks import ConstantNoise
from kalmanssl.utils.memory import return_freed_memory

if TYPE_CHECKING:
    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = ["SegmentInference", "infer_segments"]

_MAX_STEPS = 20_000  # longer sequences are filtered one after another
_MANY_BINS = 200_000  # whose inference leaves much freed memory


def infer_segments(
    estimator: KalmanSSL, segments: Sequence[np.ndarray], smooth: bool, means_only: bool
) -> dict[str, Any]:
    """Return the arrays of `Latents` of consecutive segments as one; those of a single segment are not copied."""
    model = copy.deepcopy(estimator.model_).double().eval()
    inference = SegmentInference(model, estimator.bins_per_step_, estimator.normalize_, smooth, means_only)
    with network_threads(estimator, model):
        parts = inference.of_all(segments)
    if sum(map(len, segments)) > _MANY_BINS:
        return_freed_memory()
    if len(parts) == 1:
        return parts[0]
    joined = {
        name: np.concatenate([part[name] for part in parts]) for name in ("mean", "latent", "noise", "log_likelihood")
    }
    return joined | {"covariances": Covariances.concatenate([part["covariances"] for part in parts])}


@dataclass(frozen=True, eq=False)
class SegmentInference:
    """Inference of latents in contiguous segments (time, features), each by itself.

    Attributes
    ----------
    model : SequenceModel
        In float64, in evaluation mode.
    bins_per_step : int
    normalization : str
        Normalization of the segments.
    smooth : bool
    means_only : bool
        Round means to float32, and leave out the latents of the encoder, their noise and the log-likelihood.
    """

    model: SequenceModel
    bins_per_step: int
    normalization: str
    smooth: bool
    means_only: bool = False

    def of_all(self, segments: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """Return the arrays of `Latents` for each segment; those of as many steps are inferred together if possible."""
        parts: list[dict[str, Any]] = [{}] * len(segments)
        numbers = [[number] for number in range(len(segments))]
        for group in self._groups(segments) if self._has_constant_noise else numbers:
            own = [segments[number] for number in group]
            found = self._together(own) if len(own) > 1 else [self.of(own[0])]
            for number, part in zip(group, found, strict=True):
                parts[number] = part
        return parts

    @torch.no_grad()
    def of(self, segment: np.ndarray) -> dict[str, Any]:
        """Return the arrays of `Latents` for one segment."""
        activity, model, has_constant_noise = self._activity(segment), self.model, self._has_constant_noise
        if has_constant_noise and self.means_only and activity.n_steps > _MAX_STEPS:
            means, covs = self._long_means(activity)
            arrays = {name: activity.join(values) for name, values in means.items()}
            return _with_covariances(arrays | no_observations(len(segment)), covs)
        if has_constant_noise:
            latent = encode(model.encoder, activity)
            features = latent[..., :0]  # noise that is constant does not depend on them
        else:
            features = activity.steps()
            latent = model.encoder(features)
        # Long sequences are filtered one after another, which needs less memory; with constant noise they have the same
        # covariances, so that it takes no longer.
        one_by_one = has_constant_noise and latent.shape[1] > _MAX_STEPS
        groups = [slice(n, n + 1) for n in range(len(latent))] if one_by_one else [slice(None)]
        steps: dict[str, np.ndarray] = {}
        for group in groups:
            posterior = model.predictor.posterior(latent[group], features[group], self.smooth)
            found = self._arrays(posterior)
            if not self.means_only and not has_constant_noise:
                found["noise"] = posterior.noise
            _fill(steps, found, group, len(latent))
            covs, noise = posterior.covs, posterior.noise
            del posterior, found  # before the next group needs memory
        if not self.means_only:
            steps["latent"] = np.ascontiguousarray(latent.numpy().swapaxes(0, 1))  # no copy of what `encode` returned
        arrays = {name: activity.join(values) for name, values in steps.items()}
        if self.means_only:
            arrays |= no_observations(len(segment))
        elif has_constant_noise:
            arrays["noise"] = np.broadcast_to(noise[0, 0].numpy(), arrays["latent"].shape)
        return _with_covariances(arrays, covs)

    @torch.no_grad()
    def _together(self, segments: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """Return the arrays of `of` for segments of the same number of steps, with constant noise.

        They have the same covariances, which are computed once.
        """
        activities = [self._activity(segment) for segment in segments]
        latent = torch.cat([encode(self.model.encoder, activity) for activity in activities])
        posterior = self.model.predictor.posterior(latent, latent[..., :0], self.smooth)
        found = self._arrays(posterior) | ({} if self.means_only else {"latent": latent})
        table, parts = posterior.covs.float().numpy(), []
        for number, activity in enumerate(activities):
            own = slice(number * self.bins_per_step, (number + 1) * self.bins_per_step)
            arrays: dict[str, Any] = {
                name: activity.join(values[own].numpy().swapaxes(0, 1)) for name, values in found.items()
            }
            if self.means_only:
                arrays |= no_observations(len(activity.segment))
            else:
                arrays["noise"] = np.broadcast_to(posterior.noise[0, 0].numpy(), arrays["latent"].shape)
            parts.append(arrays | {"covariances": Covariances(table, arrays.pop("index"))})
        return parts

    def _long_means(self, activity: InterleavedActivity) -> tuple[dict[str, np.ndarray], torch.Tensor]:
        """Return the means and the index of the covariances (steps, sequences, ...), and the covariances.

        The noise is constant. Each sequence of latents is freed before the next one is filtered.
        """
        latents = encode_apart(self.model.encoder, activity)
        n_sequences, parts = len(latents), []
        while latents:
            latent = latents.pop(0)[None]
            posterior = self.model.predictor.posterior(latent, latent[..., :0], self.smooth)
            parts.append(self._arrays(posterior))
            covs = posterior.covs
            del latent, posterior
        steps: dict[str, np.ndarray] = {}
        for number in range(n_sequences):
            _fill(steps, parts.pop(0), slice(number, number + 1), n_sequences)
        return steps, covs

    def _activity(self, segment: np.ndarray) -> InterleavedActivity:
        # Zeros after the end do not change filtered latents, so that these do not depend on the length of the segment.
        return InterleavedActivity(
            segment, self.bins_per_step, self.normalization, centered=self.smooth, pad_end=not self.smooth
        )

    def _arrays(self, posterior: Posterior) -> dict[str, torch.Tensor]:
        """Return what is kept of a posterior besides the noise and the covariances, (sequences, steps, ...)."""
        mean = posterior.mean.float() if self.means_only else posterior.mean
        arrays = {"mean": mean, "index": posterior.cov_index}
        return arrays if self.means_only else arrays | {"log_likelihood": posterior.log_likelihood / self.bins_per_step}

    def _groups(self, segments: Sequence[np.ndarray]) -> list[list[int]]:
        """Return the numbers of segments in groups of the same number of steps, whose inference needs little memory."""
        by_steps: dict[int, list[list[int]]] = {}
        for number, segment in enumerate(segments):
            steps = self._activity(segment).n_steps
            groups = by_steps.setdefault(steps, [[]])
            if steps * (len(groups[-1]) + 1) > _MAX_STEPS and groups[-1]:
                groups.append([])
            groups[-1].append(number)
        return [group for groups in by_steps.values() for group in groups]

    @property
    def _has_constant_noise(self) -> bool:
        return all(type(head) is ConstantNoise for head in self.model.predictor.noise_heads)


def _with_covariances(arrays: dict[str, Any], covs: torch.Tensor) -> dict[str, Any]:
    """Return arrays with the covariances whose index they have."""
    return arrays | {"covariances": Covariances(covs.float().numpy(), arrays.pop("index"))}


def _fill(steps: dict[str, np.ndarray], found: dict[str, torch.Tensor], group: slice, n_sequences: int) -> None:
    """Write what was found for some sequences (group, steps, ...) into arrays (steps, sequences, ...)."""
    for name, value in found.items():
        rows = value.numpy().swapaxes(0, 1)
        if name not in steps:
            steps[name] = np.empty((len(rows), n_sequences, *rows.shape[2:]), rows.dtype)
        steps[name][:, group] = rows
