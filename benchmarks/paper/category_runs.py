"""Categories from pairs of digits of one class, with the published start and others, and mutual information alone."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from images.categories import FEATURES, pair_batches
from images.data import find_images, load_digits
from images.experiment import backbone_of, best_device
from images.presets import PRESETS, CategoryPlan
from parallel import Logger
from results_store import Row
from torch import Tensor

from kalmanssl.datasets import Images
from kalmanssl.entropy import CategoricalEntropy
from kalmanssl.images import PairAugmentation, image_features
from kalmanssl.models import PairModel, Terms
from kalmanssl.probes import CategoryMatching, entropy_bits, knn_probe, match_categories
from kalmanssl.recipes import categorical
from kalmanssl.training import TrainingSettings, train
from paper.item import Part

__all__ = ["OBJECTIVES", "RESNET", "SMALL", "STARTS", "PureInformation", "category_measures", "category_part"]

OBJECTIVES: dict[str, dict[str, Any]] = {
    "LDM, match 0.992": {"final": 0.992},
    "LDM + MI, match 0.992": {"final": 0.992, "mutual_information": True},
    "LDM + MI, match 0.8": {"final": 0.8, "mutual_information": True},
    "mutual information alone": {"final": 0.992},
}
STARTS = {
    "published start": {"start": 0.8, "batch_norm": False},
    "our start": {"start": 0.3, "batch_norm": True},
}
"""Match probability at the start of the annealing, and whether the projector normalizes over the batch."""

RESNET = "published start, ResNet-18 on MNIST"
"""The published experiment; in `quick` with a sixth of the steps, half the batch and three times the learning rate."""

PLANS = {
    "tiny": PRESETS["tiny"].categories,
    "quick": PRESETS["digits"].categories,
    "full": PRESETS["cifar"].categories,
}
_PUBLISHED = replace(PLANS["full"], rate=3e-5, schedule="constant")
RESNET_PLANS = {
    "tiny": replace(PLANS["tiny"], encoder="resnet18", pairs=64, epochs=1, batch=32, schedule="constant"),
    "quick": replace(_PUBLISHED, pairs=19200, epochs=8, batch=128, rate=1e-4),
    "full": _PUBLISHED,
}
SMALL = {
    f"small encoder on MNIST, start {start:g}, {text} normalization": {"start": start, "batch_norm": batch_norm}
    for start, batch_norm, text in (
        (0.3, True, "with"),
        (0.5, True, "with"),
        (0.65, True, "with"),
        (0.8, True, "with"),
        (0.3, False, "without"),
        (0.8, False, "without"),
    )
}
"""The published experiment with the small encoder, by start of the annealing and normalization over the batch."""

SMALL_SEEDS = {True: 3, False: 2}  # with and without normalization
SMALL_PLANS = {
    "tiny": replace(PLANS["tiny"], schedule="constant"),
    "quick": replace(_PUBLISHED, encoder="small", pairs=9600, epochs=8, batch=128, rate=3e-3),
    "full": replace(_PUBLISHED, encoder="small", rate=3e-3),
}
N_REFERENCE, N_PROBED = 300, 100  # images of each class for the nearest-neighbor probe: training and test


class PureInformation(PairModel):
    """Maximizes the mutual information of both categories, 2 H[c] - H[c, c'], without a latent model."""

    def terms(self, pair: tuple[Tensor, Tensor]) -> Terms:
        """Evaluate the objective on a batch of pairs."""
        first, second = self(torch.cat(pair)).chunk(2)
        entropy = CategoricalEntropy(first.shape[1])
        single = entropy(first) + entropy(second)
        return Terms(-entropy(torch.cat([first, second], 1)), single)


def category_part(objective: str, start: str) -> Part:
    """Return the part that trains with one of `OBJECTIVES` from one of `STARTS`, `SMALL` or `RESNET`."""
    plans = {preset: _plan(preset, start) for preset in PLANS}

    def run(preset: str, seed: int, logger: Logger | None) -> Row:
        return _run(objective, plans[preset], seed)

    settings = {preset: asdict(plan) for preset, plan in plans.items()}
    seeds = 1 if start == RESNET else SMALL_SEEDS[SMALL[start]["batch_norm"]] if start in SMALL else None
    return Part(f"categories: {objective}, {start}", run, settings, seeds=seeds, long=start == RESNET)


def _plan(preset: str, start: str) -> CategoryPlan:
    if start in SMALL:
        return replace(SMALL_PLANS[preset], **SMALL[start])
    if start == RESNET:
        return replace(RESNET_PLANS[preset], **STARTS["published start"])
    return replace(PLANS[preset], **STARTS[start])


@cache
def _images(name: str) -> tuple[Images, Images]:
    """Return training and test images; they are decoded once in a process."""
    path = find_images(name)
    return Images.from_folder(path, "train"), Images.from_folder(path, "test")


def _run(objective: str, plan: CategoryPlan, seed: int) -> Row:
    """Train, and compare the categories with the classes of test images."""
    images, test = load_digits(plan.train, plan.test) if plan.data == "digits" else _images(plan.data)
    mean, std = images.moments()
    device, size = best_device(), 32 if plan.encoder == "resnet18" else None
    augment = PairAugmentation("tiny", size=size, mean=mean, std=std).to(device)
    pixels = augment.eval_transform(torch.from_numpy(images.images).to(device))
    recipe = replace(
        categorical(len(images.classes), match_probability=plan.start, **OBJECTIVES[objective]),
        batch_norm=plan.batch_norm,
    )
    backbone = backbone_of(plan.encoder, images, FEATURES, seed, stem="standard")
    model = recipe.build(backbone, backbone.n_features, random_state=seed)
    if objective == "mutual information alone":
        model = PureInformation(model.backbone, model.projector, model.latent_model, model.objective)
    settings = TrainingSettings(plan.epochs, plan.rate, weight_decay=recipe.weight_decay, schedule=plan.schedule)
    probed = test.subset(N_PROBED)
    curve: list[list[float]] = []

    def on_epoch_end(epoch: int) -> None:
        found = image_features(model, probed, augment)
        curve.append([float(entropy_bits(found).mean()), _match(found, probed).greedy_accuracy])

    batches = pair_batches(images, pixels, plan, seed)
    train(model, batches, settings, {}, seed=seed, device=device, progress=False, on_epoch_end=on_epoch_end)
    model.to(device)
    reference = images.subset(N_REFERENCE)
    features, probed_features = (image_features(model.backbone, part, augment) for part in (reference, probed))
    knn = knn_probe(features, reference.labels, probed_features, probed.labels).top1
    return category_measures(image_features(model, test, augment), test, curve) | {"knn": knn}


def _match(probabilities: np.ndarray, images: Images) -> CategoryMatching:
    return match_categories(probabilities, np.array(images.classes)[images.labels])


def category_measures(probabilities: np.ndarray, test: Images, curve: list[list[float]]) -> Row:
    """Return the measures of the probabilities of categories of test images (images, categories).

    `effective` is the number of categories whose uniform distribution has the entropy of the mean distribution.
    `curve` has the mean entropy of an image (bits) and the accuracy after each epoch.
    """
    match, bits = _match(probabilities, test), entropy_bits(probabilities)
    confusion = match.confusion[np.argsort(match.optimal)].tolist()
    return {
        "accuracy": match.greedy_accuracy,
        "optimal_accuracy": match.optimal_accuracy,
        "used": float((match.confusion.sum(1) > 0).sum()),
        "effective": float(2 ** entropy_bits(probabilities.mean(0)[None])[0]),
        "mean_bits": float(bits.mean()),
        "bits_90": float(np.quantile(bits, 0.9)),
        "drawn": {"confusion": confusion, "classes": match.classes.tolist(), "curve": curve},
    }
