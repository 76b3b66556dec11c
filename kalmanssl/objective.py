"""Latent distribution matching: alignment + uniformity.

The objective is to be maximised; every member of the family is a choice of three things:

* the conditional distribution that the latents should follow (a pair model or a predictor) gives the *alignment*,
  the mean log-density of the latents under it;
* an entropy estimator gives the *uniformity*;
* ``mutual_information`` switches between matching the joint distribution (the entropy of a latent *given* its
  past) and matching plus maximising the information between past and present (the entropy of a latent alone).

Source: LDM paper, Eq. 12 (without) and Eq. 13 (with mutual information), Eq. 14 and 54 (stop-gradient).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from kalmanssl.entropy import ConditionalPlugIn, EntropyEstimator, conditional_entropy
from kalmanssl.errors import InputError
from kalmanssl.latent_models import Conditional

__all__ = ["LDM", "Terms"]


@dataclass(frozen=True)
class Terms:
    """The two terms of the objective, scalars in nats per time step."""

    alignment: Tensor
    entropy: Tensor

    @property
    def loss(self) -> Tensor:
        """What training minimises, -(alignment + entropy)."""
        return -(self.alignment + self.entropy)


@dataclass(frozen=True)
class LDM:
    """Latent distribution matching for sequences of latents under a predictive conditional.

    The entropies are those of the latents pooled over time and over the sequences of the batch: time is treated as
    random, so that the objective is that of a stationary process even where all sequences follow one path.

    Parameters
    ----------
    entropy : entropy estimator
        `ConditionalPlugIn` (stop-gradient) estimates the entropy given the whole past with the predictor itself
        and therefore belongs to ``mutual_information=False``. Any estimator that works on samples serves both: without
        mutual information the past is summarised by the latent of the step before, H[z_t, z_{t-1}] - H[z_{t-1}].
    mutual_information : bool
        True adds the maximisation of the information between past and present (contrastive predictive coding is
        this setting with a kernel density estimator).

    Raises
    ------
    InputError
        If the stop-gradient estimator is combined with mutual information: it has no entropy of a latent alone.
    """

    entropy: EntropyEstimator | ConditionalPlugIn
    mutual_information: bool = True

    def __post_init__(self) -> None:
        if self.mutual_information and isinstance(self.entropy, ConditionalPlugIn):
            raise InputError(
                "the stop-gradient entropy estimates H[z_t | past] only, so it cannot maximise mutual information: "
                "use mutual_information=False, or an estimator on samples ('knn', 'logdet', 'kde')"
            )

    def __call__(self, latent: Tensor, conditional: Conditional) -> Terms:
        """Evaluate the objective on latents (batch, time, dim) whose predictive distribution is `conditional`."""
        alignment = conditional.log_prob(latent).mean()
        if isinstance(self.entropy, ConditionalPlugIn):
            entropy = self.entropy(latent, conditional)
        elif self.mutual_information:
            entropy = self.entropy(latent.flatten(0, 1))
        else:
            entropy = conditional_entropy(self.entropy, latent[:, 1:].flatten(0, 1), latent[:, :-1].flatten(0, 1))
        return Terms(alignment, entropy)
