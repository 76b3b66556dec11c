"""Trainings on the digits of scikit-learn, one for each combination, measured over the epochs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from images.combinations import COMBINATIONS
from images.data import load_digits
from images.experiment import CombinationFit
from images.presets import PRESETS, Preset
from parallel import Logger
from results_store import Row
from torch import nn

from kalmanssl.datasets import Images
from kalmanssl.images import PairAugmentation, image_features
from kalmanssl.models import PairModel
from kalmanssl.probes import effective_dimension, knn_probe, linear_probe
from kalmanssl.utils.torch_ops import evaluating
from paper.item import Part

__all__ = ["EPOCHS", "digit_part", "jacobian_measures"]

PLANS: dict[str, Preset] = {
    "tiny": replace(PRESETS["tiny"], epochs=1),
    "quick": PRESETS["digits"],
    "full": PRESETS["digits"],
}
EPOCHS = {"tiny": (0, 1), "quick": (0, 2, 5, 10, 20, 40, 60), "full": (0, 2, 5, 10, 20, 40, 60)}
"""Epochs after which features are probed and the Jacobian is computed."""

N_JACOBIAN = 10  # images, as in the paper
RIDGE = 1e-6  # added to J J', as in the paper


def digit_part(name: str) -> Part:
    """Return the part that trains a combination on digits."""

    def run(preset: str, seed: int, logger: Logger | None) -> Row:
        return _run(name, PLANS[preset], EPOCHS[preset], seed, logger)

    settings = {
        preset: {"epochs": plan.epochs, "batch": plan.batch, "rate": plan.rate, "probed": EPOCHS[preset]}
        for preset, plan in PLANS.items()
    }
    return Part(f"digits: {name}", run, settings)


def _run(name: str, plan: Preset, epochs: tuple[int, ...], seed: int, logger: Logger | None) -> Row:
    """Train a combination; return flat numbers at the end, and curves over the epochs under `drawn`."""
    images, test = load_digits(plan.train, plan.test)
    fit = CombinationFit.of(COMBINATIONS[name], plan, images, seed)
    curves: dict[str, list[Any]] = {"probe": [], "rank": [], "log_det": [], "singular": []}

    def on_epoch_end(epoch: int) -> None:
        if epoch in epochs:
            _measure(fit.model, epoch, (images, test), fit.augment, curves)
        if logger is not None:
            logger({"step": epoch, "steps": plan.epochs})

    fit.train({}, on_epoch_end)
    row = _scores(fit.model, images, test, fit.augment)
    for entry in ("probe", "rank", "log_det"):
        row |= {f"{entry}_first": float(curves[entry][0][1]), f"{entry}_last": float(curves[entry][-1][1])}
    if fit.cosines is not None:
        row["cosine_last"] = float(fit.cosines.found[-1][1])
        curves["cosine"] = fit.cosines.found
    return row | {"drawn": curves}


def _measure(
    model: PairModel, epoch: int, parts: tuple[Images, Images], augment: PairAugmentation, curves: dict[str, list[Any]]
) -> None:
    """Add the accuracy of a linear probe and the measures of the Jacobian after an epoch."""
    features = [image_features(model.backbone, part, augment) for part in parts]
    score = linear_probe(features[0], parts[0].labels, features[1], parts[1].labels).top1
    curves["probe"].append([epoch, score])
    chosen = augment.eval_transform(torch.from_numpy(parts[1].images[:N_JACOBIAN]))
    found = jacobian_measures(nn.Sequential(model.backbone, model.projector), chosen)
    curves["rank"].append([epoch, found["rank"]])
    curves["log_det"].append([epoch, found["log_det"]])
    curves["singular"].append([epoch, [float(f"{value:.4g}") for value in found["singular"]]])


def jacobian_measures(network: nn.Module, images: torch.Tensor) -> Row:
    """Return rank, log-determinant and singular values of the Jacobian of a network, means over images.

    Parameters
    ----------
    network : nn.Module
        From images (images, ...) to latents (images, dims); it is evaluated, not trained.
    images : (images, ...)

    Returns
    -------
    dict
        `rank`: number of eigenvalues of J J' above 1e-6; `log_det`: log det(J J' + 1e-6); `singular`: geometric means
        of the singular values over images. Source: LDM paper, Fig. A2A, as its notebook computes it.
    """
    with evaluating(network):
        found = [
            torch.autograd.functional.jacobian(lambda x: network(x[None])[0], image).flatten(1).double()
            for image in images
        ]
    values = torch.stack([torch.linalg.svdvals(jacobian) for jacobian in found])
    missing = len(found[0]) - values.shape[1]  # eigenvalues that are zero because there are fewer pixels than dims
    log_det = (values.square() + RIDGE).log().sum(1) + missing * np.log(RIDGE)
    return {
        "rank": float((values.square() > RIDGE).sum(1).double().mean()),
        "log_det": float(log_det.mean()),
        "singular": values.clamp_min(1e-12).log().mean(0).exp().tolist(),
    }


def _scores(model: PairModel, images: Images, test: Images, augment: PairAugmentation) -> Row:
    """Return the accuracies of the probes on the features, and the dimensions of the latents."""
    x, x_test = (image_features(model.backbone, part, augment) for part in (images, test))
    linear = linear_probe(x, images.labels, x_test, test.labels)
    dimension = effective_dimension(image_features(model, test, augment))
    return {
        "top1": linear.top1,
        "top5": linear.top5,
        "knn": knn_probe(x, images.labels, x_test, test.labels).top1,
        "dimension": float(dimension.above_threshold),
        "dimension_share": float(dimension.above_share),
        "participation": dimension.participation_ratio,
    }
