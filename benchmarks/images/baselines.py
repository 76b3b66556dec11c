"""Baselines for the features: random weights, principal components of the pixels, and the pixels themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from results_store import Row

from images.data import load
from images.experiment import backbone_of, best_device, probe_scores, save_features
from images.presets import Preset
from kalmanssl.datasets import Images
from kalmanssl.images import PairAugmentation, image_features

__all__ = ["BASELINES", "RANDOM", "run"]

RANDOM = "random weights"


def _random(preset: Preset, images: Images, test: Images, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features of an untrained encoder whose batch normalization has the averages of the training images."""
    mean, std = images.moments()
    device = best_device()
    augment = PairAugmentation("tiny", mean=mean, std=std).to(device)
    backbone = backbone_of(preset.encoder, images, preset.features, seed).to(device).train()
    for norm in (m for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.momentum = None  # a plain average over batches
    with torch.no_grad():
        for pixels in torch.from_numpy(images.images).split(512):
            backbone(augment.eval_transform(pixels.to(device)))
    return image_features(backbone, images, augment), image_features(backbone, test, augment)


def _components(preset: Preset, images: Images, test: Images, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return as many principal components of the pixels as the encoder has features."""
    from sklearn.decomposition import PCA

    x, x_test = _pixels(preset, images, test, seed)
    pca = PCA(min(preset.features, *x.shape), svd_solver="covariance_eigh" if x.shape[1] < 4000 else "randomized",
              random_state=seed).fit(x)  # fmt: skip
    return pca.transform(x), pca.transform(x_test)


def _pixels(preset: Preset, images: Images, test: Images, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels; their linear probe is logistic regression on the images."""
    x, x_test = (one.images.reshape(len(one), -1).astype(np.float32) / 255 for one in (images, test))
    return x, x_test


Features = Callable[[Preset, Images, Images, int], tuple[np.ndarray, np.ndarray]]
BASELINES: dict[str, Features] = {RANDOM: _random, "PCA of pixels": _components, "pixels": _pixels}


def run(name: str, preset: Preset, seed: int, out: Path, data: Path | None = None) -> Row:
    """Score one of `BASELINES`; the row is like that of `images.experiment.run`."""
    images, test = load(preset.data, preset.train, preset.test, out, data)
    features, test_features = BASELINES[name](preset, images, test, seed)
    if name == RANDOM and seed == 0:
        save_features(out, name, test_features, test)
    return {
        "part": "baselines",
        "combination": name,
        "seed": seed,
        **probe_scores(features, images, test_features, test),
    }
