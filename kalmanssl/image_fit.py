"""Fit a pair model to images without labels, and read features from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kalmanssl.augmentations import PairAugmentation
from kalmanssl.errors import InputError
from kalmanssl.pair_model import PairModel
from kalmanssl.training import TrainingSettings, train
from kalmanssl.training_data import PairBatches

if TYPE_CHECKING:
    from kalmanssl.datasets.images import Images

__all__ = ["fit_images", "image_features"]


def fit_images(
    model: PairModel,
    images: Images,
    augmentation: PairAugmentation,
    *,
    epochs: int,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
    random_state: int = 0,
    accelerator: str = "auto",
    devices: int = 1,
    checkpoint_dir: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> dict[str, list[float]]:
    """Train a pair model in place on two views of each image; labels are not looked at.

    Parameters
    ----------
    model : PairModel
        Such as ``recipes.simclr().build(encoder, encoder.n_features)``.
    images : Images
    augmentation : PairAugmentation
        Makes the views.
    epochs : int
        Rounds through all images.
    batch_size : int
        Pairs per step and device; entropies are estimated on one batch.
    learning_rate, weight_decay : float
        Of AdamW; the rate rises over the first twentieth of the steps and falls to zero as a cosine.
    random_state : int
        Seed of the order of the images and of the views.
    accelerator, devices, checkpoint_dir, resume, progress
        As for `kalmanssl.training.train`.

    Returns
    -------
    dict
        One list per quantity with a value for each epoch: loss, alignment, entropy (nats per pair), latent_scale,
        effective_dimension.

    Raises
    ------
    CollapseError, DivergenceError, KeyboardInterrupt
        Each after the last good weights were put back into the model.
    InputError
        If the images or a setting cannot be used.
    """
    pixels = torch.from_numpy(images.images)
    data = PairBatches(len(pixels), lambda chosen: augmentation(pixels[chosen]), batch_size, random_state)
    settings = TrainingSettings(epochs, learning_rate, weight_decay=weight_decay)
    history: dict[str, list[float]] = {}
    train(
        model,
        data,
        settings,
        history,
        seed=random_state,
        accelerator=accelerator,
        devices=devices,
        checkpoint_dir=None if checkpoint_dir is None else Path(checkpoint_dir),
        resume=resume,
        progress=progress,
    )
    model.eval()
    return history


@torch.no_grad()
def image_features(
    network: Callable[[Tensor], Tensor], images: Images, augmentation: PairAugmentation, batch_size: int = 512
) -> np.ndarray:
    """Apply a network to images as they are, only normalised as the views are.

    Parameters
    ----------
    network : callable
        Such as ``model.backbone`` (features, for probes) or a `PairModel` itself (latents); a module is used in
        evaluation mode.
    images : Images
    augmentation : PairAugmentation
        Of the training.
    batch_size : int
        Images at once.

    Returns
    -------
    ndarray
        (images, features), float32.

    Raises
    ------
    InputError
        If the network returns something else than a vector for each image.
    """
    was_training, device = False, torch.device("cpu")
    if isinstance(network, torch.nn.Module):
        was_training, device = network.training, next((p.device for p in network.parameters()), device)
        network.eval()
    parts = []
    for pixels in torch.from_numpy(images.images).split(batch_size):
        found = network(augmentation.plain(pixels).to(device))
        if found.ndim != 2 or len(found) != len(pixels):
            raise InputError(
                f"network: expected features ({len(pixels)}, any number) of {len(pixels)} images, got "
                f"{tuple(found.shape)}"
            )
        parts.append(found.float().cpu().numpy())
    if isinstance(network, torch.nn.Module):
        network.train(was_training)
    return np.concatenate(parts)
