"""The two stages of a fit: the training of the whole model, and that of its dynamics and noise alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from kalmanssl.estimator._dynamics_fit import delete_dynamics_checkpoints, fit_predictor
from kalmanssl.estimator._model import history_per_bin
from kalmanssl.estimator._parameters import training_options, training_parameters
from kalmanssl.estimator._view import views_of
from kalmanssl.models import KalmanPredictor, SequenceModel, Trainable
from kalmanssl.training import WindowBatches, train
from kalmanssl.utils.seeds import draw_seed

if TYPE_CHECKING:
    from kalmanssl.estimator._kalman_ssl import KalmanSSL

__all__ = ["FitStages"]


class FitStages:
    """Settings, random numbers, checkpoints and histories of both stages of a fit.

    Parameters
    ----------
    estimator : KalmanSSL
        Its `history_` and `noise_history_`, and those of its second view, are set, also if a stage is interrupted.
    folder : Path or None
        Folder of the checkpoints.
    resume : bool
        Continue from the last checkpoint of either stage.

    Attributes
    ----------
    seed : int
    """

    def __init__(self, estimator: KalmanSSL, folder: Path | None, resume: bool) -> None:
        self._estimator, self._folder, self._resume = estimator, folder, resume
        self.seed = draw_seed(estimator.random_state)
        self._settings, self._options = training_parameters(estimator), training_options(estimator, self.seed)

    @contextmanager
    def random_numbers(self) -> Iterator[None]:
        """Inside the block torch draws from the seed of the fit; afterward its generator is as before."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            yield

    def train(self, model: Trainable, data: Any) -> None:
        """Train the whole model, the first stage."""
        estimator = self._estimator
        per_step: dict[str, list[float]] = {}
        # A second stage is fitted to latents that this stage still changes.
        end_epoch = partial(delete_dynamics_checkpoints, self._folder)
        checkpoints: dict[str, Any] = {"checkpoint_dir": self._folder, "resume": self._resume}
        try:
            train(model, data, self._settings, per_step, on_epoch_end=end_epoch, **checkpoints, **self._options)
        finally:
            for one in views_of(estimator):
                one.history_, one.noise_history_ = history_per_bin(per_step, estimator.bins_per_step_), {}

    def fit_dynamics(self, model: SequenceModel[KalmanPredictor], data: WindowBatches) -> None:
        """Fit the predictor to latents, the second stage; see `fit_predictor`."""
        per_step: dict[str, list[float]] = {}
        settings = replace(self._settings, epochs=self._estimator.noise_epochs)
        try:
            fit_predictor(model, data, settings, per_step, self._folder, self._resume, self._options)
        finally:
            self._estimator.noise_history_ = history_per_bin(per_step, self._estimator.bins_per_step_)
