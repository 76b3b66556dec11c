"""Settings of a pair model, without the backbone."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from kalmanssl.entropy import EntropyEstimator, StopGradientEntropy
from kalmanssl.models import LDM, PairLatentModel, PairModel, PriorKind
from kalmanssl.networks import mlp
from kalmanssl.utils.text import format_parts
from kalmanssl.utils.torch_ops import seeded
from kalmanssl.utils.validation import (
    check_bool,
    check_condition,
    check_fraction,
    check_integer,
    check_number,
    check_widths,
)

__all__ = ["Recipe", "check_momentum"]


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
        check_integer("dim", self.dim, 1)
        check_widths("hidden", self.hidden)
        if self.predictor is not None:
            check_integer("predictor", self.predictor, 1)
        if self.momentum is not None:
            check_momentum(self.momentum)
        for name in ("mutual_information", "pool_views", "batch_norm", "output_norm", "constant_predictor_lr"):
            check_bool(name, getattr(self, name))
        check_number("weight_decay", self.weight_decay)
        check_condition("weight_decay", self.weight_decay, 0 <= self.weight_decay < 1e6, "at least 0 and below 1e6")
        if not isinstance(self.latent_model, PairLatentModel):
            check_condition("latent_model", self.latent_model, False, "a PairLatentModel")

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
        check_condition("backbone", backbone, isinstance(backbone, nn.Module), "a torch.nn.Module instance")
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


def check_momentum(momentum: Any) -> None:
    """Check the momentum of a moving-average target."""
    check_fraction("momentum", momentum)
