"""Categories from pairs of digits of one class, with the published start and ours, and mutual information alone."""

from __future__ import annotations

from dataclasses import asdict, replace
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
from kalmanssl.probes import entropy_bits, match_categories
from kalmanssl.recipes import categorical
from kalmanssl.training import TrainingSettings, train
from paper.item import Part

__all__ = ["LONG", "OBJECTIVES", "RESNET", "STARTS", "PureInformation", "category_part"]

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

LONG = "published start, longer training"
LONGER = {"tiny": 2, "quick": 4, "full": 1}
"""Factor of the number of epochs, and of 1 / learning rate, of the start `LONG`; `full` has the published training."""

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


class PureInformation(PairModel):
    """Maximizes the mutual information of both categories, 2 H[c] - H[c, c'], without a latent model."""

    def terms(self, pair: tuple[Tensor, Tensor]) -> Terms:
        """Evaluate the objective on a batch of pairs."""
        first, second = self(torch.cat(pair)).chunk(2)
        entropy = CategoricalEntropy(first.shape[1])
        single = entropy(first) + entropy(second)
        return Terms(-entropy(torch.cat([first, second], 1)), single)


def category_part(objective: str, start: str) -> Part:
    """Return the part that trains with one of `OBJECTIVES` from one of `STARTS`, `LONG` or `RESNET` (one seed)."""
    plans = {preset: _plan(preset, start) for preset in PLANS}

    def run(preset: str, seed: int, logger: Logger | None) -> Row:
        return _run(objective, plans[preset], seed)

    settings = {preset: asdict(plan) for preset, plan in plans.items()}
    is_long = start == RESNET
    return Part(f"categories: {objective}, {start}", run, settings, seeds=None if start in STARTS else 1, long=is_long)


def _plan(preset: str, start: str) -> CategoryPlan:
    if start in STARTS:
        return replace(PLANS[preset], **STARTS[start])
    if start == RESNET:
        return replace(RESNET_PLANS[preset], **STARTS["published start"])
    plan, factor = replace(PLANS[preset], **STARTS["published start"]), LONGER[preset]
    return replace(plan, epochs=factor * plan.epochs, rate=plan.rate / factor)


def _run(objective: str, plan: CategoryPlan, seed: int) -> Row:
    """Train, and compare the categories with the classes of test images."""
    if plan.data == "digits":
        images, test = load_digits(plan.train, plan.test)
    else:
        path = find_images(plan.data)
        images, test = (Images.from_folder(path, split) for split in ("train", "test"))
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
    train(model, pair_batches(images, pixels, plan, seed), settings, {}, seed=seed, device=device, progress=False)
    probabilities = image_features(model.to(device), test, augment)
    match = match_categories(probabilities, np.array(test.classes)[test.labels])
    bits = entropy_bits(probabilities)
    return {
        "accuracy": match.greedy_accuracy,
        "optimal_accuracy": match.optimal_accuracy,
        "used": float((match.confusion.sum(1) > 0).sum()),
        "mean_bits": float(bits.mean()),
        "bits_90": float(np.quantile(bits, 0.9)),
        "drawn": {"confusion": match.confusion[np.argsort(match.optimal)].tolist(), "classes": match.classes.tolist()},
    }
