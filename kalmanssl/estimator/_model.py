"""The sequence model that `KalmanSSL` trains: its construction, and its objective in nats per bin."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from kalmanssl.data import Latents
from kalmanssl.entropy import EntropyEstimator, StopGradientEntropy, conditional_entropy, make_entropy
from kalmanssl.errors import InputError, first_line
from kalmanssl.estimator._inputs import COUNT_NORMALIZATIONS
from kalmanssl.estimator._memory import check_model_memory
from kalmanssl.models import LDM, KalmanPredictor, SequenceModel
from kalmanssl.networks import NoiseHead, ResidualEncoder, check_encoder, make_noise
from kalmanssl.utils.torch_ops import threads_for
from kalmanssl.utils.validation import unknown_name_error

if TYPE_CHECKING:
    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = [
    "build_model",
    "history_per_bin",
    "network_threads",
    "objective_per_bin",
]


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
