"""Categories from pairs of images of one class, with and without mutual information (LDM paper, Fig. A8, A9)."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results_store import Row
from torch import Tensor

from images.data import load
from images.experiment import backbone_of, best_device
from images.presets import CategoryPlan
from kalmanssl.datasets import ClassPairs, Images
from kalmanssl.errors import CollapseError, DivergenceError
from kalmanssl.images import PairAugmentation, image_features
from kalmanssl.probes import entropy_bits, match_categories
from kalmanssl.recipes import categorical
from kalmanssl.training import PairBatches, TrainingSettings, train

__all__ = ["CATEGORIES", "pair_batches", "run"]

# Arguments of the recipe. Both images of a pair always have the same class: a match probability of 0.992 is nearly
# right, and 0.8 is misspecified.
CATEGORIES: dict[str, dict[str, Any]] = {
    "categories": {"final": 0.992},
    "categories + MI": {"mutual_information": True, "final": 0.992},
    "categories + MI, match 0.8": {"mutual_information": True, "final": 0.8},
}
FEATURES = 64  # of the small encoder
N_EXAMPLES = 12  # most certain and most uncertain images on the page


def pair_batches(images: Images, pixels: Tensor, plan: CategoryPlan, seed: int) -> PairBatches:
    """Return batches of pairs of two different images of one class; the class is drawn uniformly."""
    pairs = ClassPairs(images, seed)

    def draw(chosen: Tensor) -> tuple[Tensor, Tensor]:
        # The pairs come from the random stream of the batch, not from the indices: there are more pairs than images.
        rows = torch.from_numpy(pairs.draw(len(chosen), number=int(torch.randint(2**31, ()))))
        return pixels[rows[:, 0]], pixels[rows[:, 1]]

    return PairBatches(plan.pairs, draw, plan.batch, seed)


def run(name: str, plan: CategoryPlan, seed: int, out: Path) -> Row:
    """Train one of `CATEGORIES` and compare its categories with the classes.

    Returns
    -------
    dict
        `part`, `combination`, `seed`, `accuracy` on test images after greedy matching, `optimal_accuracy`, `confusion`
        with matched categories on the diagonal, `entropy_bits` (deciles over test images) and examples.
    """
    row: Row = {"part": "categories", "combination": name, "seed": seed}
    images, test = load(plan.data, plan.train, plan.test, out)
    mean, std = images.moments()
    device, size = best_device(), 32 if plan.encoder == "resnet18" else None
    augment = PairAugmentation("tiny", size=size, mean=mean, std=std).to(device)
    pixels = augment.eval_transform(torch.from_numpy(images.images).to(device))
    recipe = categorical(len(images.classes), match_probability=plan.start, **CATEGORIES[name])
    recipe = replace(recipe, batch_norm=plan.batch_norm)
    backbone = backbone_of(plan.encoder, images, FEATURES, seed, stem="standard")
    model = recipe.build(backbone, backbone.n_features, random_state=seed)
    batches = pair_batches(images, pixels, plan, seed)
    history: dict[str, list[float]] = {}
    settings = TrainingSettings(plan.epochs, plan.rate, weight_decay=recipe.weight_decay, schedule=plan.schedule)
    start = time.process_time()
    try:
        train(model, batches, settings, history, seed=seed, device=device, progress=False)
    except (CollapseError, DivergenceError) as error:
        return row | {"failed": f"{type(error).__name__}: {error}"}
    row |= {"fit_s": time.process_time() - start, "loss": [float(f"{v:.6g}") for v in history["loss"]]}
    probabilities = image_features(model.to(device), test, augment)
    match = match_categories(probabilities, np.array(test.classes)[test.labels])
    bits = entropy_bits(probabilities)
    order = np.argsort(bits, kind="stable")
    shown = np.concatenate([order[:N_EXAMPLES], order[::-1][:N_EXAMPLES]])
    return row | {
        "accuracy": match.greedy_accuracy,
        "optimal_accuracy": match.optimal_accuracy,
        "used": int((match.confusion.sum(1) > 0).sum()),
        "confusion": match.confusion[np.argsort(match.optimal)].tolist(),
        "classes": match.classes.tolist(),
        "entropy_bits": np.quantile(bits, np.linspace(0, 1, 11)).round(4).tolist(),
        "mean_entropy_bits": float(bits.mean()),
        "examples": {
            "bits": bits[shown].round(3).tolist(),
            "images": test.images[shown].mean(1).round().astype(int).tolist(),
        },
    }
