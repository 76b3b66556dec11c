"""Recipes of published methods on pairs, and the search for them by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kalmanssl.entropy import PublishedLogDetEntropy, StopGradientEntropy, make_entropy
from kalmanssl.errors import InputError
from kalmanssl.models import Categories, Euclidean, Simplex, Sphere
from kalmanssl.recipes._recipe import Recipe, check_momentum
from kalmanssl.utils.validation import (
    check_bool,
    check_integer,
    check_positive,
    unknown_name_error,
)

__all__ = [
    "RECIPES",
    "byol",
    "categorical",
    "cpc",
    "euclidean_kde",
    "euclidean_knn",
    "euclidean_logdet",
    "jepa",
    "make_recipe",
    "simclr",
    "simplex_kde",
    "simsiam",
    "sphere_kde",
    "sphere_knn",
    "sphere_logdet",
    "vicreg",
    "vicreg_ldm",
]


def _check(dim: int, least: int = 1, mutual_information: bool = False, **positive: float) -> None:
    """Check the settings of a recipe under their names in its signature."""
    check_integer("dim", dim, least)
    check_bool("mutual_information", mutual_information)
    for name, value in positive.items():
        check_positive(name, value)


def euclidean_kde(dim: int = 2048, mutual_information: bool = False, precision: float = 5.0) -> Recipe:
    """Gaussian pairs in Euclidean space, Gaussian kernels: contrastive.

    If all latents lie within one kernel before training, they first separate along one direction, which can look like a
    collapse. A larger precision makes the kernel narrower and otherwise changes only the scale of the latents.
    """
    _check(dim, 1, mutual_information, precision=precision)
    # The same width per coordinate for latents and for pairs, which have twice as many coordinates.
    width = (dim / (2 * precision) * (1 if mutual_information else 2)) ** 0.5
    entropy = make_entropy("kde", bandwidth=width)
    return Recipe(
        "Euclidean, kernel density", Euclidean.from_precision(precision, dim), entropy, dim, mutual_information,
        augmentation="euclidean",
    )  # fmt: skip


def euclidean_knn(dim: int = 2048, mutual_information: bool = False) -> Recipe:
    """Gaussian pairs in Euclidean space, nearest neighbors; the variance determines only the scale of the latents."""
    _check(dim, 1, mutual_information)
    model = Euclidean(0.04 if mutual_information else 0.02)
    return Recipe(
        "Euclidean, nearest neighbors", model, make_entropy("knn"), dim, mutual_information, augmentation="euclidean"
    )


def euclidean_logdet(dim: int = 2048, mutual_information: bool = False) -> Recipe:
    """Gaussian pairs in Euclidean space, log-determinant expanded in the correlations, in nats, without a hinge."""
    _check(dim, 1, mutual_information)
    entropy = make_entropy("logdet", expansion=True)
    model = Euclidean(0.04 if mutual_information else 0.02)
    return Recipe(
        "Euclidean, log-determinant", model, entropy, dim, mutual_information,
        hidden=(2048, 2048), batch_norm=True, augmentation="euclidean",
    )  # fmt: skip


def vicreg(dim: int = 2048) -> Recipe:
    """VICReg (Bardes et al. 2022, arXiv 2105.04906), coefficients 25, 25, 1."""
    _check(dim)
    return Recipe(
        "VICReg", Euclidean.from_precision(25.0, dim), make_entropy("vicreg"), dim, mutual_information=True,
        hidden=(2048, 2048), batch_norm=True, augmentation="euclidean",
    )  # fmt: skip


def vicreg_ldm(dim: int = 2048) -> Recipe:
    """VICReg without mutual information: the covariance of both views together (LDM paper's code: 25, 17.5, 0.75)."""
    _check(dim)
    entropy = make_entropy("vicreg", variance=17.5, covariance=0.75, pooled_dim=dim)
    return Recipe(
        "VICReg-LDM", Euclidean.from_precision(25.0, dim), entropy, dim,
        hidden=(2048, 2048), batch_norm=True, augmentation="euclidean",
    )  # fmt: skip


def sphere_kde(dim: int = 256, mutual_information: bool = False, concentration: float = 5.0) -> Recipe:
    """Von Mises-Fisher pairs on the sphere, kernels of the same kind: contrastive (LDM paper, Eq. 47 and 48)."""
    _check(dim, 2, mutual_information, concentration=concentration)
    entropy = make_entropy("kde", "sphere", dim, concentration=concentration)
    return Recipe("sphere, kernel density", Sphere(concentration), entropy, dim, mutual_information)


def sphere_knn(dim: int = 256, mutual_information: bool = False, precision: float = 5.0) -> Recipe:
    """Von Mises-Fisher pairs on the sphere, nearest neighbors."""
    _check(dim, 2, mutual_information, precision=precision)
    model = Sphere((dim - 1) * precision * (1 if mutual_information else 2))
    return Recipe("sphere, nearest neighbors", model, make_entropy("knn", "sphere", dim), dim, mutual_information)


def sphere_logdet(
    dim: int = 256, mutual_information: bool = False, precision: float = 5.0, reference_bugs: bool = False
) -> Recipe:
    """Von Mises-Fisher pairs on the sphere, log-determinant of the covariance in the ambient space.

    It is not an entropy on the sphere, but it increases as the latents become more uniform.

    With `reference_bugs` the loss is that of the paper's published code, see `PublishedLogDetEntropy`.
    """
    _check(dim, 2, mutual_information, precision=precision)
    check_bool("reference_bugs", reference_bugs)
    if reference_bugs:
        return Recipe(
            "sphere, log-determinant as in the published code", Sphere(precision), PublishedLogDetEntropy(dim), dim,
            mutual_information,
        )  # fmt: skip
    entropy = make_entropy("logdet", "sphere", expansion=True)
    return Recipe("sphere, log-determinant", Sphere(0.5 * dim * precision), entropy, dim, mutual_information)


def simplex_kde(dim: int = 256, mutual_information: bool = False, precision: float = 20.0) -> Recipe:
    """Dirichlet pairs on the simplex, Dirichlet kernels, similar to DINO (LDM paper, Eq. 49 to 51)."""
    _check(dim, 2, mutual_information, precision=precision)
    entropy = make_entropy("kde", "simplex", dim, precision=precision)
    return Recipe("simplex, kernel density", Simplex(precision), entropy, dim, mutual_information)


def simclr(dim: int = 256, temperature: float = 0.2) -> Recipe:
    """SimCLR's NT-Xent (Chen et al. 2020, arXiv 2002.05709): leave-one-out kernel density of both views."""
    _check(dim, 2, temperature=temperature)
    entropy = make_entropy("kde", "sphere", dim, concentration=1 / temperature, leave_one_out=True)
    return Recipe(
        "SimCLR", Sphere(1 / temperature), entropy, dim, mutual_information=True, prior="empirical", pool_views=True
    )


def cpc(dim: int = 256, temperature: float = 0.2) -> Recipe:
    """Contrastive predictive coding on pairs (van den Oord et al. 2018, arXiv 1807.03748), with a predictor."""
    _check(dim, 2, temperature=temperature)
    entropy = make_entropy("kde", "sphere", dim, concentration=1 / temperature)
    return Recipe(
        "CPC", Sphere(1 / temperature), entropy, dim, mutual_information=True, prior="empirical", predictor=512
    )


def byol(dim: int = 256, momentum: float = 0.99) -> Recipe:
    """BYOL (Grill et al. 2020, arXiv 2006.07733): squared distance of directions, moving-average target."""
    _check(dim, 2)
    check_momentum(momentum)
    return Recipe(
        "BYOL", Sphere(2.0), StopGradientEntropy(), dim, prior="empirical", momentum=momentum,
        hidden=(4096,), batch_norm=True, predictor=4096, augmentation="asymmetric", weight_decay=1e-5,
    )  # fmt: skip


def simsiam(dim: int = 2048) -> Recipe:
    """SimSiam (Chen & He 2021, arXiv 2011.10566): cosine of directions, without a moving average."""
    _check(dim, 2)
    return Recipe(
        "SimSiam", Sphere(1.0), StopGradientEntropy(), dim, prior="empirical",
        hidden=(2048, 2048), batch_norm=True, output_norm=True, predictor=512, constant_predictor_lr=True,
        augmentation="weak", weight_decay=1e-5,
    )  # fmt: skip


def jepa(dim: int = 256, momentum: float = 0.99) -> Recipe:
    """JEPA on pairs (Assran et al. 2023, arXiv 2301.08243): a predictor in Euclidean space, moving-average target.

    The momentum rises as in BYOL; in the publication it rises linearly.
    """
    _check(dim)
    check_momentum(momentum)
    return Recipe(
        "JEPA", Euclidean(0.5), StopGradientEntropy(), dim, prior="empirical", momentum=momentum,
        batch_norm=True, predictor=512,
    )  # fmt: skip


def categorical(
    dim: int = 10, mutual_information: bool = False, match_probability: float = 0.8, final: float | None = 0.992
) -> Recipe:
    """One of `dim` categories, the same in both views with some probability (LDM paper, Eq. 79 to 82, Fig. A8).

    Small networks that start at a match probability of 0.8 leave some categories empty. They do not with a start at 0.3
    and batch normalization, but with mutual information two classes can share a category even then.
    """
    _check(dim, 2, mutual_information)
    model = Categories(dim, match_probability, final)
    return Recipe(
        "categories", model, make_entropy("categorical", "categories", dim), dim, mutual_information, hidden=(128,),
        weight_decay=0.02,
    )  # fmt: skip


RECIPES: dict[str, Callable[..., Recipe]] = {
    make.__name__: make
    for make in (
        euclidean_kde, euclidean_knn, euclidean_logdet, vicreg, vicreg_ldm, sphere_kde, sphere_knn, sphere_logdet,
        simplex_kde, simclr, cpc, byol, simsiam, jepa, categorical,
    )
}  # fmt: skip
"""Recipes by name."""


def make_recipe(name: str, **settings: Any) -> Recipe:
    """Return the recipe of that name.

    Raises
    ------
    InputError
        If there is no recipe of that name, or it has no such setting.
    """
    if not isinstance(name, str) or name not in RECIPES:
        raise unknown_name_error("recipe", name, RECIPES)
    try:
        return RECIPES[name](**settings)
    except TypeError as error:
        raise InputError(f"recipe {name!r}: {error}") from error
