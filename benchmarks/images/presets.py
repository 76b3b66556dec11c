"""Presets: the images, the encoder and the length of the training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from images.combinations import Combination
from kalmanssl.recipes import Recipe
from kalmanssl.training import TrainingSettings

__all__ = ["PRESETS", "CategoryPlan", "Preset"]


@dataclass(frozen=True)
class CategoryPlan:
    """Settings of the experiment with categories.

    Attributes
    ----------
    data : {"digits", "mnist"}
    train, test : int or None
        Images of each class; None for all.
    encoder : {"small", "resnet18"}
    pairs : int
        Number of pairs drawn in an epoch.
    epochs, batch : int
    rate : float
        Peak learning rate.
    start : float
        Match probability at the start of the annealing. From the published 0.8, a small encoder that trains for minutes
        finds three to seven of ten categories; from 0.3 it finds all of them.
    batch_norm : bool
        Whether the projector has batch normalization; the published one does not.
    schedule : {"cosine", "constant"}
        Schedule of the learning rate; the published one is constant.
    """

    data: str
    train: int | None
    test: int | None
    encoder: str
    pairs: int
    epochs: int
    batch: int
    rate: float
    start: float = 0.3
    batch_norm: bool = True
    schedule: str = "cosine"


@dataclass(frozen=True)
class Preset:
    """Settings of the comparison of combinations.

    Attributes
    ----------
    data : {"digits", "cifar10"}
    train, test : int or None
        Images of each class; None for all.
    encoder : {"small", "resnet18"}
    features : int
        Number of features of the encoder.
    dims : mapping
        Dimension of the latents for each space; BYOL, SimSiam and SimCLR have that of the sphere.
    hidden : int or None
        Width of the hidden layers of the projector and the predictor; None for that of the recipe.
    batch, epochs : int
    rate : float
        Peak learning rate of the encoder (AdamW).
    weight_decay : float or None
        Weight decay of AdamW; None for that of the recipe.
    augmentation : str or None
        A name in `kalmanssl.images.AUGMENTATIONS`; None for that of the recipe.
    adapted : mapping
        Arguments of recipes that differ from the published ones, by the name of the combination.
    categories : CategoryPlan
    seeds : int
        Number of seeds.
    """

    data: str
    train: int | None
    test: int | None
    encoder: str
    features: int
    dims: Mapping[str, int]
    hidden: int | None
    batch: int
    epochs: int
    rate: float
    augmentation: str | None
    categories: CategoryPlan
    weight_decay: float | None = 1e-4
    adapted: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seeds: int = 1

    def arguments(self, one: Combination) -> dict[str, Any]:
        """Return the arguments of the recipe of a combination at this size."""
        return {**one.settings, "dim": self.dims[one.space], **self.adapted.get(one.name, {})}

    def recipe(self, one: Combination) -> Recipe:
        """Return the recipe of a combination at this size."""
        made = one.make(**self.arguments(one))
        if self.hidden is None:
            return made
        predictor = None if made.predictor is None else self.hidden
        return replace(made, hidden=(self.hidden,) * len(made.hidden), predictor=predictor)

    def training(self, recipe: Recipe) -> TrainingSettings:
        """Return the training settings of a recipe."""
        decay = recipe.weight_decay if self.weight_decay is None else self.weight_decay
        return TrainingSettings(self.epochs, self.rate, weight_decay=decay)


# With the published precision of 5, all latents start within the width of one kernel and repel one another along one
# direction only, so that the first epochs look like a collapse. The precision sets the scale of the latents and nothing
# else.
_NARROW = {name: {"precision": 100.0} for name in ("Euclidean KDE", "Euclidean KDE + MI")}

_DIGITS = Preset(
    data="digits",
    train=None,
    test=None,
    encoder="small",
    features=64,
    dims={"euclidean": 128, "sphere": 64, "simplex": 64},
    hidden=256,
    batch=128,
    epochs=60,
    rate=2e-3,
    augmentation="tiny",
    adapted=_NARROW,
    categories=CategoryPlan("digits", None, None, "small", pairs=2560, epochs=30, batch=128, rate=2e-3),
)

_CIFAR_SMALL = Preset(
    data="cifar10",
    train=None,
    test=None,
    encoder="small",
    features=128,
    dims={"euclidean": 256, "sphere": 128, "simplex": 128},
    hidden=512,
    batch=128,
    epochs=12,
    rate=4e-3,
    augmentation="euclidean",  # the stronger set is worse in a training this short
    adapted=_NARROW,
    categories=CategoryPlan("mnist", None, None, "small", pairs=30720, epochs=40, batch=128, rate=5e-3),
)

PRESETS: dict[str, Preset] = {
    "tiny": replace(
        _DIGITS,
        train=40,
        test=10,
        features=32,
        dims={"euclidean": 16, "sphere": 16, "simplex": 16},
        hidden=32,
        batch=128,
        epochs=3,
        categories=CategoryPlan("digits", 40, 10, "small", pairs=256, epochs=2, batch=64, rate=2e-3),
        seeds=1,
    ),
    "digits": _DIGITS,
    "cifar-small": _CIFAR_SMALL,
    "cifar-long": replace(_CIFAR_SMALL, epochs=36),
    "cifar": Preset(
        data="cifar10",
        train=None,
        test=None,
        encoder="resnet18",
        features=512,
        dims={"euclidean": 2048, "sphere": 256, "simplex": 256},
        hidden=None,
        batch=256,
        epochs=1000,
        rate=1e-3,
        augmentation=None,
        weight_decay=None,
        adapted={**_NARROW, "SimSiam": {"dim": 2048}},
        categories=CategoryPlan(
            "mnist", None, None, "resnet18", pairs=60000, epochs=30, batch=256, rate=1e-4, start=0.8, batch_norm=False
        ),
        seeds=5,
    ),
}
"""`tiny` is a test that everything runs; `cifar` has the sizes and epochs of the paper and needs a GPU."""
