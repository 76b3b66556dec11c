"""Training of a pair model on images without labels, and extraction of features."""

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
from kalmanssl.utils.validation import check_integer

if TYPE_CHECKING:
    from kalmanssl.datasets import Images

__all__ = ["ViewMaker", "fit_images", "image_features"]


class ViewMaker(Protocol):
    """Interface of an augmentation of images, uint8 (n, channels, height, width), such as `PairAugmentation`."""

    def __call__(self, images: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return two random views of each image, (n, ...) each, drawn with torch's global generator."""

    def eval_transform(self, images: Tensor, /) -> Tensor:
        """Return each image without random changes, in the format of the views, (n, ...)."""


def fit_images(
    model: PairModel,
    images: Images,
    augmentation: ViewMaker,
    *,
    epochs: int,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
    validation_fraction: float = 0.0,
    patience: int = 10,
    random_state: int = 0,
    device: str = "auto",
    checkpoint_dir: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    history: dict[str, list[float]] | None = None,
) -> dict[str, list[float]]:
    """Train a pair model in place on two views of each image. Labels are not used.

    For other pairs, such as images that are read from disk when needed, write a function `draw` that returns a pair of
    batches for given indices::

        data = PairBatches(n_samples, draw, batch_size=256, seed=0)
        train(model, data, TrainingSettings(epochs=100, learning_rate=1e-3), history := {}, seed=0)

    Parameters
    ----------
    model : PairModel
        For example ``recipes.simclr().build(encoder, encoder.n_features)``. It is in evaluation mode after training.
    images : Images
    augmentation : PairAugmentation or ViewMaker
        Computes the views, on the device of the model.
    epochs : int
        Number of passes over all images.
    batch_size : int
        Pairs per step and process. Entropies are estimated on one batch.
    learning_rate, weight_decay : float
        Settings of AdamW. The learning rate increases linearly over the first twentieth of the steps and then decreases
        to zero as a cosine, except for predictors with a constant rate. `Recipe.weight_decay` is the published weight
        decay.
    validation_fraction : float
        Fraction of the images to hold out, chosen at random, to choose the epoch with the best weights; 0 keeps the
        last epoch.
    patience : int
        Training stops after this many epochs without a better held-out score (`PairModel.held_out_scores`).
    random_state : int
        Seed for the order of the images and for the views.
    device, checkpoint_dir, resume, progress
        As for `kalmanssl.training.train`.
    history : dict, optional
        Filled in place, so that it is available after an interrupt.

    Returns
    -------
    dict
        The history, one list per quantity with a value for each epoch: loss, alignment, entropy (nats per pair),
        latent_scale, effective_dimension; with a held-out part also held_out_loss, held_out_alignment,
        held_out_entropy and held_out_score.

    Raises
    ------
    CollapseError, DivergenceError, KeyboardInterrupt
        After the last good weights are restored.
    InputError
        If the images or a setting cannot be used.
    """
    _check_images(images)
    if not callable(augmentation):
        raise InputError(
            f"augmentation must be callable and return two views, such as PairAugmentation(); got {augmentation!r}",
            parameter="augmentation",
        )
    check_integer("random_state", random_state, 0)
    pixels = torch.from_numpy(images.images)

    def views(chosen: Tensor) -> tuple[Tensor, Tensor]:
        return augmentation(pixels[chosen].to(_device(model)))

    data = PairBatches(len(pixels), views, batch_size, random_state, validation_fraction)
    settings = TrainingSettings(epochs, learning_rate, weight_decay=weight_decay, patience=patience)
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
            device=device,
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
    """Apply a network to images without augmentation, with the normalization of the views.

    Parameters
    ----------
    network : callable
        For example ``model.backbone`` (features, for probes) or the `PairModel` itself (latents). A module is applied
        in evaluation mode.
    images : Images
    augmentation : PairAugmentation or ViewMaker
        The augmentation used in training.
    batch_size : int
        Number of images per call of the network.

    Returns
    -------
    ndarray
        (images, features), float32.

    Raises
    ------
    InputError
        If the network does not return one vector per image.
    """
    _check_images(images)
    module = network if isinstance(network, nn.Module) else nn.Identity()
    parts = []
    with evaluating(module):
        for pixels in torch.from_numpy(images.images).split(batch_size):
            found = network(augmentation.eval_transform(pixels.to(_device(module))))
            if found.ndim != 2 or len(found) != len(pixels):
                raise InputError(
                    f"network must return features of shape ({len(pixels)}, n_features) for {len(pixels)} images, got "
                    f"{tuple(found.shape)}",
                    parameter="network",
                )
            parts.append(found.float().cpu().numpy())
    return np.concatenate(parts)


def _check_images(images: Images) -> None:
    if not isinstance(getattr(images, "images", None), np.ndarray):
        raise InputError(
            f"images must be Images, for example Images.from_arrays(pixels); got {type(images).__name__}",
            parameter="images",
        )


def _device(module: nn.Module) -> torch.device:
    return next((p.device for p in module.parameters()), torch.device("cpu"))
