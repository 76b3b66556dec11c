"""Fit of several sessions: one encoder for each, and dynamics that are shared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.base import clone

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
from kalmanssl.estimator._fitting import window_settings
from kalmanssl.estimator._initialization import initialize
from kalmanssl.estimator._inputs import step_activity
from kalmanssl.estimator._memory import check_fit_memory
from kalmanssl.estimator._model import build_model, history_per_bin, infer
from kalmanssl.estimator._parameters import training_parameters
from kalmanssl.estimator._segments import prepare
from kalmanssl.estimator._session_behavior import SessionBehavior
from kalmanssl.models import KalmanPredictor, SequenceModel, SharedDynamicsModel
from kalmanssl.networks import ResidualEncoder
from kalmanssl.training import SessionBatches, WindowBatches, choose_window, hold_out_blocks, train
from kalmanssl.utils.seeds import draw_seed

if TYPE_CHECKING:
    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = [
    "SessionData",
    "align_encoder",
    "check_session_settings",
    "fit_alone",
    "fit_sessions",
    "set_sessions",
]  # fmt: skip

Model = SequenceModel[KalmanPredictor]
MATCH = MatchSettings()


@contextmanager
def _errors_name(session: str) -> Iterator[None]:
    """Add the name of a session to the message of an `InputError`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"session {session!r}: {error}", parameter=error.parameter or "X") from error


@dataclass
class SessionData:
    """Data of one session in a fit.

    Attributes
    ----------
    model : KalmanSSL
        The estimator of this session alone, whose units and moments are set.
    segments : list of (time, features)
        Normalized activity.
    training, held_out : list of (time, features)
        Input of the encoder in the training part and in the held-out part.
    """

    model: KalmanSSL
    segments: list[np.ndarray]
    training: list[np.ndarray]
    held_out: list[np.ndarray]

    @classmethod
    def prepare(cls, estimator: KalmanSSL, name: str, recordings: Sequence[Recording]) -> SessionData:
        """Return the data of a session; the estimator is copied without its fit."""
        model = clone(estimator).set_params(checkpoint_dir=None)
        model.sessions_, model.view_ = (name,), None
        with _errors_name(name):
            segments = prepare(model, recordings[0] if len(recordings) == 1 else list(recordings), True).segments
        return cls(model, segments, [], [])

    def hold_out(self) -> None:
        """Divide the segments into a training part and a held-out part, for the window and the steps of the model."""
        model = self.model
        with _errors_name(model.sessions_[0]):
            parts = hold_out_blocks(self.segments, model.validation_fraction, model.window_)
        self.training, self.held_out = (
            [step_activity(one, model.bins_per_step_, model.normalize_) for one in part] for part in parts
        )

    def window(self) -> int:
        """Return the longest window that suits the segments."""
        model = self.model
        lengths = [len(one) for one in self.segments]
        with _errors_name(model.sessions_[0]):
            return choose_window(lengths, model.window, model.bins_per_step_, model.validation_fraction != 0)

    def batches(self, seed: int) -> WindowBatches:
        """Return the batches of the training."""
        return WindowBatches(self.training, self.held_out, window_settings(self.model), seed)


def fit_sessions(
    estimator: KalmanSSL,
    sessions: Mapping[str, Sequence[Recording]],
    behavior: SessionBehavior | None,
    resume: bool,
) -> None:
    """Fit encoders and shared dynamics of several sessions, and set the attributes of the estimator.

    A model of each session is fitted alone at first. The first one gives the dynamics, and the latents of the others
    are mapped into its space by the behavior, or without it by their own dynamics
    (`kalmanssl.alignment.match_session`). Labels, which are alike in many places, only decide between the matches that
    the dynamics suggest. All encoders and the dynamics are then trained together.

    Parameters
    ----------
    estimator : KalmanSSL
    sessions : mapping of str to recordings
    behavior : SessionBehavior, optional
    resume : bool
        Continue from the last checkpoint.
    """
    check_session_settings(estimator)
    data = [SessionData.prepare(estimator, name, recordings) for name, recordings in sessions.items()]
    normalizations = {one.model.sessions_[0]: one.model.normalize_ for one in data}
    if len(set(normalizations.values())) > 1:
        raise InputError(f"sessions need the same normalization, got {normalizations}", parameter="normalize")
    step = max(one.model.bins_per_step_ for one in data)
    for one in data:
        one.model.bins_per_step_ = step
    window = min(one.window() for one in data)
    for one in data:
        one.model.window_ = window
        one.hold_out()
    seed = draw_seed(estimator.random_state)
    history: dict[str, list[float]] = {}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        shared = _initial_model(data, behavior, seed)
        set_sessions(estimator, [one.model for one in data], shared)
        try:
            train(
                shared,
                SessionBatches([one.batches(seed + number) for number, one in enumerate(data)]),
                training_parameters(estimator),
                history,
                seed=seed,
                device=estimator.device,
                progress=estimator.progress,
                checkpoint_dir=None if estimator.checkpoint_dir is None else Path(estimator.checkpoint_dir),
                resume=resume,
            )
        finally:
            estimator.history_ = history_per_bin(history, step)


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


def _initial_model(data: Sequence[SessionData], behavior: SessionBehavior | None, seed: int) -> SharedDynamicsModel:
    """Return the model before the common training: dynamics of the first session, and encoders aligned with it."""
    models = []
    aligned: list[SessionLatents] = []
    for number, one in enumerate(data):
        model, latents = fit_alone(one, seed)
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


def fit_alone(data: SessionData, seed: int) -> tuple[Model, SessionLatents]:
    """Return a model of one session with its own dynamics, and its smoothed latents."""
    one = data.model
    check_fit_memory(one)
    model = build_model(one)
    initialize(model, data.training, one.bins_per_step_)
    settings = training_parameters(one)
    train(model, data.batches(seed), settings, {}, seed=seed, device=one.device, progress=one.progress)
    model = model.double().eval()
    parts = [infer(model, segment, one.bins_per_step_, one.normalize_, True) for segment in data.segments]
    model.float().train()
    observed = np.concatenate([part["latent"] for part in parts])
    smoothed = np.concatenate([part["mean"] for part in parts])[:, : observed.shape[1]]
    segment = np.repeat(np.arange(len(parts)), [len(part["mean"]) for part in parts])
    return model, SessionLatents(smoothed, observed, segment, one.bins_per_step_)


def align_encoder(
    model: Model,
    latents: SessionLatents,
    fitted: Sequence[SessionLatents],
    seed: int,
    labels: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[SessionLatents, SessionMatch]:
    """Map the latents of an untrained encoder into the space of fitted sessions; return them and the match.

    Labels (time, features), those of the session and those of the fitted sessions, decide between the candidates.
    """
    match = match_session(fitted, latents, MATCH, seed)
    chosen = 0
    if labels is not None:
        own, others = labels
        smoothed = np.concatenate([one.smoothed for one in fitted])
        agreements = [behavior_agreement(one, own[match.bins], smoothed, others) for one in match.targets]
        scores = [one.score + agrees for one, agrees in zip(match.candidates, agreements, strict=True)]
        chosen = int(np.argmax(scores))
    reference = match.reference
    mapping = fit_map(latents.smoothed, match.bins, match.targets[chosen], reference.mean, reference.cov)
    return _map_encoder(model, latents, mapping), match


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
