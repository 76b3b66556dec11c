"""Train one combination without labels, and measure its features."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from parallel import Logger
from results_store import Row

from images.combinations import COMBINATIONS, Combination
from images.cosines import EntropyCosines
from images.data import load
from images.presets import Preset
from images.timing import cpu_step, objective_step
from kalmanssl.datasets import Images
from kalmanssl.errors import CollapseError, DivergenceError
from kalmanssl.images import PairAugmentation, ResNet18, SmallConvEncoder, image_features
from kalmanssl.models import PairModel
from kalmanssl.probes import effective_dimension, knn_probe, linear_probe
from kalmanssl.recipes import Recipe
from kalmanssl.training import PairBatches, train

__all__ = ["CombinationFit", "backbone_of", "best_device", "probe_scores", "run", "save_features", "validation_score"]

SPECTRUM_POINTS = 64  # eigenvalues that are stored
N_SAVED = 1000  # test images whose features are stored for t-SNE
HELD_OUT = 5  # one in this many training images is held out for the choice of settings


def backbone_of(
    encoder: str, images: Images, features: int, seed: int, stem: str = "cifar"
) -> ResNet18 | SmallConvEncoder:
    """Return a new encoder for these images."""
    channels, size = images.images.shape[1], images.images.shape[-1]
    if encoder == "resnet18":
        return ResNet18(channels, stem, random_state=seed)
    return SmallConvEncoder(channels, size, features, random_state=seed)


def best_device() -> str:
    """Return the device on which networks are trained: a GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def probe_scores(train_x: np.ndarray, train_images: Images, test_x: np.ndarray, test_images: Images) -> Row:
    """Return the accuracies of a linear and a nearest-neighbor probe, fitted on training and scored on test images."""
    y, y_test = train_images.labels, test_images.labels
    return {
        "linear_probe": linear_probe(train_x, y, test_x, y_test).top1,
        "knn_probe": knn_probe(train_x, y, test_x, y_test).top1,
    }


def validation_score(x: np.ndarray, images: Images) -> float:
    """Return the accuracy of a linear probe fitted on four fifths of the training images and scored on the rest."""
    assert images.labels is not None
    fitted = np.arange(len(x)) % HELD_OUT > 0
    return linear_probe(x[fitted], images.labels[fitted], x[~fitted], images.labels[~fitted]).top1


def _thinned(spectrum: np.ndarray) -> list[list[float]]:
    """Return some of the eigenvalues as [number, value], on a logarithmic scale of numbers."""
    chosen = np.unique(np.geomspace(1, len(spectrum), SPECTRUM_POINTS).round().astype(int))
    return [[int(n), float(f"{spectrum[n - 1]:.4g}")] for n in chosen]


class CombinationFit(NamedTuple):
    """The training of a combination.

    Attributes
    ----------
    preset : Preset
    recipe : Recipe
    model : PairModel
    augment : PairAugmentation
    batches : PairBatches
        Of two augmented views of each image.
    cosines : EntropyCosines or None
        Comparison of the gradients of two entropies, if the combination has a partner.
    seed : int
    """

    preset: Preset
    recipe: Recipe
    model: PairModel
    augment: PairAugmentation
    batches: PairBatches
    cosines: EntropyCosines | None
    seed: int

    @classmethod
    def of(cls, one: Combination, preset: Preset, images: Images, seed: int) -> Self:
        """Prepare the training of a combination on images."""
        recipe = preset.recipe(one)
        mean, std = images.moments()
        device = best_device()
        augment = PairAugmentation(preset.augmentation or recipe.augmentation, mean=mean, std=std).to(device)
        backbone = backbone_of(preset.encoder, images, preset.features, seed)
        model = recipe.build(backbone, backbone.n_features, random_state=seed)
        pixels = torch.from_numpy(images.images).to(device)
        batches = PairBatches(len(images), lambda chosen: augment(pixels[chosen]), preset.batch, seed)
        partner = COMBINATIONS.get(one.partner or "")
        cosines = EntropyCosines(model, preset.recipe(partner), batches.sample(), preset.epochs) if partner else None
        return cls(preset, recipe, model, augment, batches, cosines, seed)

    def train(self, history: dict[str, list[float]], on_epoch_end: Callable[[int], None]) -> None:
        """Train the model; the gradients are compared, and `on_epoch_end` is called, before and after each epoch."""

        def end(epoch: int) -> None:
            if self.cosines is not None:
                self.cosines.compare(epoch)
            on_epoch_end(epoch)

        end(0)
        settings, device = self.preset.training(self.recipe), best_device()
        train(
            self.model,
            self.batches,
            settings,
            history,
            seed=self.seed,
            device=device,
            progress=False,
            on_epoch_end=end,
        )
        self.model.eval().to(device)


