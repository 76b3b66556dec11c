"""Whether the entropy with mutual information and the one without pull the weights the same way, over the training."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor

from kalmanssl.models import LDM, PairModel
from kalmanssl.probes import gradient_cosine
from kalmanssl.recipes import Recipe

__all__ = ["CosineWatch"]

TIMES = 6


class CosineWatch:
    """Compares, a few times over the training, the entropy in use with that of the partner.

    The partner differs in nothing but that the entropy is of single latents instead of pairs, or the other way round;
    the cosine is between the gradients of the two for backbone and projector (LDM paper, Fig. A2B).

    Parameters
    ----------
    model : PairModel
    partner : Recipe
    pair : (Tensor, Tensor)
        The batch on which they are compared, always the same.
    epochs : int

    Attributes
    ----------
    found : list of [epoch, cosine]
    """

    def __init__(self, model: PairModel, partner: Recipe, pair: tuple[Tensor, Tensor], epochs: int) -> None:
        self.model, self.pair = model, pair
        self.other = LDM(partner.entropy, partner.mutual_information)
        self.when = {round(epochs * i / TIMES) for i in range(TIMES + 1)}
        self.found: list[list[float]] = []

    def look(self, epoch: int) -> None:
        """Compare them, if it is time to, after so many epochs."""
        if epoch not in self.when:
            return
        # A copy, since batch normalization keeps averages of all that it sees.
        model = copy.deepcopy(self.model).train().requires_grad_(True)
        device = next(model.parameters()).device
        pair: Any = tuple(view.to(device) for view in self.pair)
        mine = model.terms(pair).entropy
        model.objective = self.other
        cosine = gradient_cosine(
            (mine, model.terms(pair).entropy), [*model.backbone.parameters(), *model.projector.parameters()]
        )
        self.found.append([epoch, round(cosine, 4)])
