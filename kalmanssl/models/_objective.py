"""Latent distribution matching: alignment + uniformity.

The objective is to be maximized; every member of the family is a choice of four things:

* the conditional distribution that the latents should follow (a pair model or a predictor) gives the *alignment*,
  the mean log-density of the latents under it;
* an entropy estimator gives the *uniformity*;
* ``mutual_information`` switches between matching the joint distribution (the entropy of a latent *given* the other
  one, or its past) and matching plus maximizing the information between the two (the entropy of a latent alone);
* the distribution that the latent which is given should follow itself: one of the model, or, as in every predictive
  model, whatever it is (the empirical prior).

Source: LDM paper, Eq. 5 and 6 (pairs), 12 and 13 (sequences), 14 and 54 (stop-gradient), 19, 20 and 57 (empirical
prior).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kalmanssl.distributions import Conditional
from kalmanssl.entropy import EntropyEstimator, StopGradientEntropy, conditional_entropy
from kalmanssl.errors import InputError

__all__ = ["LDM", "Terms"]


@dataclass(frozen=True)
class Terms:
    """The two terms of the objective, scalars in nats per pair or time step."""

    alignment: Tensor
    entropy: Tensor

    @property
    def loss(self) -> Tensor:
        """What training minimizes, -(alignment + entropy)."""
        return -(self.alignment + self.entropy)


@dataclass(frozen=True)
class LDM:
    """Latent distribution matching for latents z' under a conditional P(z' | z).

    A sequence is the pair of (past, present). Its entropies are those of the latents pooled over time and over the
    sequences of the batch: time is treated as random, so that the objective is that of a stationary process even where
    all sequences follow one path.

    Parameters
    ----------
    entropy : entropy estimator
        `StopGradientEntropy` (stop-gradient) estimates the entropy given the other latent, or the whole past, with the
        model's own conditional and therefore belongs to ``mutual_information=False``. Any estimator that works on
        samples serves both: without mutual information the past of a sequence is summarized by the latent of the step
        before, H[z_t, z_{t-1}] - H[z_{t-1}].
    mutual_information : bool
        True adds the maximization of the information between the two (contrastive predictive coding is this setting
        with a kernel density estimator).

    Raises
    ------
    InputError
        If `entropy` is no estimator, or the stop-gradient one is combined with mutual information: it has no entropy of
        a latent alone.
    """

    entropy: EntropyEstimator | StopGradientEntropy
    mutual_information: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.entropy, EntropyEstimator | StopGradientEntropy):
            raise InputError(
                f"entropy must be an estimator, got {self.entropy!r}: kalmanssl.entropy.make_entropy makes one by name"
            )
        if self.mutual_information and isinstance(self.entropy, StopGradientEntropy):
            raise InputError(
                "the stop-gradient entropy estimates H[z_t | past] only, so it cannot maximize mutual information: "
                "use mutual_information=False, or an estimator on samples ('knn', 'logdet', 'kde')"
            )

    def __call__(
        self, latent: Tensor, conditional: Conditional, given: Tensor | None = None, log_prior: Tensor | None = None
    ) -> Terms:
        """Evaluate the objective.

        Parameters
        ----------
        latent : (batch, time, dim), or (pairs, dim)
            Sequences of latents, or the latents z' of pairs.
        conditional : Conditional
            Distribution of each of them given its past or the other latent of the pair.
        given : (pairs, dim), optional
            For pairs, the other latent z.
        log_prior : (pairs,), optional
            log P(z) under the model, which then is a model of z too: the joint distribution is matched, F = ⟨log P(z) +
            log P(z' | z)⟩ + H[z, z'] (Eq. 5), or with mutual information ... + H[z] + H[z'] (Eq. 6).
        """
        alignment = conditional.log_prob(latent).mean()
        if isinstance(self.entropy, StopGradientEntropy) and log_prior is None and not latent.requires_grad:
            return Terms(alignment, -alignment.detach())  # nothing is left for the entropy to give but its value
        if log_prior is not None:
            alignment = alignment + log_prior.mean()
        return Terms(alignment, self._entropy(latent, conditional, given, with_prior=log_prior is not None))

    def _entropy(self, latent: Tensor, conditional: Conditional, given: Tensor | None, with_prior: bool) -> Tensor:
        present, past = (
            (latent, given) if given is not None else (latent[:, 1:].flatten(0, 1), latent[:, :-1].flatten(0, 1))
        )
        if isinstance(self.entropy, StopGradientEntropy):
            if with_prior:
                raise InputError(
                    "the stop-gradient entropy estimates H[z' | z] only, so the prior of z must be the empirical one"
                )
            return self.entropy(latent, conditional)
        if self.mutual_information:
            alone = self.entropy(latent.flatten(0, -2))
            return alone + self.entropy(past) if with_prior else alone
        if with_prior:
            return self.entropy(torch.cat([present, past], dim=1))
        return conditional_entropy(self.entropy, present, past)