def run(
    one: Combination,
    preset: Preset,
    seed: int,
    out: Path,
    data: Path | None = None,
    logger: Logger | None = None,
) -> Row:
    """Train one combination and measure its features.

    Parameters
    ----------
    one : Combination
    preset : Preset
    seed : int
        Seed of the weights, the augmentations and the order of the images.
    out : Path
        Folder of the results, where decoded images and, for the first seed, features of test images are stored.
    data : Path, optional
        Zip or folder of the images.
    logger : callable, optional
        Called after each epoch with a row that has `step` and `steps`.

    Returns
    -------
    dict
        `part`, `combination`, `seed`, and either the measures or `failed` with the reason.
    """
    row: Row = {"part": "combinations", "combination": one.name, "seed": seed}
    images, test = load(preset.data, preset.train, preset.test, out, data)
    fit = CombinationFit.of(one, preset, images, seed)
    history: dict[str, list[float]] = {}

    def on_epoch_end(epoch: int) -> None:
        if logger is not None:
            logger({**row, "step": epoch, "steps": preset.epochs})

    start = time.process_time()
    try:
        fit.train(history, on_epoch_end)
    except (CollapseError, DivergenceError) as error:
        return row | {"failed": f"{type(error).__name__}: {error}", "loss": history.get("loss", [])}
    row["fit_s"] = time.process_time() - start
    row |= {name: [float(f"{v:.6g}") for v in history[name]] for name in ("loss", "alignment")}
    row["gradient_cosine"] = None if fit.cosines is None else fit.cosines.found
    model, augment = fit.model, fit.augment
    features, test_features = (image_features(model.backbone, some, augment) for some in (images, test))
    if seed == 0:
        save_features(out, one.name, test_features, test)
    row |= probe_scores(features, images, test_features, test) | {"validation": validation_score(features, images)}
    return row | _dimensions(image_features(model, test, augment)) | _cost(model.cpu(), fit.recipe.dim, fit.batches)


def save_features(out: Path, name: str, features: np.ndarray, images: Images) -> None:
    """Store the features of some test images for the t-SNE map on the page."""
    folder = out / "features"
    folder.mkdir(exist_ok=True)
    chosen = np.random.default_rng(0).permutation(len(features))[:N_SAVED]
    labels = np.array(images.classes)[images.labels[chosen]]
    np.savez_compressed(folder / f"{name}.npz", features=features[chosen].astype(np.float32), labels=labels)


def _dimensions(latents: np.ndarray) -> Row:
    """Return the spectrum of the covariance of the latents and three measures of their dimension."""
    dimension = effective_dimension(latents)
    return {
        "effective_dimension": dimension.above_threshold,
        "above_share": dimension.above_share,
        "participation_ratio": dimension.participation_ratio,
        "spectrum": _thinned(dimension.spectrum),
    }


def _cost(model: PairModel, dim: int, batches: PairBatches) -> Row:
    """Return the CPU seconds of one step of the encoder (forward and backward, both views) and of the objective."""
    both = torch.cat(batches.sample()).cpu()
    encoder = cpu_step(lambda: model.backbone(both).square().mean(), list(model.backbone.parameters()))
    return {"encoder_step_s": encoder, "objective_step_s": objective_step(model, dim, batches.batch_size)}
