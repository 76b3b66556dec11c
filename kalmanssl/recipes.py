"""Published methods of self-supervised learning on pairs, each a setting of one model.

    >>> from kalmanssl import recipes
    >>> print(recipes.byol())
    BYOL
      latent model           Sphere(concentration=2.0)
      entropy                StopGradientEntropy()
      prior                  empirical
      moving-average target  0.99, rising to 1
      predictor              4096, 256
      projector              4096, 256, batch norm

``recipes.simclr().build(backbone, n_features)`` makes the `PairModel`, which `kalmanssl.training.train` trains. To
change one thing of a recipe, replace it: ``dataclasses.replace(recipes.simclr(), hidden=(512,))``.

Constants are those of the LDM paper and its code for CIFAR-10 (section 4.2, appendix B), turned into nats: precisions
there go with means over coordinates, and with neighbor distances not multiplied by the dimension.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from kalmanssl.entropy import EntropyEstimator, PublishedLogDetEntropy, StopGradientEntropy, make_entropy
from kalmanssl.errors import InputError
from kalmanssl.models import LDM, Categories, Euclidean, PairLatentModel, PairModel, PriorKind, Simplex, Sphere
from kalmanssl.networks import mlp
from kalmanssl.utils.text import format_parts
from kalmanssl.utils.torch_ops import seeded
from kalmanssl.utils.validation import check_integer, check_positive, unknown_name_error

__all__ = [
    "RECIPES",
    "Recipe",
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


@dataclass(frozen=True)
class Recipe:
    """What a `PairModel` is made of, but for the backbone.

    Attributes
    ----------
    name : str
    latent_model : PairLatentModel
    entropy : EntropyEstimator or StopGradientEntropy
    dim : int
        Dimension of the latents.
    mutual_information : bool
    prior, momentum, pool_views, constant_predictor_lr
        See `PairModel`.
    hidden : tuple of int
        Widths of the projector's hidden layers (ReLU).
    batch_norm : bool
        Normalize each hidden layer of the projector over the batch.
    predictor : int or None
        Width of the predictor's hidden layer, which has batch normalization; None for no predictor.
    output_norm : bool
        Normalize the output of the projector over the batch, without weights.
    augmentation : str
        Which set of `kalmanssl.images` it was published with.
    weight_decay : float
        And which weight decay, with another optimizer (LARS, SimSiam: SGD; categories: AdamW).
    """

    name: str
    latent_model: PairLatentModel
    entropy: EntropyEstimator | StopGradientEntropy
    dim: int
    mutual_information: bool = False
    prior: PriorKind = "model"
    momentum: float | None = None
    pool_views: bool = False
    hidden: tuple[int, ...] = (2048,)
    batch_norm: bool = False
    predictor: int | None = None
    output_norm: bool = field(default=False, kw_only=True)
    constant_predictor_lr: bool = field(default=False, kw_only=True)
    augmentation: str = field(default="sphere", kw_only=True)
    weight_decay: float = field(default=1e-4, kw_only=True)

    def __post_init__(self) -> None:
        for name, widths in (("dim", (self.dim,)), ("hidden", self.hidden), ("predictor", (self.predictor,))):
            for width in widths:
                if width is not None:
                    check_integer(name, width, 1)

    def build(self, backbone: nn.Module, n_features: int, *, random_state: int | None = None) -> PairModel:
        """Make the model.

        Parameters
        ----------
        backbone : nn.Module
            From data to features (pairs, n_features).
        n_features : int
        random_state : int, optional
            Seed of the projector's and the predictor's weights; without one they come from torch's generator.

        Raises
        ------
        InputError
            If the parts do not fit together.
        """
        check_integer("n_features", n_features, 1)
        with seeded(random_state):
            projector = mlp((n_features, *self.hidden, self.dim), batch_norm=self.batch_norm)
            if self.output_norm:
                projector.append(nn.BatchNorm1d(self.dim, affine=False))
            predictor = None
            if self.predictor is not None:
                predictor = mlp((self.dim, self.predictor, self.dim), batch_norm=True)
        return PairModel(
            backbone,
            projector,
            copy.deepcopy(self.latent_model),  # which may be annealed
            LDM(self.entropy, self.mutual_information),
            predictor=predictor,
            prior=self.prior,
            momentum=self.momentum,
            pool_views=self.pool_views,
            constant_predictor_lr=self.constant_predictor_lr,
        )

    def __str__(self) -> str:
        constant = ", constant learning rate" if self.constant_predictor_lr else ""
        norm = (", batch norm" if self.batch_norm else "") + (" of the output too" if self.output_norm else "")
        parts: dict[str, Any] = {
            "latent model": self.latent_model,
            "entropy": self.entropy,
            "mutual information": "yes" if self.mutual_information else None,
            "prior": self.prior,
            "views pooled": "yes" if self.pool_views else None,
            "moving-average target": None if self.momentum is None else f"{self.momentum}, rising to 1",
            "predictor": None if self.predictor is None else f"{self.predictor}, {self.dim}{constant}",
            "projector": ", ".join(map(str, (*self.hidden, self.dim))) + norm,
        }
        return format_parts(self.name, parts)


def _check(dim: int, least: int = 1, **positive: float) -> None:
    """Check the settings of a recipe by the names that it has for them, before anything is made of them."""
    check_integer("dim", dim, least)
    for name, value in positive.items():
        check_positive(name, value)


def euclidean_kde(dim: int = 2048, mutual_information: bool = False, precision: float = 5.0) -> Recipe:
    """Gaussian pairs on the plane, Gaussian kernels: contrastive.

    Where all latents begin within one kernel they are driven apart along one direction first, and may be taken for
    collapsed: a larger precision makes the kernel narrower, and changes nothing but the scale of the latents.
    """
    _check(dim, precision=precision)
    # Kernels as wide in the mean over all coordinates, of which a pair has twice as many as a latent.
    width = (dim / (2 * precision) * (1 if mutual_information else 2)) ** 0.5
    entropy = make_entropy("kde", bandwidth=width)
    return Recipe(
        "plane, kernel density", Euclidean.from_precision(precision, dim), entropy, dim, mutual_information,
        augmentation="euclidean",
    )  # fmt: skip


def euclidean_knn(dim: int = 2048, mutual_information: bool = False) -> Recipe:
    """Gaussian pairs on the plane, nearest neighbors; the variance sets the scale of the latents and nothing else."""
    model = Euclidean(0.04 if mutual_information else 0.02)
    return Recipe(
        "plane, nearest neighbors", model, make_entropy("knn"), dim, mutual_information, augmentation="euclidean"
    )


def euclidean_logdet(dim: int = 2048, mutual_information: bool = False) -> Recipe:
    """Gaussian pairs on the plane, log-determinant expanded in the correlations, in nats and without a hinge."""
    entropy = make_entropy("logdet", expansion=True)
    model = Euclidean(0.04 if mutual_information else 0.02)
    return Recipe(
        "plane, log-determinant", model, entropy, dim, mutual_information,
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
    _check(dim, 2, concentration=concentration)
    entropy = make_entropy("kde", "sphere", dim, concentration=concentration)
    return Recipe("sphere, kernel density", Sphere(concentration), entropy, dim, mutual_information)


def sphere_knn(dim: int = 256, mutual_information: bool = False, precision: float = 5.0) -> Recipe:
    """Von Mises-Fisher pairs on the sphere, nearest neighbors."""
    _check(dim, 2, precision=precision)
    model = Sphere((dim - 1) * precision * (1 if mutual_information else 2))
    return Recipe("sphere, nearest neighbors", model, make_entropy("knn", "sphere", dim), dim, mutual_information)


def sphere_logdet(
    dim: int = 256, mutual_information: bool = False, precision: float = 5.0, reference_bugs: bool = False
) -> Recipe:
    """Von Mises-Fisher pairs on the sphere, log-determinant: no entropy of anything on a sphere, but spread it is.

    With `reference_bugs` the loss is that of the paper's published code, see `PublishedLogDetEntropy`.
    """
    _check(dim, 2, precision=precision)
    if reference_bugs:
        return Recipe(
            "sphere, log-determinant as in the published code", Sphere(precision), PublishedLogDetEntropy(dim), dim,
            mutual_information,
        )  # fmt: skip
    entropy = make_entropy("logdet", "sphere", expansion=True)
    return Recipe("sphere, log-determinant", Sphere(0.5 * dim * precision), entropy, dim, mutual_information)


def simplex_kde(dim: int = 256, mutual_information: bool = False, precision: float = 20.0) -> Recipe:
    """Dirichlet pairs on the simplex, kernels of the same kind: the likes of DINO (LDM paper, Eq. 49 to 51)."""
    _check(dim, 2, precision=precision)
    entropy = make_entropy("kde", "simplex", dim, precision=precision)
    return Recipe("simplex, kernel density", Simplex(precision), entropy, dim, mutual_information)


def simclr(dim: int = 256, temperature: float = 0.2) -> Recipe:
    """SimCLR's NT-Xent (Chen et al. 2020, arXiv 2002.05709): the density of both views, each sample left out of it."""
    _check(dim, 2, temperature=temperature)
    entropy = make_entropy("kde", "sphere", dim, concentration=1 / temperature, leave_one_out=True)
    return Recipe(
        "SimCLR", Sphere(1 / temperature), entropy, dim, mutual_information=True, prior="empirical", pool_views=True
    )


