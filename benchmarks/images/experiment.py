"""One combination: training without labels, then what can be read from its features and what they are like."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from kept import Row

from images.combinations import COMBINATIONS, Combination
from images.cosines import CosineWatch
from images.data import load
from images.presets import Preset
from images.timing import cpu_step, objective_step
from kalmanssl.datasets.images import Images
from kalmanssl.errors import CollapseError, DivergenceError
from kalmanssl.images import PairAugmentation, ResNet18, SmallConvEncoder, image_features
from kalmanssl.models import PairModel
from kalmanssl.probes import effective_dimension, knn_probe, linear_probe
from kalmanssl.training import PairBatches, train

__all__ = ["backbone_of", "fastest_device", "keep_features", "run", "scored", "thinned", "validated"]

POINTS = 64  # of a spectrum that are kept
PICTURED = 1000  # test images whose features are kept for the map
HELD_OUT = 5  # every so many-th training image is left to choose settings by


def backbone_of(
    encoder: str, images: Images, features: int, seed: int, stem: str = "cifar"
) -> ResNet18 | SmallConvEncoder:
    """Make the encoder of a preset for these images."""
    channels, size = images.images.shape[1], images.images.shape[-1]
    if encoder == "resnet18":
        return ResNet18(channels, stem, random_state=seed)
    return SmallConvEncoder(channels, size, features, random_state=seed)


def fastest_device() -> str:
    """Where networks are trained and applied."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def scored(train_x: np.ndarray, train_images: Images, test_x: np.ndarray, test_images: Images) -> Row:
    """Score features by what two probes read from them, fitted on training and scored on test images."""
    y, y_test = train_images.labels, test_images.labels
    return {
        "linear_probe": linear_probe(train_x, y, test_x, y_test).top1,
        "knn_probe": knn_probe(train_x, y, test_x, y_test).top1,
    }


def validated(x: np.ndarray, images: Images) -> float:
    """Score features, without test images, by the linear probe of four fifths of them on the rest."""
    assert images.labels is not None
    kept = np.arange(len(x)) % HELD_OUT > 0
    return linear_probe(x[kept], images.labels[kept], x[~kept], images.labels[~kept]).top1


def thinned(spectrum: np.ndarray) -> list[list[float]]:
    """Return some of the eigenvalues, each with its number from 1 on, closer at the beginning."""
    chosen = np.unique(np.geomspace(1, len(spectrum), POINTS).round().astype(int))
    return [[int(n), float(f"{spectrum[n - 1]:.4g}")] for n in chosen]


def run(
    one: Combination,
    preset: Preset,
    seed: int,
    out: Path,
    data: Path | None = None,
    say: Callable[[Row], None] | None = None,
) -> Row:
    """Train one combination and measure it.

    Parameters
    ----------
    one : Combination
    preset : Preset
    seed : int
        Of the weights, the augmentations and the order of the images.
    out : Path
        Folder of the results; decoded images are kept there, and features of test images of the first seed.
    data : Path, optional
        Zip or folder of the images.
    say : callable, optional
        Called after each epoch with a row that has `step` and `steps`.

    Returns
    -------
    dict
        `combination`, `seed`, and what was measured or `failed` with the reason.
    """
    row: Row = {"part": "combinations", "combination": one.name, "seed": seed}
    images, test = load(preset.data, preset.train, preset.test, out, data)
    recipe = preset.recipe(one)
    mean, std = images.moments()
    device = fastest_device()
    augment = PairAugmentation(preset.augmentation or recipe.augmentation, mean=mean, std=std).to(device)
    backbone = backbone_of(preset.encoder, images, preset.features, seed)
    model = recipe.build(backbone, backbone.n_features, random_state=seed)
    pixels = torch.from_numpy(images.images).to(device)
    batches = PairBatches(len(images), lambda chosen: augment(pixels[chosen]), preset.batch, seed)
    partner = COMBINATIONS.get(one.partner or "")
    watch = None if partner is None else CosineWatch(model, preset.recipe(partner), batches.sample(), preset.epochs)
    history: dict[str, list[float]] = {}

    def look(epoch: int) -> None:
        if watch is not None:
            watch.look(epoch)
        if say is not None:
            say({**row, "step": epoch, "steps": preset.epochs})

    look(0)
    began = time.process_time()
    try:
        train(model, batches, preset.training(recipe), history, seed=seed, progress=False, on_epoch_end=look)
    except (CollapseError, DivergenceError) as error:
        return row | {"failed": f"{type(error).__name__}: {error}", "loss": history.get("loss", [])}
    row["fit_s"] = time.process_time() - began
    row |= {name: [float(f"{v:.6g}") for v in history[name]] for name in ("loss", "alignment")}
    row["gradient_cosine"] = None if watch is None else watch.found
    model.eval().to(device)
    features, test_features = (image_features(model.backbone, some, augment) for some in (images, test))
    row |= scored(features, images, test_features, test) | {"validation": validated(features, images)}
    row |= _shape(image_features(model, test, augment))
    row |= _cost(model.cpu(), recipe.dim, batches)
    if seed == 0:
        keep_features(out, one.name, test_features, test)
    return row


def keep_features(out: Path, name: str, features: np.ndarray, images: Images) -> None:
    """Keep features of some test images, for the map on the page."""
    folder = out / "features"
    folder.mkdir(exist_ok=True)
    chosen = np.random.default_rng(0).permutation(len(features))[:PICTURED]
    labels = np.array(images.classes)[images.labels[chosen]]
    np.savez_compressed(folder / f"{name}.npz", features=features[chosen].astype(np.float32), labels=labels)


def _shape(latents: np.ndarray) -> Row:
    filled = effective_dimension(latents)
    return {
        "effective_dimension": filled.above_threshold,
        "above_share": filled.above_share,
        "participation_ratio": filled.participation_ratio,
        "spectrum": thinned(filled.spectrum),
    }


def _cost(model: PairModel, dim: int, batches: PairBatches) -> Row:
    """CPU seconds of a step, of the encoder (both views, forward and backward) and of the objective on its latents."""
    both = torch.cat(batches.sample()).cpu()
    encoder = cpu_step(lambda: model.backbone(both).square().mean(), list(model.backbone.parameters()))
    return {"encoder_step_s": encoder, "objective_step_s": objective_step(model, dim, batches.batch_size)}
