"""Conditional entropies: from the model's own prediction (the stop-gradient), or as a difference of two."""

from __future__ import annotations

from typing import ClassVar, Protocol

import torch
from torch import Tensor

from kalmanssl.entropy._base import EntropyEstimator, check_samples
from kalmanssl.errors import InputError

__all__ = ["StopGradientEntropy", "conditional_entropy"]


class Predictive(Protocol):
    """What the stop-gradient estimator asks of a predictive distribution."""

    def log_prob(self, latent: Tensor, /) -> Tensor:
        """Log-density of each latent, nats."""

    def detach(self) -> Predictive:
        """Return the same distribution without gradients to its parameters."""


class StopGradientEntropy:
    """The stop-gradient loss: conditional entropy with the model's own prediction as the density.

    H[z_t | z_<t] = −⟨log P(z_t | z_<t)⟩ with the prediction and its parameters held fixed (LDM paper, Eq. 14,
    35). Added to the alignment ⟨log P(z_t | z_<t)⟩ it leaves exactly the gradient of ⟨log P(sg(z_t) | z_<t)⟩,
    the loss of BYOL, SimSiam and JEPA (Eq. 54). It has no mutual-information term.

    The *value* of the sum is zero at every step: watch the alignment instead. The estimate is an upper bound
    of the conditional entropy, too high by the Kullback-Leibler divergence of the truth from the prediction,
    so the predictor has to learn faster than the encoder; for residuals that are not Gaussian the bias stays.
    """

    conditional: ClassVar[bool] = True
    spaces: ClassVar[tuple[str, ...]] = ("euclidean", "sphere", "simplex")
    dim_setting: ClassVar[str | None] = None

    def __call__(self, latent: Tensor, conditional: Predictive) -> Tensor:
        """Return the mean over steps of −log P(latent), with the distribution P held fixed.

        Parameters
        ----------
        latent : (..., L)
            Encoder outputs; the gradient goes here and nowhere else.
        conditional
            Predictive distribution of each latent, with `log_prob(latent)` and `detach()`, see
            `kalmanssl.distributions`.

        Returns
        -------
        Tensor
            Scalar, nats for each step.

        Raises
        ------
        InputError
            If `conditional` is no such distribution.
        """
        if not (hasattr(conditional, "detach") and hasattr(conditional, "log_prob")):
            raise InputError(
                f"the stop-gradient entropy needs the predictive distribution, got {type(conditional).__name__}: "
                "give one with log_prob and detach, or measure samples with 'knn', 'logdet' or 'kde'"
            )
        return -conditional.detach().log_prob(latent).mean()

    def __repr__(self) -> str:
        return "StopGradientEntropy()"


def conditional_entropy(
    estimator: EntropyEstimator, v: Tensor, given: Tensor, *, generator: torch.Generator | None = None
) -> Tensor:
    """Entropy of `v` given another variable: H[v | given] = H[(v, given)] − H[given].

    The two terms have different dimensions and hence different biases, which do not cancel; with many
    dimensions of `given` the result is dominated by them.

    Parameters
    ----------
    estimator : EntropyEstimator
        A sample estimator; for measuring, one that does not clip.
    v : (samples, D)
        The variable.
    given : (samples, E)
        What is known, row by row.
    generator : torch.Generator, optional
        As for the estimator; both terms use the same subset.

    Returns
    -------
    Tensor
        Scalar, nats.

    Raises
    ------
    InputError
        If the numbers of rows differ, or for what the estimator refuses.
    """
    for name, samples in (("v", v), ("given", given)):
        check_samples(samples, name)
    if len(v) != len(given):
        raise InputError(f"v has {len(v)} samples and given {len(given)}: they must be paired row by row")
    if estimator.conditional:
        raise InputError("conditional_entropy needs a sample estimator: 'knn', 'logdet' or 'kde'")
    if not estimator.joint:
        raise InputError(
            f"{type(estimator).__name__} does not see what one latent of a pair tells of the other, so it has no "
            "conditional entropy: use prior='model', mutual_information=True, or 'logdet'"
        )
    joint = estimator.subset(torch.cat([v, given], dim=1), generator=generator)
    return estimator(joint) - estimator(joint[:, v.shape[1] :])