def cpc(dim: int = 256, temperature: float = 0.2) -> Recipe:
    """Contrastive predictive coding on pairs (van den Oord et al. 2018, arXiv 1807.03748), a predictor in between."""
    _check(dim, 2, temperature=temperature)
    entropy = make_entropy("kde", "sphere", dim, concentration=1 / temperature)
    return Recipe(
        "CPC", Sphere(1 / temperature), entropy, dim, mutual_information=True, prior="empirical", predictor=512
    )


def byol(dim: int = 256, momentum: float = 0.99) -> Recipe:
    """BYOL (Grill et al. 2020, arXiv 2006.07733): squared distance of directions, target by moving average."""
    _check(dim, 2)
    return Recipe(
        "BYOL", Sphere(2.0), StopGradientEntropy(), dim, prior="empirical", momentum=momentum,
        hidden=(4096,), batch_norm=True, predictor=4096, augmentation="asymmetric", weight_decay=1e-5,
    )  # fmt: skip


def simsiam(dim: int = 2048) -> Recipe:
    """SimSiam (Chen & He 2021, arXiv 2011.10566): the same without the moving average, cosine of directions."""
    _check(dim, 2)
    return Recipe(
        "SimSiam", Sphere(1.0), StopGradientEntropy(), dim, prior="empirical",
        hidden=(2048, 2048), batch_norm=True, output_norm=True, predictor=512, constant_predictor_lr=True,
        augmentation="weak", weight_decay=1e-5,
    )  # fmt: skip


def jepa(dim: int = 256, momentum: float = 0.99) -> Recipe:
    """JEPA on pairs (Assran et al. 2023, arXiv 2301.08243): a predictor on the plane, target by moving average.

    The momentum rises as that of BYOL; there it does so along a straight line.
    """
    return Recipe(
        "JEPA", Euclidean(0.5), StopGradientEntropy(), dim, prior="empirical", momentum=momentum,
        batch_norm=True, predictor=512,
    )  # fmt: skip


def categorical(
    dim: int = 10, mutual_information: bool = False, match_probability: float = 0.8, final: float | None = 0.992
) -> Recipe:
    """One of `dim` categories, the same in both views with some probability (LDM paper, Eq. 79 to 82, Fig. A8).

    Small networks that begin at 0.8 leave categories empty for good; from 0.3 on, and with batch normalization, they do
    not.
    """
    _check(dim, 2)
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
        If there is none of that name, or it does not know a setting.
    """
    if not isinstance(name, str) or name not in RECIPES:
        raise unknown_name_error("recipe", name, RECIPES)
    try:
        return RECIPES[name](**settings)
    except TypeError as error:
        raise InputError(f"recipe {name!r}: {error}") from error
