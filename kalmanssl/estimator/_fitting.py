"""The two stages of a fit: the model with constant noise, then dynamics and noise alone, with the encoder fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from kalmanssl.entropy import LogDetEntropy
from kalmanssl.errors import InputError
from kalmanssl.estimator._dynamics_fit import model_of_latents, varying_heads
from kalmanssl.estimator._encoding import encode_segments
from kalmanssl.estimator._fit_data import FitData
from kalmanssl.estimator._initialization import initialize, initialize_two_views
from kalmanssl.estimator._inputs import COUNT_NORMALIZATIONS
from kalmanssl.estimator._memory import check_fit_memory
from kalmanssl.estimator._model import build_model, network_threads
from kalmanssl.estimator._stages import FitStages
from kalmanssl.estimator._view import share_dynamics, views_of
from kalmanssl.models import (
    BehaviorFit,
    BehaviorReadout,
    KalmanPredictor,
    SequenceModel,
    Trainable,
    start_varying_noise,
)
from kalmanssl.training import WindowBatches, WindowSettings, hold_out_blocks
from kalmanssl.utils.memory import return_freed_memory

if TYPE_CHECKING:
    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = ["check_held_out_steps", "fit_model", "window_settings"]


def fit_model(estimator: KalmanSSL, fit_data: FitData, resume: bool) -> None:
    """Fit `model_` of an estimator, and set `history_` and `noise_history_`.

    Parameters
    ----------
    estimator : KalmanSSL
    fit_data : FitData
    resume : bool
        Continue from the last checkpoint.
    """
    step, n_features = estimator.bins_per_step_, fit_data.n_features
    check_fit_memory(estimator)
    folder = None if estimator.checkpoint_dir is None else Path(estimator.checkpoint_dir)
    stages = FitStages(estimator, folder, resume)
    views = views_of(estimator)
    for one in views:
        one.window_ = estimator.window_
        one.history_, one.noise_history_ = {}, {}  # not those of an earlier fit, if this one fails before its training
    normalizations = [one.normalize_ for one in views]
    training, held_out = (
        [fit_data.steps(segment, step, normalizations) for segment in part]
        for part in hold_out_blocks(fit_data.segments, estimator.validation_fraction, estimator.window_)
    )
    with stages.random_numbers():
        model = estimator.model_ = build_model(estimator)
        with network_threads(estimator, model):
            _set_varying(model, False)
            trained = _initialized(estimator, training, fit_data)
            trained.bins_per_step = model.bins_per_step = step
            data = WindowBatches(training, held_out, window_settings(estimator, fit_data.n_active), stages.seed)
            check_held_out_steps(estimator, model, data)
            varies, is_joint = bool(varying_heads(model)), estimator.noise_epochs == 0
            if not varies or is_joint:  # then the second stage does not need the data
                training, held_out = [], []  # frees memory: the batches have copies
            if varies and is_joint:
                start_varying_noise(model, data.sample()[..., :n_features])
            stages.train(trained, data)
            del data
            second_stage = _second_stage(estimator, fit_data, training, held_out, stages.seed)
            if second_stage is not None:
                stages.fit_dynamics(*second_stage)
    del training, held_out, second_stage  # copies of the data
    return_freed_memory()


def window_settings(estimator: KalmanSSL, n_active: int | None = None) -> WindowSettings:
    """Return the settings of the training windows of an estimator; activity is in the first `n_active` columns."""
    steps = {"window": estimator.window_, "bins_per_step": estimator.bins_per_step_, "n_active": n_active}
    used = estimator.get_params(deep=False) | steps
    windows = WindowSettings(**{field.name: used[field.name] for field in fields(WindowSettings)})
    is_counts = estimator.normalize_ in COUNT_NORMALIZATIONS
    return windows if is_counts else replace(windows, activity_sampling_power=0.0)


def check_held_out_steps(estimator: KalmanSSL, model: SequenceModel[KalmanPredictor], data: WindowBatches) -> None:
    """Check that the covariance of the latents in the held-out windows can be computed, if the entropy needs it."""
    entropy = model.objective.entropy
    if data.held_out is None or not isinstance(entropy, LogDetEntropy) or entropy.expansion:
        return
    n_steps = sum(windows.shape[0] * windows.shape[1] for windows in data.held_out.batches)
    if n_steps <= estimator.latent_dim:
        raise InputError(
            f"too few bins to fit on: the held-out windows hold {n_steps} steps, and the covariance of latents of "
            f"{estimator.latent_dim} dimensions needs more: use a longer recording, a smaller latent_dim, or "
            "validation_fraction=0"
        )


def _initialized(estimator: KalmanSSL, training: Sequence[np.ndarray], fit_data: FitData) -> Trainable:
    """Start the model of an estimator at components of its data; return what is trained.

    This is the model itself, both views, or either of them together with a readout of behavior.
    """
    n_features, behavior, view = fit_data.n_features, fit_data.behavior, estimator.view_
    features, step = _features(training, n_features), estimator.bins_per_step_
    trained: Trainable = estimator.model_
    if view is None:
        embedded = None if behavior is None else [behavior.embed(segment[:, n_features:]) for segment in training]
        initialize(estimator.model_, features, step, embedded, estimator.behavior_weight)
    else:
        view.model_ = build_model(view)
        trained = both = share_dynamics(estimator, view)
        initialize_two_views(both, features, step)
    if behavior is None:
        return trained
    with torch.random.fork_rng(devices=[]):  # dropout is the same with and without behavior
        readout = BehaviorReadout(estimator.state_dim, behavior.kinds)
    return BehaviorFit(trained, readout, estimator.behavior_weight)


def _features(segments: Sequence[np.ndarray], n_features: int) -> list[np.ndarray]:
    """Return segments (time, columns) without the columns of behavior."""
    return [segment[:, :n_features] for segment in segments]


def _second_stage(
    estimator: KalmanSSL,
    fit_data: FitData,
    training: Sequence[np.ndarray],
    held_out: Sequence[np.ndarray],
    seed: int,
) -> tuple[SequenceModel[KalmanPredictor], WindowBatches] | None:
    """Return the model and the data of the second stage of a fit; None if there is none.

    Noise that varies depends on the activity, in `training` and `held_out`. Constant noise needs only the latents, of
    both views if there are two. It is not fitted again if nothing is held out, since the dynamics then overfit in short
    recordings.
    """
    if estimator.noise_epochs == 0:
        return None
    model, n_features = estimator.model_, fit_data.n_features
    # Windows are drawn uniformly: dynamics and noise should fit at all times, not only when cells are active.
    windows = replace(window_settings(estimator), activity_sampling_power=0.0)
    if varying_heads(model):
        return model, WindowBatches(_features(training, n_features), _features(held_out, n_features), windows, seed)
    if estimator.validation_fraction == 0:
        return None
    parts = hold_out_blocks(fit_data.segments, estimator.validation_fraction, estimator.window_)
    training, held_out = (_latents(estimator, fit_data, part) for part in parts)
    on_latents = model_of_latents(model, estimator.bins_per_step_)
    return on_latents, WindowBatches(training, held_out, windows, seed)


def _latents(estimator: KalmanSSL, fit_data: FitData, segments: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the latents (time, latent) of segments (time, columns) of all views."""
    views = views_of(estimator)
    latents, start = [], 0
    for one, stop in zip(views, (fit_data.n_active, fit_data.n_features), strict=False):
        activity = [segment[:, start:stop] for segment in segments]
        latents += encode_segments(one.model_.encoder, activity, estimator.bins_per_step_, one.normalize_)
        start = stop
    return latents


def _set_varying(model: SequenceModel[KalmanPredictor], varies: bool) -> None:
    """Let the variances of all heads that can vary do so, or keep them constant."""
    for head in varying_heads(model):
        head.set_varying(varies)
