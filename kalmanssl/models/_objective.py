"""The objective of latent distribution matching: alignment plus uniformity.

The objective is maximized. It is determined by four choices:

* the conditional distribution of the latents (from a pair model or a predictor): the *alignment* is the mean
  log-density of the latents under it;
* the entropy estimator, which gives the *uniformity*;
* ``mutual_information``: if False, the joint distribution is matched, and the entropy is that of a latent *given* the
  other latent of the pair, or its past. If True, the mutual information between the two is maximized as well, and the
  entropy is that of a latent by itself;
* the prior of the latent that the other one is conditioned on: a distribution of the model, or the empirical
  distribution, as in all predictive models.

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
    """Terms of the objective, scalars in nats per pair or time step.

    Attributes
    ----------
    alignment : Tensor
        Mean log-density of the latents under the conditional distribution.
    entropy : Tensor
        Estimated entropy of the latents.
    behavior : Tensor or None
        Mean log-density of the behavior given the latents; None if latents are fitted without behavior.
    behavior_weight : float
        Weight of `behavior` in the objective.
    """

    alignment: Tensor
    entropy: Tensor
    behavior: Tensor | None = None
    behavior_weight: float = 0.0

    @property
    def loss(self) -> Tensor:
        """Training loss, -(alignment + entropy + behavior_weight * behavior)."""
        loss = -(self.alignment + self.entropy)
        return loss if self.behavior is None else loss - self.behavior_weight * self.behavior


@dataclass(frozen=True)
class LDM:
    """Objective of latent distribution matching for latents z' with conditional distribution P(z' | z).

    A sequence is treated as pairs of (past, present). Its entropies are estimated from the latents of all time steps
    and all sequences of the batch, as for a stationary process.

    Parameters
    ----------
    entropy : entropy estimator
        `StopGradientEntropy` estimates the entropy given the other latent, or given the whole past, with the
        conditional distribution of the model; it requires ``mutual_information=False``. All other estimators can be
        used with both settings. Without mutual information, they condition a sequence on the previous latent only:
        H[z_t, z_{t-1}] - H[z_{t-1}].
    mutual_information : bool
        Whether to maximize the mutual information as well. Contrastive predictive coding uses it with a kernel density
        estimator.

    Raises
    ------
    InputError
        If `entropy` is not an estimator, or `StopGradientEntropy` is combined with mutual information.
    """

    entropy: EntropyEstimator | StopGradientEntropy
    mutual_information: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.entropy, EntropyEstimator | StopGradientEntropy):
            raise InputError(
                f"entropy must be an estimator, got {self.entropy!r}; kalmanssl.entropy.make_entropy makes one by name",
                parameter="entropy",
            )
        if self.mutual_information and isinstance(self.entropy, StopGradientEntropy):
            raise InputError(
                "the stop-gradient entropy estimates only H[z_t | past], so it cannot maximize mutual information: "
                "use mutual_information=False, or an estimator on samples ('knn', 'logdet', 'kde')",
                parameter="mutual_information",
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
            Distribution of each latent given its past, or given the other latent of the pair.
        given : (pairs, dim) or (batch, time, dim), optional
            The other latents z of pairs, or the sequences whose past the conditional distribution uses, if they are not
            `latent` itself.
        log_prior : (pairs,), optional
            log P(z) under the model. The joint distribution is then matched, F = ⟨log P(z) + log P(z' | z)⟩ + H[z, z']
            (Eq. 5), or with mutual information ... + H[z] + H[z'] (Eq. 6). Without it, the prior is the empirical one.

        Returns
        -------
        Terms
        """
        alignment = conditional.log_prob(latent).mean()
        if isinstance(self.entropy, StopGradientEntropy) and log_prior is None and not latent.requires_grad:
            return Terms(alignment, -alignment.detach())  # the entropy has no gradient, only a value
        if log_prior is not None:
            alignment = alignment + log_prior.mean()
        return Terms(alignment, self._entropy(latent, conditional, given, with_prior=log_prior is not None))

    def _entropy(self, latent: Tensor, conditional: Conditional, given: Tensor | None, with_prior: bool) -> Tensor:
        given = latent if given is None else given
        present, past = latent, given
        if latent.ndim == 3:
            present, past = latent[:, 1:].flatten(0, 1), given[:, :-1].flatten(0, 1)
        if isinstance(self.entropy, StopGradientEntropy):
            if with_prior:
                raise InputError(
                    "the stop-gradient entropy estimates only H[z' | z], so the prior of z must be the empirical one",
                    parameter="entropy",
                )
            return self.entropy(latent, conditional)
        if self.mutual_information:
            alone = self.entropy(latent.flatten(0, -2))
            return alone + self.entropy(past) if with_prior else alone
        if with_prior:
            return self.entropy(torch.cat([present, past], dim=1))
        return conditional_entropy(self.entropy, present, past)
