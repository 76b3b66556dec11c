"""The second stage of a fit: dynamics and noise alone, by maximum likelihood of the latents of fixed encoders."""

from __future__ import annotations

import copy
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kalmanssl.models import KalmanPredictor, PredictorFit, SequenceModel, start_varying_noise
from kalmanssl.networks import BoundedNoise
from kalmanssl.training import TrainingSettings, WindowBatches, train
from kalmanssl.utils.torch_ops import evaluating

__all__ = [
    "DYNAMICS_FOLDER", "delete_dynamics_checkpoints", "fit_predictor", "model_of_latents", "varying_heads",
]  # fmt: skip

DYNAMICS_FOLDER = "noise"  # of the checkpoints of the second stage


def delete_dynamics_checkpoints(folder: Path | None, _: int = 0) -> None:
    """Remove checkpoints of a second stage after an epoch of the first one, since they are of other latents."""
    if folder is not None:
        for file in (folder / DYNAMICS_FOLDER).glob("*.safetensors"):
            with suppress(OSError):
                file.unlink()


def model_of_latents(model: SequenceModel[KalmanPredictor], bins_per_step: int) -> SequenceModel[KalmanPredictor]:
    """Return a model of latents, the output of encoders, with the predictor of a model. Both share it."""
    on_latents = SequenceModel(nn.Identity(), model.predictor, model.objective)
    on_latents.bins_per_step = bins_per_step
    return on_latents


def fit_predictor(
    model: SequenceModel[KalmanPredictor],
    data: WindowBatches,
    settings: TrainingSettings,
    history: dict[str, list[float]],
    folder: Path | None,
    resume: bool,
    options: dict[str, Any],
) -> None:
    """Fit the predictor to the latents of the encoder, which does not change; noise that can vary does so from here on.

    The predictor stays as it was if the held-out latents are not more likely.

    Parameters
    ----------
    model : SequenceModel
    data : WindowBatches
    settings : TrainingSettings
    history : dict
        Gets the history of the training.
    folder : Path, optional
        Folder of the checkpoints of the first stage.
    resume : bool
        Continue from the last checkpoint of this stage, if there is one.
    options : dict
        From `training_options`.
    """
    folder = None if folder is None else folder / DYNAMICS_FOLDER
    first_stage = copy.deepcopy(model.state_dict())
    if varying_heads(model):
        start_varying_noise(model, data.sample())
    before = _held_out_likelihood(model, data)  # the variances are still the same
    resume = resume and folder is not None and any(folder.glob("last.*"))
    train(PredictorFit(model), data, settings, history, checkpoint_dir=folder, resume=resume, **options)
    after = _held_out_likelihood(model, data)
    if before is not None and after is not None and not after > before:
        model.load_state_dict(first_stage)


def varying_heads(model: SequenceModel[KalmanPredictor]) -> list[BoundedNoise]:
    """Return the noise heads whose variances can vary."""
    return [head for head in model.predictor.noise_heads if isinstance(head, BoundedNoise)]


@torch.no_grad()
def _held_out_likelihood(model: SequenceModel[KalmanPredictor], data: WindowBatches) -> float | None:
    """Return the mean log-density of the held-out latents, nats per step; None if nothing is held out."""
    if data.held_out is None:
        return None
    fit = PredictorFit(model)
    with evaluating(model):
        values = [float(fit.terms(batch).alignment) for batch in data.held_out.batches]
    return sum(values) / len(values)
