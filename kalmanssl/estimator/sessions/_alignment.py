"""Alignment of a new session with a fitted model: its encoder is fitted, and the dynamics stay as they are."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from kalmanssl.alignment import SessionLatents, sliced_wasserstein, transition_distances
from kalmanssl.data import Latents, Recording
from kalmanssl.errors import InputError
from kalmanssl.estimator._model import objective_per_bin
from kalmanssl.estimator._parameters import training_options, training_parameters
from kalmanssl.estimator.sessions._behavior import SessionBehavior
from kalmanssl.estimator.sessions._data import FirstStage, SessionData, name_session
from kalmanssl.estimator.sessions._fit import AlignedMatch, align_encoder, check_session_settings, set_sessions
from kalmanssl.models import EncoderFit, SequenceModel, SharedDynamicsModel
from kalmanssl.training import train
from kalmanssl.utils.seeds import draw_seed

if TYPE_CHECKING:
    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = ["SessionAlignment", "align_session"]

_LAG = 1.0  # s, between the two times of a transition


@dataclass(frozen=True)
class SessionAlignment:
    """How well a new session is aligned with fitted sessions. Labels are not used, except in `agreement`.

    Attributes
    ----------
    score : float
        Objective of the new session under the dynamics of the fitted sessions, nats per bin (`KalmanSSL.score`).
    fitted_scores : dict of float
        The same of each fitted session.
    log_likelihood : float
        Mean log-density of the latents of the new session given their past, nats per bin.
    fitted_log_likelihoods : dict of float
        The same of each fitted session.
    distance : float
        Sliced Wasserstein distance between the smoothed latents of the new session and those of the fitted sessions, in
        standard deviations of the latter.
    fitted_distances : dict of float
        The same between each fitted session and the others; of a single session, between its first and second half.
    similarity : float
        Correlation of the distances between hidden states in the new session with those in the fitted sessions.
    margin : float
        Difference in the score of the match to the best match that is a different solution, at most 0.3, averaged over
        the fitted sessions with a negative sign for those that contradict. The match is chosen by this score, so the
        margin does not show whether the choice is right.
    agreement : float or None
        Share of the variance of the given behavior that is predicted by that of the fitted sessions where their latents
        are similar: 1 at best, 0 or less by chance. None without behavior.
    transition_distance : float or None
        Sliced Wasserstein distance between pairs of smoothed latents one second apart, those of the new session and
        those of the fitted sessions, in standard deviations of the latter, before the encoder is trained. The match is
        not chosen by it. None in alignments that were saved by older versions.
    other_transition_distance : float or None
        The smallest such distance for matches that are a different solution, such as the mirror image of a track. None
        if there is no such match.
    """

    score: float
    fitted_scores: dict[str, float]
    log_likelihood: float
    fitted_log_likelihoods: dict[str, float]
    distance: float
    fitted_distances: dict[str, float]
    similarity: float
    margin: float
    agreement: float | None = None
    transition_distance: float | None = None
    other_transition_distance: float | None = None

    @property
    def is_doubtful(self) -> bool:
        """Whether a different match has a smaller distance between transitions than the one that was chosen."""
        own, other = self.transition_distance, self.other_transition_distance
        return own is not None and other is not None and other < own

    def __str__(self) -> str:
        scores, distances = (
            ", ".join(f"{v:.3g}" for v in d.values()) for d in (self.fitted_scores, self.fitted_distances)
        )
        return (
            f"objective {self.score:.3g} nats per bin (fitted sessions: {scores}); "
            f"distance between latents {self.distance:.2g} sd (fitted: {distances}); "
            f"similarity of the states {self.similarity:.2f}; margin to another solution {self.margin:.2g}"
            + ("" if self.transition_distance is None else self._transitions())
            + ("" if self.agreement is None else f"; agreement with the behavior {self.agreement:.2f}")
        )

    def _transitions(self) -> str:
        """Return the distances between transitions as text."""
        other = self.other_transition_distance
        compared = "no different match" if other is None else f"best different match: {other:.3g}"
        unknown = self.is_doubtful and self.agreement is None
        doubt = ", doubtful: check it with a few minutes of behavior" if unknown else ""
        return f"; distance between transitions {self.transition_distance:.3g} sd ({compared}{doubt})"


def align_session(
    estimator: KalmanSSL,
    name: str,
    recordings: Sequence[Recording],
    fitted: Mapping[str, Sequence[Recording]],
    behavior: SessionBehavior | None = None,
    first_stage: FirstStage | None = None,
) -> KalmanSSL:
    """Return a copy of a fitted model with one more session, whose encoder is fitted to the dynamics of the model.

    Parameters
    ----------
    estimator : KalmanSSL
    name : str
        Name of the new session.
    recordings : sequence of Recording
        Recordings of the new session.
    fitted : mapping of str to recordings
        Fitted sessions, whose latents the new ones are matched to.
    behavior : SessionBehavior, optional
        Behavior of the new and the fitted sessions, where it is known.
    first_stage : FirstStage, optional
        Fits of single sessions that can be used again.
    """
    check_session_settings(estimator)
    models = _copies(estimator)
    first = next(iter(models.values()))
    data = SessionData.prepare(estimator, name, recordings)
    own = data.model
    own.bins_per_step_, own.normalize_ = first.bins_per_step_, first.normalize_
    own.window_ = min(data.window(), first.window_)
    data.hold_out()
    n_bins = sum(len(part) for parts in fitted.values() for part in parts)
    if n_bins < own.window_:
        message = f"fitted has {n_bins} bins, fewer than a training window of {own.window_}: give longer recordings"
        raise InputError(message, parameter="fitted")
    expected = {}
    for one, parts in fitted.items():
        with name_session(one, "fitted"):
            expected[one] = _smoothed(models[one], parts)
    seed = draw_seed(estimator.random_state)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, latents = (first_stage or FirstStage()).fit(data, seed)
        known, are_labels = None, behavior is not None and behavior.are_labels
        if behavior is not None:
            known = behavior.features[name], np.concatenate([behavior.features[one] for one in expected])
        matched = [_session_latents(one, own) for one in expected.values()]
        _, found = align_encoder(model, latents, matched, seed, known, are_labels)
        transitions = transition_distances(found.match, found.chosen, latents, matched, round(_LAG / own.bin_size_))
        shared = first.model_
        model = SequenceModel(model.encoder, shared.predictor, shared.objective)
        settings, history = training_parameters(estimator), dict[str, list[float]]()
        train(EncoderFit(model), data.batches(seed), settings, history, **training_options(estimator, seed))
    result = copy.deepcopy(estimator)
    encoders = [one.model_.encoder for one in models.values()]
    together = SharedDynamicsModel([*encoders, model.encoder], shared.predictor, shared.objective)
    set_sessions(result, [*models.values(), own], together)
    result.history_ = estimator.history_
    alignment = _describe(models, own, recordings, fitted, expected, found, transitions)
    result.alignments_ = getattr(estimator, "alignments_", {}) | {name: alignment}
    return result


def _copies(estimator: KalmanSSL) -> dict[str, KalmanSSL]:
    """Return copies of the models of all sessions, which share one copy of the dynamics."""
    copied = copy.deepcopy(estimator)
    models = copied.session_models_ if len(copied.sessions_) > 1 else {copied.sessions_[0]: copied}
    return dict(models)


def _smoothed(model: KalmanSSL, recordings: Sequence[Recording]) -> Latents:
    """Return the smoothed latents of the recordings of a session, one after another."""
    return Latents.concatenate([model.posterior(one, smooth=True) for one in recordings])


def _session_latents(latents: Latents, model: KalmanSSL) -> SessionLatents:
    """Return latents as they are matched."""
    smoothed = latents.mean[:, : latents.latent.shape[1]]
    return SessionLatents(smoothed, latents.latent, latents.segment, model.bins_per_step_)


def _describe(
    models: Mapping[str, KalmanSSL],
    own: KalmanSSL,
    recordings: Sequence[Recording],
    fitted: Mapping[str, Sequence[Recording]],
    expected: Mapping[str, Latents],
    found: AlignedMatch,
    transitions: tuple[float, float | None],
) -> SessionAlignment:
    """Return how well the session of the model `own` is aligned."""
    objective, step = own.model_.objective, own.bins_per_step_
    filtered = {
        name: Latents.concatenate([models[name].posterior(one) for one in parts]) for name, parts in fitted.items()
    }
    new = Latents.concatenate([own.posterior(one) for one in recordings])
    samples = {name: latents.mean for name, latents in expected.items()}
    if len(samples) == 1:
        ((only, z),) = samples.items()
        distances = {only: sliced_wasserstein(z[: len(z) // 2], z[len(z) // 2 :])}
    else:
        distances = {
            name: sliced_wasserstein(
                np.concatenate([z for other, z in samples.items() if other != name]), samples[name]
            )
            for name in samples
        }
    own_distance, other_distance = transitions
    return SessionAlignment(
        score=objective_per_bin(new, objective, step),
        fitted_scores={name: objective_per_bin(latents, objective, step) for name, latents in filtered.items()},
        log_likelihood=float(new.log_likelihood.mean()),
        fitted_log_likelihoods={name: float(latents.log_likelihood.mean()) for name, latents in filtered.items()},
        distance=sliced_wasserstein(np.concatenate(list(samples.values())), _smoothed(own, recordings).mean),
        fitted_distances=distances,
        similarity=found.match.candidates[found.chosen].similarity,
        margin=found.match.margin,
        agreement=found.agreement,
        transition_distance=own_distance,
        other_transition_distance=other_distance,
    )
