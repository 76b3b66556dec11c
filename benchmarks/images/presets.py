"""How large everything is: which images, which encoder, how long it trains."""

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
    """The experiment with categories.

    Attributes
    ----------
    data : {"digits", "mnist"}
    train, test : int or None
        Images of each class; None for all.
    encoder : {"small", "resnet18"}
    pairs : int
        Drawn in an epoch.
    epochs, batch : int
    rate : float
    start : float
        Probability of a match that the annealing begins with. From the published 0.8 a small encoder that trains for
        minutes finds three to seven of ten categories; from 0.3 it has found all of them before matches are certain.
    batch_norm : bool
        Of the projector; the published one has none.
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


@dataclass(frozen=True)
class Preset:
    """The comparison of combinations.

    Attributes
    ----------
    data : {"digits", "cifar10"}
    train, test : int or None
        Images of each class; None for all.
    encoder : {"small", "resnet18"}
    features : int
        Of the encoder.
    dims : mapping
        Dimension of the latents by their space; those of BYOL, SimSiam and SimCLR are of the sphere.
    hidden : int or None
        Width of the hidden layers of projectors and, where there is one, the predictor; None for the recipe's.
    batch, epochs : int
    rate : float
        Of AdamW, that of the encoder at its highest.
    weight_decay : float or None
        Of AdamW; None for the one that the recipe was published with.
    augmentation : str or None
        A name in `kalmanssl.images.AUGMENTATIONS`; None for the one that the recipe was published with.
    adapted : mapping
        By name of the combination, settings of its recipe that differ from the published ones.
    categories : CategoryPlan
    seeds : int
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

    def recipe(self, one: Combination) -> Recipe:
        """Return the recipe of a combination at this size."""
        made = one.make(**{"dim": self.dims[one.space], **self.adapted.get(one.name, {})})
        if self.hidden is None:
            return made
        predictor = None if made.predictor is None else self.hidden
        return replace(made, hidden=(self.hidden,) * len(made.hidden), predictor=predictor)

    def training(self, recipe: Recipe) -> TrainingSettings:
        """Return how a recipe is trained, all of them alike but for the weight decay, where it is theirs."""
        decay = recipe.weight_decay if self.weight_decay is None else self.weight_decay
        return TrainingSettings(self.epochs, self.rate, weight_decay=decay)


# All latents begin within one published kernel (precision 5), repel one another along one direction only, and those of
# the first epochs are taken for collapsed. The precision of both model and kernel is the scale of the latents alone.
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
    "cifar-small": Preset(
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
        augmentation="euclidean",  # with the stronger set a run this short learns less
        adapted=_NARROW,
        categories=CategoryPlan("mnist", None, None, "small", pairs=30720, epochs=40, batch=128, rate=5e-3),
    ),
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
"""tiny shows that it runs; cifar has the paper's sizes and epochs and wants a GPU."""
