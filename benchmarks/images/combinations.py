"""The combinations that are compared: the thirteen of the paper's Table A1, two in nats, and three known methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kalmanssl.recipes import Recipe, make_recipe

__all__ = ["COMBINATIONS", "PARTNERS", "Combination"]


@dataclass(frozen=True)
class Combination:
    """One row of the comparison.

    Attributes
    ----------
    name : str
    recipe : str
        Name in `kalmanssl.recipes.RECIPES`.
    settings : mapping
        Arguments of the recipe.
    published : float or None
        Accuracy of a linear probe on CIFAR-10 (ResNet-18, 1000 epochs), LDM paper, Table A1.
    partner : str or None
        Name of the combination that differs in mutual information alone.
    """

    name: str
    recipe: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    published: float | None = None
    partner: str | None = None

    @property
    def space(self) -> str:
        """Space of the latents."""
        return self.make().latent_model.space

    def make(self, **settings: Any) -> Recipe:
        """Return the recipe with these further arguments."""
        return make_recipe(self.recipe, **{**self.settings, **settings})


def _pair(name: str, recipe: str, published: tuple[float, float] | None) -> tuple[Combination, Combination]:
    """Return a combination without and with mutual information."""
    without, with_it = published or (None, None)
    partner = f"{name} + MI"
    return (
        Combination(name, recipe, {}, without, partner),
        Combination(partner, recipe, {"mutual_information": True}, with_it, name),
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
"""All combinations by name; the one with mutual information follows the one without."""
PARTNERS = {
    name: one.partner
    for name, one in COMBINATIONS.items()
    if one.partner is not None and not one.make().mutual_information
}
"""Combination without mutual information, and its partner with it."""
