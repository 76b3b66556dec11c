"""Data of one session in a fit of several, and the first stage of such a fit: a model of each session by itself."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.base import clone

from kalmanssl.alignment import SessionLatents
from kalmanssl.data import Recording
from kalmanssl.errors import InputError
from kalmanssl.estimator._encoding import encode_segments
from kalmanssl.estimator._fitting import check_held_out_steps, window_settings
from kalmanssl.estimator._initialization import initialize
from kalmanssl.estimator._inputs import step_activity
from kalmanssl.estimator._memory import check_fit_memory
from kalmanssl.estimator._model import build_model
from kalmanssl.estimator._parameters import training_options, training_parameters
from kalmanssl.estimator._segment_inference import SegmentInference
from kalmanssl.estimator._segments import prepare
from kalmanssl.models import KalmanPredictor, SequenceModel
from kalmanssl.training import WindowBatches, choose_window, has_checkpoint, hold_out_blocks, train

if TYPE_CHECKING:
    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = ["FirstStage", "Model", "SessionData", "name_session", "session_folder"]

Model = SequenceModel[KalmanPredictor]


@contextmanager
def name_session(session: str, parameter: str = "X") -> Iterator[None]:
    """Add the name of a session to the message of an `InputError`; `parameter` is the argument with its data."""
    try:
        yield
    except InputError as error:
        at_fault = parameter if error.parameter in (None, "X") else error.parameter
        raise InputError(f"session {session!r}: {error}", parameter=at_fault) from error


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
        with name_session(name):
            segments = prepare(model, recordings[0] if len(recordings) == 1 else list(recordings), True).segments
        return cls(model, segments, [], [])

    def hold_out(self) -> None:
        """Divide the segments into a training part and a held-out part, for the window and the steps of the model."""
        model = self.model
        self.training, self.held_out = (
            [step_activity(one, model.bins_per_step_, model.normalize_) for one in part] for part in self._parts()
        )

    def latents(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the latents (time, latent) from the encoder of the model in the training part and the held-out one."""
        encoder, model = self.model.model_.encoder, self.model
        training, held_out = (
            encode_segments(encoder, part, model.bins_per_step_, model.normalize_) for part in self._parts()
        )
        return training, held_out

    def _parts(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the segments of the training part and of the held-out part."""
        model = self.model
        with name_session(model.sessions_[0]):
            return hold_out_blocks(self.segments, model.validation_fraction, model.window_)

    def window(self) -> int:
        """Return the longest window that suits the segments."""
        model = self.model
        lengths = [len(one) for one in self.segments]
        with name_session(model.sessions_[0]):
            return choose_window(lengths, model.window, model.bins_per_step_, model.validation_fraction != 0)

    def batches(self, seed: int) -> WindowBatches:
        """Return the batches of the training."""
        return WindowBatches(self.training, self.held_out, window_settings(self.model), seed)


@dataclass
class FirstStage:
    """Fits of single sessions, with which fits of several sessions begin.

    Attributes
    ----------
    folder : Path, optional
        Folder of the checkpoints; each session has a folder in it.
    resume : bool
        Continue from the checkpoints, where there are some.
    fits : dict
        The fits so far. A session is fitted once with the same settings.
    """

    folder: Path | None = None
    resume: bool = False
    fits: dict[tuple[Any, ...], tuple[Model, SessionLatents]] = field(default_factory=dict)

    def fit(self, data: SessionData, seed: int, number: int = 0) -> tuple[Model, SessionLatents]:
        """Return a model of one session with its own dynamics, and its smoothed latents.

        `number` is that of the session in the folder of the checkpoints.
        """
        one = data.model
        key = (*one.sessions_, one.bins_per_step_, one.window_, one.normalize_, seed)
        if key not in self.fits:
            folder = None if self.folder is None else self.folder / session_folder(number)
            resume = self.resume and folder is not None and has_checkpoint(folder)
            self.fits[key] = _fit_alone(data, seed, folder, resume)
        model, latents = self.fits[key]
        return copy.deepcopy(model), latents


def session_folder(number: int | str) -> str:
    """Return the name of the folder with the checkpoints of a session in the first stage."""
    return f"session_{number}"


def _fit_alone(data: SessionData, seed: int, folder: Path | None, resume: bool) -> tuple[Model, SessionLatents]:
    """Return a model of one session with its own dynamics, and its smoothed latents."""
    one = data.model
    check_fit_memory(one)
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # the weights at the start do not depend on the other sessions
        model = build_model(one)
        initialize(model, data.training, one.bins_per_step_)
    settings = training_parameters(one)
    batches = data.batches(seed)
    with name_session(one.sessions_[0]):
        check_held_out_steps(one, model, batches)
    train(model, batches, settings, {}, checkpoint_dir=folder, resume=resume, **training_options(one, seed))
    model = model.double().eval()
    inference = SegmentInference(model, one.bins_per_step_, one.normalize_, smooth=True)
    parts = [inference.of(segment) for segment in data.segments]
    model.float().train()
    observed = np.concatenate([part["latent"] for part in parts])
    smoothed = np.concatenate([part["mean"] for part in parts])[:, : observed.shape[1]]
    segment = np.repeat(np.arange(len(parts)), [len(part["mean"]) for part in parts])
    return model, SessionLatents(smoothed, observed, segment, one.bins_per_step_)
