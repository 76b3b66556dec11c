"""What is compared: the thirteen combinations of the paper's Table A1, ours in nats, and three known methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kalmanssl.recipes import Recipe, make_recipe
from kalmanssl.utils.validation import unknown_name

__all__ = ["COMBINATIONS", "Combination", "combination"]


@dataclass(frozen=True)
class Combination:
    """One row of the comparison.

    Attributes
    ----------
    name : str
    recipe : str
        In `kalmanssl.recipes.RECIPES`.
    settings : mapping
        Arguments of the recipe that make it this combination.
    published : float or None
        Accuracy of a linear probe on CIFAR-10 (ResNet-18, 1000 epochs), LDM paper, Table A1.
    partner : str or None
        The combination that differs from it by mutual information alone.
    """

    name: str
    recipe: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    published: float | None = None
    partner: str | None = None

    @property
    def space(self) -> str:
        """Where the latents live."""
        return self.make().latent_model.space

    def make(self, **settings: Any) -> Recipe:
        """Return the recipe with these settings besides."""
        return make_recipe(self.recipe, **{**self.settings, **settings})


def _pair(name: str, recipe: str, published: tuple[float, float] | None) -> tuple[Combination, Combination]:
    without, with_it = published or (None, None)
    informed = f"{name} + MI"
    return (
        Combination(name, recipe, {}, without, informed),
        Combination(informed, recipe, {"mutual_information": True}, with_it, name),
    )


COMBINATIONS: dict[str, Combination] = {
    one.name: one
    for one in (
        *_pair("Euclidean KDE", "euclidean_kde", (0.9187, 0.9209)),
        *_pair("Euclidean kNN", "euclidean_knn", (0.9207, 0.9189)),
        Combination("VICReg-LDM", "vicreg_ldm", {}, 0.9206, "VICReg"),
        Combination("VICReg", "vicreg", {}, 0.9194, "VICReg-LDM"),
        *_pair("Euclidean log-determinant", "euclidean_logdet", None),
        *_pair("sphere KDE", "sphere_kde", (0.9093, 0.9138)),
        *_pair("sphere kNN", "sphere_knn", (0.9022, 0.8996)),
        *_pair("sphere log-determinant", "sphere_logdet", (0.9141, 0.9120)),
        Combination("simplex KDE", "simplex_kde", {}, 0.9023),
        Combination("BYOL", "byol"),
        Combination("SimSiam", "simsiam"),
        Combination("SimCLR", "simclr"),
    )
}
"""All by name, each with mutual information after the one without."""


def combination(name: str) -> Combination:
    """Return the combination of that name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in COMBINATIONS:
        raise unknown_name("combination", name, COMBINATIONS)
    return COMBINATIONS[name]
