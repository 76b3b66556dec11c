"""Cosine between the gradients of the entropies with and without mutual information, over the training."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor

from kalmanssl.models import LDM, PairModel
from kalmanssl.probes import gradient_cosine
from kalmanssl.recipes import Recipe

__all__ = ["EntropyCosines"]

TIMES = 6


class EntropyCosines:
    """Compares the entropy of a model with that of its partner, a few times over the training.

    The partner differs in mutual information alone: one entropy is of single latents, the other of pairs. The cosine is
    between their gradients with respect to backbone and projector (LDM paper, Fig. A2B).

    Parameters
    ----------
    model : PairModel
    partner : Recipe
    pair : (Tensor, Tensor)
        The batch for all comparisons.
    epochs : int
        Epochs of the training.

    Attributes
    ----------
    found : list of [epoch, cosine]
    """

    def __init__(self, model: PairModel, partner: Recipe, pair: tuple[Tensor, Tensor], epochs: int) -> None:
        self.model, self.pair = model, pair
        self.other = LDM(partner.entropy, partner.mutual_information)
        self.epochs = {round(epochs * i / TIMES) for i in range(TIMES + 1)}
        self.found: list[list[float]] = []

    def compare(self, epoch: int) -> None:
        """Compare the entropies after this many epochs, if it is one of the epochs to do so."""
        if epoch not in self.epochs:
            return
        # A copy, since batch normalization would include this batch in its running averages.
        model = copy.deepcopy(self.model).train().requires_grad_(True)
        device = next(model.parameters()).device
        pair: Any = tuple(view.to(device) for view in self.pair)
        own = model.terms(pair).entropy
        model.objective = self.other
        weights = [*model.backbone.parameters(), *model.projector.parameters()]
        cosine = gradient_cosine((own, model.terms(pair).entropy), weights)
        self.found.append([epoch, round(cosine, 4)])
