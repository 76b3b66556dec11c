"""Fit a pair model to images without labels, and read features from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from kalmanssl.errors import InputError
from kalmanssl.models import PairModel
from kalmanssl.training import PairBatches, TrainingSettings, train
from kalmanssl.utils.torch_ops import evaluating
from kalmanssl.utils.validation import check_whole

if TYPE_CHECKING:
    from kalmanssl.datasets.images import Images

__all__ = ["ViewMaker", "fit_images", "image_features"]


class ViewMaker(Protocol):
    """What makes views of images, uint8 (n, channels, height, width): a `PairAugmentation`, or one of your own."""

    def __call__(self, images: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return two random views of each image, (n, ...) each; torch's generator is seeded before."""

    def plain(self, images: Tensor, /) -> Tensor:
        """Return each image as the network shall see it where nothing is random, (n, ...)."""


def fit_images(
    model: PairModel,
    images: Images,
    augmentation: ViewMaker,
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
    history: dict[str, list[float]] | None = None,
) -> dict[str, list[float]]:
    """Train a pair model in place on two views of each image; labels are not looked at.

    For pairs of anything else, such as images that are read as they are needed, `draw` turns indices into a pair of
    batches::

        data = PairBatches(n_samples, draw, batch_size=256, seed=0)
        train(model, data, TrainingSettings(epochs=100, learning_rate=1e-3), history := {}, seed=0)

    Parameters
    ----------
    model : PairModel
        Such as ``recipes.simclr().build(encoder, encoder.n_features)``. It ends in evaluation mode; one that is in that
        mode, such as after an earlier fit, is put into training mode first.
    images : Images
    augmentation : PairAugmentation or ViewMaker
        Makes the views, on the device of the model.
    epochs : int
        Rounds through all images.
    batch_size : int
        Pairs per step and device; entropies are estimated on one batch.
    learning_rate, weight_decay : float
        Of AdamW; the rate rises over the first twentieth of the steps and falls to zero as a cosine, but for a steady
        predictor. `Recipe.weight_decay` is the published one.
    random_state : int
        Seed of the order of the images and of the views.
    accelerator, devices, checkpoint_dir, resume, progress
        As for `kalmanssl.training.train`.
    history : dict, optional
        Filled in place, so that it stays when the run is interrupted.

    Returns
    -------
    dict
        The history, one list per quantity with a value for each epoch: loss, alignment, entropy (nats per pair),
        latent_scale, effective_dimension.

    Raises
    ------
    CollapseError, DivergenceError, KeyboardInterrupt
        Each after the last good weights were put back into the model.
    InputError
        If the images or a setting cannot be used.
    """
    _check_images(images)
    if not callable(augmentation):
        raise InputError(f"augmentation must make two views, as PairAugmentation({augmentation!r}) does")
    check_whole("random_state", random_state, 0)
    pixels = torch.from_numpy(images.images)

    def views(chosen: Tensor) -> tuple[Tensor, Tensor]:
        return augmentation(pixels[chosen].to(_device(model)))

    data = PairBatches(len(pixels), views, batch_size, random_state)
    settings = TrainingSettings(epochs, learning_rate, weight_decay=weight_decay)
    history = {} if history is None else history
    if not model.training:
        model.train()
    try:
        train(
            model,
            data,
            settings,
            history,
            seed=int(random_state),
            accelerator=accelerator,
            devices=devices,
            checkpoint_dir=None if checkpoint_dir is None else Path(checkpoint_dir),
            resume=resume,
            progress=progress,
        )
    finally:
        model.eval()
    return history


@torch.no_grad()
def image_features(
    network: Callable[[Tensor], Tensor], images: Images, augmentation: ViewMaker, batch_size: int = 512
) -> np.ndarray:
    """Apply a network to images as they are, only normalized as the views are.

    Parameters
    ----------
    network : callable
        Such as ``model.backbone`` (features, for probes) or a `PairModel` itself (latents); a module is used in
        evaluation mode.
    images : Images
    augmentation : PairAugmentation or ViewMaker
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
    _check_images(images)
    module = network if isinstance(network, nn.Module) else nn.Identity()
    parts = []
    with evaluating(module):
        for pixels in torch.from_numpy(images.images).split(batch_size):
            found = network(augmentation.plain(pixels.to(_device(module))))
            if found.ndim != 2 or len(found) != len(pixels):
                raise InputError(
                    f"network: expected features ({len(pixels)}, any number) of {len(pixels)} images, got "
                    f"{tuple(found.shape)}"
                )
            parts.append(found.float().cpu().numpy())
    return np.concatenate(parts)


def _check_images(images: Images) -> None:
    if not isinstance(getattr(images, "images", None), np.ndarray):
        raise InputError(f"images must be Images, such as Images.from_arrays(pixels), got {type(images).__name__}")


def _device(module: nn.Module) -> torch.device:
    return next((p.device for p in module.parameters()), torch.device("cpu"))
