"""Fit of several sessions: one encoder for each, and dynamics that are shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from kalmanssl.alignment import (
    LatentMap,
    MatchSettings,
    SessionLatents,
    SessionMatch,
    behavior_agreement,
    behavior_targets,
    fit_map,
    match_session,
)
from kalmanssl.data import Recording
from kalmanssl.errors import InputError
from kalmanssl.estimator._behavior import uses_behavior
from kalmanssl.estimator._dynamics_fit import DYNAMICS_FOLDER, model_of_latents
from kalmanssl.estimator._fitting import window_settings
from kalmanssl.estimator._model import network_threads
from kalmanssl.estimator._stages import FitStages
from kalmanssl.estimator.sessions._behavior import SessionBehavior
from kalmanssl.estimator.sessions._data import FirstStage, Model, SessionData, session_folder
from kalmanssl.models import SharedDynamicsModel
from kalmanssl.networks import ResidualEncoder
from kalmanssl.training import SessionBatches, WindowBatches, delete_checkpoints, has_checkpoint

if TYPE_CHECKING:
    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = [
    "AlignedMatch",
    "align_encoder",
    "check_session_settings",
    "fit_sessions",
    "set_sessions",
]  # fmt: skip

_MATCH = MatchSettings()


def fit_sessions(
    estimator: KalmanSSL,
    sessions: Mapping[str, Sequence[Recording]],
    behavior: SessionBehavior | None,
    resume: bool,
    first_stage: FirstStage | None = None,
) -> None:
    """Fit encoders and shared dynamics of several sessions, and set the attributes of the estimator.

    A model of each session is fitted alone at first. The first one gives the dynamics, and the latents of the others
    are mapped into its space by the behavior, or without it by their own dynamics
    (`kalmanssl.alignment.match_session`). Labels, which are alike in many places, only decide between the matches that
    the dynamics suggest. All encoders and the dynamics are then trained together. Finally, the dynamics are fitted by
    maximum likelihood to the latents of all sessions, as in a fit of one session.

    Parameters
    ----------
    estimator : KalmanSSL
    sessions : mapping of str to recordings
    behavior : SessionBehavior, optional
    resume : bool
        Continue from the last checkpoint of either stage.
    first_stage : FirstStage, optional
        Fits of single sessions that can be used again.
    """
    check_session_settings(estimator)
    folder = None if estimator.checkpoint_dir is None else Path(estimator.checkpoint_dir)
    first_stage = FirstStage(folder, resume) if first_stage is None else first_stage
    if folder is not None:
        resume = _prepare_checkpoints(folder, resume)
    data = [SessionData.prepare(estimator, name, recordings) for name, recordings in sessions.items()]
    normalizations = {one.model.sessions_[0]: one.model.normalize_ for one in data}
    if len(set(normalizations.values())) > 1:
        raise InputError(
            f"sessions have different normalizations, {normalizations}: set normalize= to one for all",
            parameter="normalize",
        )
    step = max(one.model.bins_per_step_ for one in data)
    for one in data:
        one.model.bins_per_step_ = step
    window = min(one.window() for one in data)
    for one in data:
        one.model.window_ = window
        one.hold_out()
    stages = FitStages(estimator, folder, resume)
    with stages.random_numbers():
        shared = _initial_model(data, behavior, stages.seed, first_stage)
        with network_threads(data[0].model, shared):
            set_sessions(estimator, [one.model for one in data], shared)
            shared.bins_per_step = step
            stages.train(shared, SessionBatches([one.batches(stages.seed + number) for number, one in enumerate(data)]))
            if estimator.noise_epochs > 0 and estimator.validation_fraction > 0:
                latents = _latent_batches(estimator, data, stages.seed)
                stages.fit_dynamics(model_of_latents(shared.session(0), step), latents)


def _latent_batches(estimator: KalmanSSL, data: Sequence[SessionData], seed: int) -> WindowBatches:
    """Return windows of the latents of all sessions, at all times and not only when cells are active."""
    parts = [one.latents() for one in data]
    training, held_out = ([segment for part in parts for segment in part[place]] for place in (0, 1))
    windows = replace(window_settings(estimator), activity_sampling_power=0.0)
    return WindowBatches(training, held_out, windows, seed)


def _prepare_checkpoints(folder: Path, resume: bool) -> bool:
    """Return whether there is a checkpoint of the second stage to resume from; without `resume` delete old ones.

    Otherwise an interrupted fit would be resumed with later parts of an earlier one.
    """
    if not resume:
        for one in (folder, folder / DYNAMICS_FOLDER, *folder.glob(session_folder("*"))):
            delete_checkpoints(one)
        return False
    if has_checkpoint(folder):
        return True
    if not has_checkpoint(folder / session_folder(0)):
        raise InputError(f"nothing to resume: {folder} has no checkpoint; fit without resume first", parameter="resume")
    return False


def check_session_settings(estimator: KalmanSSL) -> None:
    """Check that no setting depends on the units of one session or on labels."""
    if estimator.encoder is not None:
        raise InputError("several sessions have the built-in encoder: use encoder=None", parameter="encoder")
    for name in ("noise", "process_noise"):
        if getattr(estimator, name) != "constant":
            raise InputError(
                f"several sessions share constant noise, got {name}={getattr(estimator, name)!r}: use 'constant'",
                parameter=name,
            )
    if getattr(estimator, "view_", None) is not None:
        raise InputError("a model of two views has one session: fit without view=", parameter="view")
    if uses_behavior(estimator):
        raise InputError(
            "several sessions are fitted without behavior: use behavior_weight=0", parameter="behavior_weight"
        )


def set_sessions(estimator: KalmanSSL, models: Sequence[KalmanSSL], shared: SharedDynamicsModel) -> None:
    """Set the attributes of an estimator that is fitted on several sessions, and the models of the sessions."""
    for name in ("n_features_in_", "unit_ids_", "feature_mean_", "feature_scale_"):
        estimator.__dict__.pop(name, None)  # each session has its own
    first = models[0]
    estimator.model_ = shared
    estimator.sessions_ = tuple(model.sessions_[0] for model in models)
    estimator.session_models_ = dict(zip(estimator.sessions_, models, strict=True))
    estimator.bin_size_, estimator.normalize_ = first.bin_size_, first.normalize_
    estimator.bins_per_step_, estimator.window_ = first.bins_per_step_, first.window_
    estimator.history_, estimator.noise_history_, estimator.view_ = {}, {}, None
    for number, model in enumerate(models):
        model.model_, model.view_ = shared.session(number), None
        model.history_, model.noise_history_ = {}, {}


def _initial_model(
    data: Sequence[SessionData], behavior: SessionBehavior | None, seed: int, first_stage: FirstStage
) -> SharedDynamicsModel:
    """Return the model before the common training: dynamics of the first session, and encoders aligned with it."""
    models = []
    aligned: list[SessionLatents] = []
    for number, one in enumerate(data):
        model, latents = first_stage.fit(one, seed, number)
        if aligned:
            known = None
            if behavior is not None:
                features = [behavior.features[other.model.sessions_[0]] for other in data[: number + 1]]
                known = features[-1], np.concatenate(features[:-1])
            if behavior is None or behavior.are_labels:
                latents, _ = align_encoder(model, latents, aligned, seed, known)
            elif known is not None:
                latents = _align_by_behavior(model, latents, aligned, *known)
        models.append(model)
        aligned.append(latents)
    return SharedDynamicsModel([model.encoder for model in models], models[0].predictor, models[0].objective)


class AlignedMatch(NamedTuple):
    """The match by which an encoder was aligned.

    Attributes
    ----------
    match : SessionMatch
    chosen : int
        Number of the candidate that was used.
    agreement : float or None
        Share of the variance of known behavior that this candidate predicts; None without behavior.
    """

    match: SessionMatch
    chosen: int
    agreement: float | None


def align_encoder(
    model: Model,
    latents: SessionLatents,
    fitted: Sequence[SessionLatents],
    seed: int,
    behavior: tuple[np.ndarray, np.ndarray] | None = None,
    are_labels: bool = True,
) -> tuple[SessionLatents, AlignedMatch]:
    """Map the latents of an untrained encoder into the space of fitted sessions; return them and the match.

    Behavior (time, features), that of the session and that of the fitted sessions, decides between the candidates.
    Unless it consists of labels, which are alike in many places, one more candidate begins at it, and latents at bins
    with known behavior are mapped to where those of the fitted sessions are at the same behavior.
    """
    bins, found, guess = None, None, None
    smoothed = np.concatenate([one.smoothed for one in fitted])
    if behavior is not None and not are_labels:
        bins, found = behavior_targets(*behavior, smoothed)
        guess = fit_map(latents.smoothed, bins, found, smoothed.mean(0), np.cov(smoothed.T))(latents.smoothed)
    match = match_session(fitted, latents, _MATCH, seed, guess)
    chosen, agreement = 0, None
    if behavior is not None:
        own, others = behavior
        agreements = [behavior_agreement(one, own[match.bins], smoothed, others) for one in match.targets]
        scores = [one.score + agrees for one, agrees in zip(match.candidates, agreements, strict=True)]
        chosen = int(np.argmax(scores))
        agreement = agreements[chosen]
    targets = match.targets[chosen]
    if bins is not None and found is not None:
        place = {bin_: row for row, bin_ in enumerate(bins)}
        known = np.flatnonzero(np.isin(match.bins, bins))
        targets = targets.copy()
        targets[known] = found[[place[bin_] for bin_ in match.bins[known]]]
    mapping = fit_map(latents.smoothed, match.bins, targets, match.reference.mean, match.reference.cov)
    return _map_encoder(model, latents, mapping), AlignedMatch(match, chosen, agreement)


def _align_by_behavior(
    model: Model,
    latents: SessionLatents,
    fitted: Sequence[SessionLatents],
    behavior: np.ndarray,
    fitted_behavior: np.ndarray,
) -> SessionLatents:
    """Map the latents of an untrained encoder to where those of fitted sessions are at the same behavior."""
    smoothed = np.concatenate([one.smoothed for one in fitted])
    bins, targets = behavior_targets(behavior, fitted_behavior, smoothed)
    mapping = fit_map(latents.smoothed, bins, targets, smoothed.mean(0), np.cov(smoothed.T))
    return _map_encoder(model, latents, mapping)


def _map_encoder(model: Model, latents: SessionLatents, mapping: LatentMap) -> SessionLatents:
    """Map the output of an encoder, and return the mapped latents."""
    assert isinstance(model.encoder, ResidualEncoder)
    model.encoder.transform_latents(torch.from_numpy(mapping.matrix), torch.from_numpy(mapping.offset))
    return SessionLatents(mapping(latents.smoothed), mapping(latents.observed), latents.segment, latents.bins_per_step)
