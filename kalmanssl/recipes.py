"""Published methods of self-supervised learning on pairs, as settings of `kalmanssl.models.PairModel`.

    >>> from kalmanssl import recipes
    >>> print(recipes.byol())
    BYOL
      latent model           Sphere(concentration=2.0)
      entropy                StopGradientEntropy()
      prior                  empirical
      moving-average target  0.99, rising to 1
      predictor              4096, 256
      projector              4096, 256, batch norm

``recipes.simclr().build(backbone, n_features)`` builds the model, which `kalmanssl.training.train` trains. To change a
setting of a recipe: ``dataclasses.replace(recipes.simclr(), hidden=(512,))``.

`hippocampus` returns settings of `kalmanssl.KalmanSSL` for sequences.

Constants are those of the LDM paper and its code for CIFAR-10 (section 4.2, appendix B), converted to nats: precisions
there apply to means over coordinates, and neighbor distances are not multiplied by the dimension.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from kalmanssl.entropy import EntropyEstimator, KNNEntropy, PublishedLogDetEntropy, StopGradientEntropy, make_entropy
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
    "hippocampus",
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
    """Settings of a `PairModel`, without the backbone.

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
        Name of the augmentations of `kalmanssl.images` with which it was published.
    weight_decay : float
        Published weight decay; the published optimizers differ (LARS, SimSiam: SGD, categories: AdamW).
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
        """Build the model.

        Parameters
        ----------
        backbone : nn.Module
            From data to features (pairs, n_features).
        n_features : int
        random_state : int, optional
            Seed of the weights of projector and predictor; by default they are drawn from torch's global generator.

        Raises
        ------
        InputError
            If the parts cannot be combined.
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
            copy.deepcopy(self.latent_model),  # annealing changes it
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
    """Check the settings of a recipe under their names in its signature."""
    check_integer("dim", dim, least)
    for name, value in positive.items():
        check_positive(name, value)


def euclidean_kde(dim: int = 2048, mutual_information: bool = False, precision: float = 5.0) -> Recipe:
    """Gaussian pairs in Euclidean space, Gaussian kernels: contrastive.

    If all latents lie within one kernel before training, they first separate along one direction, which can look like a
    collapse. A larger precision makes the kernel narrower and otherwise changes only the scale of the latents.
    """
    _check(dim, precision=precision)
    # The same width per coordinate for latents and for pairs, which have twice as many coordinates.
    width = (dim / (2 * precision) * (1 if mutual_information else 2)) ** 0.5
    entropy = make_entropy("kde", bandwidth=width)
    return Recipe(
        "Euclidean, kernel density", Euclidean.from_precision(precision, dim), entropy, dim, mutual_information,
        augmentation="euclidean",
    )  # fmt: skip


def euclidean_knn(dim: int = 2048, mutual_information: bool = False) -> Recipe:
    """Gaussian pairs in Euclidean space, nearest neighbors; the variance determines only the scale of the latents."""
    model = Euclidean(0.04 if mutual_information else 0.02)
    return Recipe(
        "Euclidean, nearest neighbors", model, make_entropy("knn"), dim, mutual_information, augmentation="euclidean"
    )


def euclidean_logdet(dim: int = 2048, mutual_information: bool = False) -> Recipe:
    """Gaussian pairs in Euclidean space, log-determinant expanded in the correlations, in nats, without a hinge."""
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
    """Von Mises-Fisher pairs on the sphere, log-determinant of the covariance in the ambient space.

    It is not an entropy on the sphere, but it increases as the latents become more uniform.

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
    """Dirichlet pairs on the simplex, Dirichlet kernels, similar to DINO (LDM paper, Eq. 49 to 51)."""
    _check(dim, 2, precision=precision)
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
    return Recipe(
        "JEPA", Euclidean(0.5), StopGradientEntropy(), dim, prior="empirical", momentum=momentum,
        batch_norm=True, predictor=512,
    )  # fmt: skip


def categorical(
    dim: int = 10, mutual_information: bool = False, match_probability: float = 0.8, final: float | None = 0.992
) -> Recipe:
    """One of `dim` categories, the same in both views with some probability (LDM paper, Eq. 79 to 82, Fig. A8).

    Small networks that start at a match probability of 0.8 leave some categories empty. They do not with a start at 0.3
    and batch normalization.
    """
    _check(dim, 2)
    model = Categories(dim, match_probability, final)
    return Recipe(
        "categories", model, make_entropy("categorical", "categories", dim), dim, mutual_information, hidden=(128,),
        weight_decay=0.02,
    )  # fmt: skip


def hippocampus(*, noise: str = "input") -> dict[str, Any]:
    """Return the settings of `kalmanssl.KalmanSSL` for the hippocampal recording of the LDM paper (Fig. 4E to G).

        >>> from kalmanssl import KalmanSSL, recipes
        >>> model = KalmanSSL(**recipes.hippocampus(), random_state=0)

    Published are: spike counts in bins of 25 ms, one filter step per bin; one hidden layer of 100 ReLU units in the
    encoder; 8 latents and 16 states; windows of 10 s, drawn uniformly; entropy from nearest neighbors; noise that
    depends on the input; 16 epochs. The batches of 8 windows and the learning rates are those of the paper's code for
    its other experiments. Ours are: which noise depends on the input; the linear path of the encoder, the normalization
    of the counts, and the start at predictable components, without which a minute of running gives a ring only with
    some initial weights; and 25 steps per epoch (the paper has 100000 windows).

    Fit it on the running bins, ``kalmanssl.data.join_bins(recording, running)``: laps are then rotations of the state.
    With the rest between them, laps differ in duration, and the fitted dynamics do not rotate.

    Parameters
    ----------
    noise : {"constant", "activity", "input", "state", "errors"}
        What the observation noise depends on.
    """
    return {
        "latent_dim": 8,
        "state_dim": 16,
        "hidden": (100,),
        "normalize": "cosine",
        "unit_dropout": 0.0,
        "noise": noise,
        "noise_epochs": 0,
        "entropy": KNNEntropy(),
        "bins_per_step": 1,
        "window": 400,
        "batch_size": 8,
        "activity_sampling_power": 0.0,
        "epochs": 16,
        "steps_per_epoch": 25,
        "learning_rate": 1.25e-3,
        "dynamics_lr_factor": 100.0,
        "noise_lr_factor": 0.03,
        "patience": 16,
    }


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
