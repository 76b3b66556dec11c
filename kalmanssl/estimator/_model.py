"""The sequence model that `KalmanSSL` trains: construction, inference, and the objective in nats per bin."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from kalmanssl.data import Covariances, Latents, no_observations
from kalmanssl.entropy import EntropyEstimator, StopGradientEntropy, conditional_entropy, make_entropy
from kalmanssl.errors import InputError, first_line
from kalmanssl.estimator._inputs import COUNT_NORMALIZATIONS, interleaved_activity, n_steps
from kalmanssl.estimator._memory import check_model_memory
from kalmanssl.models import LDM, KalmanPredictor, SequenceModel
from kalmanssl.networks import ConstantNoise, NoiseHead, ResidualEncoder, check_encoder, make_noise
from kalmanssl.training import join_steps
from kalmanssl.utils.memory import return_freed_memory
from kalmanssl.utils.torch_ops import threads_for
from kalmanssl.utils.validation import unknown_name_error

if TYPE_CHECKING:
    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = [
    "build_model",
    "encode",
    "history_per_bin",
    "infer",
    "infer_segments",
    "network_threads",
    "objective_per_bin",
]

_Activity = Callable[[tuple[int, int] | None], torch.Tensor]

_MAX_ENTRIES = 1 << 22  # of the input of the encoder at once, in inference
_MAX_STEPS = 20_000  # longer sequences are filtered one after another
_MANY_BINS = 200_000  # whose inference leaves much freed memory


def build_model(estimator: KalmanSSL) -> SequenceModel:
    """Return the untrained model for the settings of an estimator and the data that its `fit` has seen."""
    check_model_memory(estimator)
    is_counts = estimator.normalize_ in COUNT_NORMALIZATIONS
    n_features, latent_dim, state_dim = estimator.n_features_in_, estimator.latent_dim, estimator.state_dim
    if estimator.encoder is None:
        encoder: nn.Module = ResidualEncoder(
            n_features,
            latent_dim,
            estimator.encoder_window,
            estimator.hidden,
            transform="sqrt" if is_counts else "none",
            unit_norm=estimator.normalize_ == "cosine",
            unit_dropout=estimator.unit_dropout,
        )
    else:
        encoder = _copy_of_encoder(estimator.encoder)
        check_encoder(encoder, n_features, latent_dim)

    def noise_head(parameter: str, dim: int) -> NoiseHead:
        settings: dict[str, dict[str, Any]] = {
            "constant": {},
            "activity": {"counts": is_counts},
            "input": {"in_features": n_features, "transform": "sqrt" if is_counts else "none"},
            "state": {"state_dim": state_dim},
            "errors": {"latent_dim": latent_dim},
        }
        name = getattr(estimator, parameter)
        if not isinstance(name, str) or name not in settings:
            raise unknown_name_error(parameter, name, settings)
        with torch.random.fork_rng(devices=[]):  # the rest of the model is the same with every noise
            return make_noise(name, dim=dim, **settings[name])

    observation_noise = noise_head("noise", latent_dim)
    process_noise = noise_head("process_noise", state_dim)
    predictor = KalmanPredictor(latent_dim, state_dim, observation_noise, process_noise)
    return SequenceModel(encoder, predictor, LDM(make_entropy(estimator.entropy), estimator.mutual_information))


def _copy_of_encoder(encoder: nn.Module) -> nn.Module:
    """Return a copy of a custom encoder with weights in single precision, in which models are trained."""
    try:
        copied = copy.deepcopy(encoder)
    except Exception as error:  # of the module itself
        message = f"encoder of type {type(encoder).__name__} cannot be copied: {first_line(error)}"
        raise InputError(message, parameter="encoder") from error
    return copied.float()


@torch.no_grad()
def infer(
    model: SequenceModel,
    segment: np.ndarray,
    bins_per_step: int,
    normalization: str,
    smooth: bool,
    means_only: bool = False,
) -> dict[str, Any]:
    """Return the arrays of `Latents` for one segment (time, features), from a model in float64.

    With `means_only`, means are rounded to float32, and there are no latents of the encoder and no log-likelihood.
    """
    # Zeros after the end do not change filtered latents, so that these do not depend on the length of the segment.
    pad_end = not smooth

    def activity(steps: tuple[int, int] | None = None) -> torch.Tensor:
        return interleaved_activity(segment, bins_per_step, normalization, smooth, pad_end, steps)

    has_constant_noise = _has_constant_noise(model)
    length = n_steps(segment, bins_per_step)
    if has_constant_noise and means_only and length > _MAX_STEPS:
        means, covs = _long_means(model, activity, bins_per_step, length, smooth)
        arrays = {name: join_steps(values, len(segment), pad_end) for name, values in means.items()}
        return _with_covariances(arrays | no_observations(len(segment)), covs)
    if has_constant_noise:
        latent = encode(model.encoder, activity, bins_per_step, length)
        features = latent[..., :0]  # noise that is constant does not depend on them
    else:
        features = activity()
        latent = model.encoder(features)
    # Long sequences are filtered one after another, which needs less memory; with constant noise they have the same
    # covariances, so that it takes no longer.
    one_by_one = has_constant_noise and latent.shape[1] > _MAX_STEPS
    groups = [slice(n, n + 1) for n in range(len(latent))] if one_by_one else [slice(None)]
    steps: dict[str, np.ndarray] = {}
    for group in groups:
        posterior = model.predictor.posterior(latent[group], features[group], smooth)
        found = {"mean": posterior.mean.float() if means_only else posterior.mean, "index": posterior.cov_index}
        if not means_only:
            found["log_likelihood"] = posterior.log_likelihood / bins_per_step
            found |= {} if has_constant_noise else {"noise": posterior.noise}
        _fill(steps, found, group, len(latent))
        covs, noise = posterior.covs, posterior.noise
        del posterior, found  # before the next group needs memory
    if not means_only:
        steps["latent"] = np.ascontiguousarray(latent.numpy().swapaxes(0, 1))  # no copy of what `encode` returned
    arrays = {name: join_steps(values, len(segment), pad_end) for name, values in steps.items()}
    if means_only:
        arrays |= no_observations(len(segment))
    elif has_constant_noise:
        arrays["noise"] = np.broadcast_to(noise[0, 0].numpy(), arrays["latent"].shape)
    return _with_covariances(arrays, covs)


def _has_constant_noise(model: SequenceModel) -> bool:
    return all(type(head) is ConstantNoise for head in model.predictor.noise_heads)


@torch.no_grad()
def _infer_together(
    model: SequenceModel,
    segments: Sequence[np.ndarray],
    bins_per_step: int,
    normalization: str,
    smooth: bool,
    means_only: bool,
) -> list[dict[str, Any]]:
    """Return the arrays of `infer` for segments of the same number of steps, with constant noise.

    They have the same covariances, which are computed once.
    """
    pad_end, length = not smooth, n_steps(segments[0], bins_per_step)

    def encoded(segment: np.ndarray) -> torch.Tensor:
        def activity(steps: tuple[int, int] | None = None) -> torch.Tensor:
            return interleaved_activity(segment, bins_per_step, normalization, smooth, pad_end, steps)

        return encode(model.encoder, activity, bins_per_step, length)

    latent = torch.cat([encoded(segment) for segment in segments])
    posterior = model.predictor.posterior(latent, latent[..., :0], smooth)
    found = {"mean": posterior.mean.float() if means_only else posterior.mean, "index": posterior.cov_index}
    if not means_only:
        found |= {"latent": latent, "log_likelihood": posterior.log_likelihood / bins_per_step}
    table, parts = posterior.covs.float().numpy(), []
    for number, segment in enumerate(segments):
        own = slice(number * bins_per_step, (number + 1) * bins_per_step)
        arrays: dict[str, Any] = {
            name: join_steps(values[own].numpy().swapaxes(0, 1), len(segment), pad_end)
            for name, values in found.items()
        }
        if means_only:
            arrays |= no_observations(len(segment))
        else:
            arrays["noise"] = np.broadcast_to(posterior.noise[0, 0].numpy(), arrays["latent"].shape)
        parts.append(arrays | {"covariances": Covariances(table, arrays.pop("index"))})
    return parts


def _groups_to_infer(segments: Sequence[np.ndarray], bins_per_step: int) -> list[list[int]]:
    """Return the numbers of segments in groups of the same number of steps, whose inference needs little memory."""
    by_steps: dict[int, list[list[int]]] = {}
    for number, segment in enumerate(segments):
        steps = n_steps(segment, bins_per_step)
        groups = by_steps.setdefault(steps, [[]])
        if steps * (len(groups[-1]) + 1) > _MAX_STEPS and groups[-1]:
            groups.append([])
        groups[-1].append(number)
    return [group for groups in by_steps.values() for group in groups]


def _with_covariances(arrays: dict[str, Any], covs: torch.Tensor) -> dict[str, Any]:
    """Return arrays with the covariances whose index they have."""
    return arrays | {"covariances": Covariances(covs.float().numpy(), arrays.pop("index"))}


def _long_means(
    model: SequenceModel, activity: _Activity, n_sequences: int, n_steps: int, smooth: bool
) -> tuple[dict[str, np.ndarray], torch.Tensor]:
    """Return the means and the index of the covariances (steps, sequences, ...) of long sequences, and the covariances.

    The noise is constant. Each sequence of latents is freed before the next one is filtered.
    """
    latents = _encode_apart(model.encoder, activity, n_sequences, n_steps)
    parts: list[dict[str, torch.Tensor]] = []
    while latents:
        latent = latents.pop(0)[None]
        posterior = model.predictor.posterior(latent, latent[..., :0], smooth)
        parts.append({"mean": posterior.mean.float(), "index": posterior.cov_index})
        covs = posterior.covs
        del latent, posterior
    steps: dict[str, np.ndarray] = {}
    for number in range(n_sequences):
        _fill(steps, parts.pop(0), slice(number, number + 1), n_sequences)
    return steps, covs


def _fill(steps: dict[str, np.ndarray], found: dict[str, torch.Tensor], group: slice, n_sequences: int) -> None:
    """Write what was found for some sequences (group, steps, ...) into arrays (steps, sequences, ...)."""
    for name, value in found.items():
        rows = value.numpy().swapaxes(0, 1)
        if name not in steps:
            steps[name] = np.empty((len(rows), n_sequences, *rows.shape[2:]), rows.dtype)
        steps[name][:, group] = rows


def encode(encoder: nn.Module, activity: _Activity, n_sequences: int, n_steps: int) -> torch.Tensor:
    """Return the latents (sequences, steps, latent) of interleaved sequences.

    The activity of long sequences is computed in pieces to save memory. A custom encoder receives all of it at once,
    since it may use any steps.

    Parameters
    ----------
    encoder : nn.Module
    activity : callable
        Returns the activity (sequences, steps, features) of the steps ``(first, last)``, the last one excluded, or of
        all steps for None.
    n_sequences, n_steps : int
    """
    if not isinstance(encoder, ResidualEncoder):
        return cast(torch.Tensor, encoder(activity(None)))
    # In memory in order of time, as bins are.
    latents = torch.empty(n_steps, n_sequences, encoder.latent_dim, dtype=torch.float64).transpose(0, 1)
    _encode_into(latents, encoder, activity)
    return latents


def _encode_apart(encoder: nn.Module, activity: _Activity, n_sequences: int, n_steps: int) -> list[torch.Tensor]:
    """Return the latents (steps, latent) of each sequence, in memory of their own; the arguments are as of `encode`."""
    if not isinstance(encoder, ResidualEncoder):
        return list(encode(encoder, activity, n_sequences, n_steps))
    latents = [torch.empty(n_steps, encoder.latent_dim, dtype=torch.float64) for _ in range(n_sequences)]
    _encode_into(latents, encoder, activity)
    return latents


def _encode_into(latents: torch.Tensor | list[torch.Tensor], encoder: ResidualEncoder, activity: _Activity) -> None:
    """Write the latents of sequences into `latents`, piece by piece."""
    n_steps = len(latents[0])
    steps = max(1, _MAX_ENTRIES // (len(latents) * encoder.n_features))
    for first in range(0, n_steps, steps):
        last = min(first + steps, n_steps)
        earlier = max(first - encoder.window + 1, 0)
        for latent, part in zip(latents, encoder(activity((earlier, last))), strict=True):
            latent[first:last] = part[first - earlier :]


def infer_segments(
    estimator: KalmanSSL, segments: Sequence[np.ndarray], smooth: bool, means_only: bool
) -> dict[str, Any]:
    """Return the arrays of `Latents` of consecutive segments as one; those of a single segment are not copied."""
    model = copy.deepcopy(estimator.model_).double().eval()
    settings = (estimator.bins_per_step_, estimator.normalize_, smooth, means_only)
    parts: list[dict[str, Any]] = [{}] * len(segments)
    groups = _groups_to_infer(segments, estimator.bins_per_step_) if _has_constant_noise(model) else []
    with network_threads(estimator, model):
        for group in groups or [[number] for number in range(len(segments))]:
            own = [segments[number] for number in group]
            found = _infer_together(model, own, *settings) if len(own) > 1 else [infer(model, own[0], *settings)]
            for number, part in zip(group, found, strict=True):
                parts[number] = part
    if sum(map(len, segments)) > _MANY_BINS:
        return_freed_memory()
    if len(parts) == 1:
        return parts[0]
    joined = {
        name: np.concatenate([part[name] for part in parts]) for name in ("mean", "latent", "noise", "log_likelihood")
    }
    return joined | {"covariances": Covariances.concatenate([part["covariances"] for part in parts])}


def network_threads(estimator: KalmanSSL, model: nn.Module) -> AbstractContextManager[None]:
    """Return a context with one thread if a training step of the model is small, as in `kalmanssl.training.train`.

    The bits of products depend on the number of threads, so that all parts of a fit and inference must have the same.
    """
    return threads_for(model, estimator.batch_size * estimator.window_ / estimator.bins_per_step_)


def objective_per_bin(latents: Latents, objective: LDM, bins_per_step: int) -> float:
    """Return the objective on the latents of all segments, in nats per bin.

    The alignment is the mean of `log_likelihood` over all bins. The entropy is that of the latents of all bins
    together, as in training; it is divided by the bins per step, since one interleaved sequence has one latent per
    step.
    """
    alignment = float(latents.log_likelihood.mean())
    entropy = objective.entropy
    if isinstance(entropy, StopGradientEntropy):
        return 0.0  # this entropy is minus the alignment
    z = torch.from_numpy(latents.latent)
    if objective.mutual_information:
        return alignment + float(entropy(z)) / bins_per_step
    return alignment + _entropy_given_past(z, latents.segment, entropy, bins_per_step) / bins_per_step


def _entropy_given_past(z: torch.Tensor, segment: np.ndarray, entropy: EntropyEstimator, bins_per_step: int) -> float:
    """Return the entropy of a latent given that of the step before, over all steps inside a segment."""
    inside = torch.from_numpy(segment[bins_per_step:] == segment[:-bins_per_step])
    return float(conditional_entropy(entropy, z[bins_per_step:][inside], z[:-bins_per_step][inside]))


def history_per_bin(history: dict[str, list[float]], bins_per_step: int) -> dict[str, list[float]]:
    """Return a history of training with the quantities in nats per step converted to nats per bin."""
    in_nats = ("loss", "alignment", "entropy", "behavior", "score", "score_error")
    return {
        name: [value / bins_per_step for value in values] if name.removeprefix("held_out_") in in_nats else values
        for name, values in history.items()
    }
