"""Conditional entropies: from the model's predictive distribution (stop-gradient), or as a difference of entropies."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from kalmanssl.distributions import Conditional
from kalmanssl.entropy._base import EntropyEstimator, check_samples
from kalmanssl.errors import InputError

__all__ = ["StopGradientEntropy", "conditional_entropy"]


class StopGradientEntropy:
    """Conditional entropy from the model's predictive distribution, which gives stop-gradient losses.

    H[z_t | z_<t] = −⟨log P(z_t | z_<t)⟩, with no gradient through the distribution P (LDM paper, Eq. 14 and 35). The
    gradient of the alignment ⟨log P(z_t | z_<t)⟩ plus this entropy is exactly that of ⟨log P(sg(z_t) | z_<t)⟩, the loss
    of BYOL, SimSiam and JEPA (Eq. 54). It cannot be combined with a mutual-information term.

    The value of alignment plus entropy is always zero: monitor the alignment instead. The estimate is an upper bound of
    the conditional entropy. It is too high by the Kullback-Leibler divergence of the true distribution from the
    predictive distribution. The predictor must therefore learn faster than the encoder, and the bias remains if the
    residuals are not Gaussian and the predictive distribution is.
    """

    conditional: ClassVar[bool] = True
    spaces: ClassVar[tuple[str, ...]] = ("euclidean", "sphere", "simplex")
    dim_setting: ClassVar[str | None] = None

    def __call__(self, latent: Tensor, conditional: Conditional) -> Tensor:
        """Compute the mean over steps of −log P(latent), without gradients to the parameters of P.

        Parameters
        ----------
        latent : (..., L)
            Encoder outputs. They receive a gradient, the parameters of `conditional` do not.
        conditional : distribution
            Predictive distribution of each latent, with `log_prob(latent)` and `detach()`; see
            `kalmanssl.distributions.Conditional`.

        Returns
        -------
        Tensor
            Scalar, nats per step.

        Raises
        ------
        InputError
            If `conditional` does not have these methods.
        """
        if not (hasattr(conditional, "detach") and hasattr(conditional, "log_prob")):
            raise InputError(
                f"the stop-gradient entropy needs the predictive distribution, got {type(conditional).__name__}: "
                "give one with log_prob and detach, or use 'knn', 'logdet' or 'kde' for samples",
                parameter="conditional",
            )
        return -conditional.detach().log_prob(latent).mean()

    def __repr__(self) -> str:
        return "StopGradientEntropy()"


def conditional_entropy(
    estimator: EntropyEstimator, v: Tensor, given: Tensor, *, generator: torch.Generator | None = None
) -> Tensor:
    """Estimate the conditional entropy H[v | given] = H[(v, given)] − H[given].

    The two entropies have different dimensions and therefore different biases, which do not cancel. If `given` has many
    dimensions, the biases dominate the result.

    Parameters
    ----------
    estimator : EntropyEstimator
        Estimator from samples. To measure an entropy, use one that does not clip.
    v : (samples, D)
        The variable.
    given : (samples, E)
        The variable that is known; row i belongs to row i of `v`.
    generator : torch.Generator, optional
        Source of the subset of `max_samples` rows; both terms use the same subset.

    Returns
    -------
    Tensor
        Scalar, nats.

    Raises
    ------
    InputError
        If the numbers of rows differ, the estimator has no conditional entropy, or it rejects the samples.
    """
    for name, samples in (("v", v), ("given", given)):
        check_samples(samples, name)
    if len(v) != len(given):
        raise InputError(f"v has {len(v)} samples and given {len(given)}: row i of both must belong together")
    if estimator.conditional:
        message = "conditional_entropy needs an estimator from samples: use 'knn', 'logdet' or 'kde'"
        raise InputError(message, parameter="estimator")
    if not estimator.joint:
        raise InputError(
            f"{type(estimator).__name__} ignores the dependence between the latents of a pair, so it has no "
            "conditional entropy: use prior='model', mutual_information=True, or 'logdet'",
            parameter="estimator",
        )
    joint = estimator.subset(torch.cat([v, given], dim=1), generator=generator)
    return estimator(joint) - estimator(joint[:, v.shape[1] :])
